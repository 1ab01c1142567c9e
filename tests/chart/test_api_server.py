"""What a real API server makes of the rendered objects, by dry runs: each field is known, each value valid."""

import json
import os
from typing import Any
from unittest import mock

import pytest

from tests.chart.helm import CHART, NAMESPACE, RELEASE, Helm, Refused
from tests.webhook.control_plane import BIN, ControlPlane
from webhook.api import Api
from webhook.trust import Configuration

pytestmark = pytest.mark.usefixtures("namespace")

VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": {
        "commonLabels": {"team": "network"},
        "commonAnnotations": {"note": "ours"},
        "excludedNamespaces": ["infra"],
        "webhook": {
            "replicas": 3,
            "image": {"digest": "sha256:" + 64 * "a"},
            "imagePullSecrets": ["pull"],
            "failurePolicy": "Ignore",
            "podDisruptionBudget": {"maxUnavailable": 2},
            "nodeSpread": "DoNotSchedule",
            "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchExpressions": [{"key": "pool", "operator": "Exists"}]}]
                    }
                }
            },
            "podLabels": {"tier": "control"},
            "podAnnotations": {"why": "tests"},
            "networkPolicy": {
                "reviewsFrom": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
                "metricsFrom": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "prometheus"}}}],
                "apiServerPorts": [6443],
            },
        },
    },
    "monitoring, and a certificate of cert-manager": {
        "monitoring": {
            "serviceMonitor": True,
            "podMonitor": True,
            "prometheusRule": True,
            "dashboard": True,
            "labels": {"release": "prom"},
        },
        "loader": {"metricsPort": 9095},
        "webhook": {"tls": {"mode": "certManager", "certManager": {"issuerRef": {"name": "internal-ca"}}}},
    },
    "least": {
        "webhook": {
            "replicas": 1,
            "priorityClassName": "",
            "podDisruptionBudget": {"enabled": False},
            "networkPolicy": {"enabled": False},
        },
    },
}


@pytest.fixture(scope="module")
def namespace(plane: ControlPlane) -> None:
    """The release's, as strict as one can be; and the kinds of others, as these define them."""
    for file in sorted((BIN / "crds").iterdir()):
        plane.kubectl("create", "-f", str(file))
    plane.kubectl("wait", "--for=condition=Established", "customresourcedefinitions", "--all", "--timeout=30s")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    create(plane, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    # Of the ServiceAccount there must be one before a pod may be created, even as a dry run.
    for name in (RELEASE, f"{RELEASE}-test"):
        create(
            plane, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}}
        )


def create(plane: ControlPlane, *objects: dict[str, Any], options: tuple[str, ...] = ()) -> str:
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    return plane.kubectl("apply", "-f", "-", "--validate=strict", *options, stdin=manifest)


@pytest.mark.parametrize("values", VALUES)
def test_each_object_is_accepted(helm: Helm, plane: ControlPlane, values: str) -> None:
    rendered = helm.render(VALUES[values])
    said = create(plane, *rendered.objects, *rendered.tests, options=("--dry-run=server",))
    assert len(said.splitlines()) == len(rendered.objects) + len(rendered.tests)


@pytest.mark.parametrize("values", VALUES)
def test_the_webhook_needs_no_exception_from_pod_security(helm: Helm, plane: ControlPlane, values: str) -> None:
    """The namespace enforces `restricted`; that it would reject others is seen from one that asks for a little more."""
    pod = helm.render(VALUES[values]).pod
    pod |= {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"] |= {"name": "webhook", "namespace": NAMESPACE}
    assert create(plane, pod, options=("--dry-run=server",)) == "pod/webhook created (server dry run)\n"
    pod["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] = ["NET_ADMIN"]
    said = plane.kubectl("create", "-f", "-", "--dry-run=server", stdin=json.dumps(pod), check=False)
    assert 'violates PodSecurity "restricted' in said


def test_a_cluster_changes_nothing_of_what_is_rendered(helm: Helm, plane: ControlPlane) -> None:
    """Nothing is looked up: with the API server's answers helm renders the bytes that it renders without."""
    elsewhere = ("-n", "default")  # where nothing is that helm would take for somebody else's
    looked = helm.run("template", RELEASE, str(CHART), *elsewhere, "--dry-run=server", kubeconfig=str(plane.kubeconfig))
    assert looked == helm.render(None, *elsewhere).text


def test_whose_trust_it_is_may_change(helm: Helm, plane: ControlPlane) -> None:
    """docs/webhook-serving.md: what the webhook wrote, helm replaces only if it is told to."""
    release = ("podrate-trust", str(CHART), "-n", "trust")
    provided = {"mode": "provided", "provided": {"secretName": "mine", "caBundle": "-----BEGIN CERTIFICATE-----"}}
    values = json.dumps({"webhook": {"tls": provided}})

    def upgrade(*options: str, stdin: str) -> str:
        return helm.run("upgrade", *release, "-f", "-", *options, stdin=stdin, kubeconfig=str(plane.kubeconfig))

    try:
        upgrade("--install", "--create-namespace", stdin="{}")
        with mock.patch.dict(os.environ, KUBECONFIG=str(plane.kubeconfig)):
            configuration = Configuration(Api(), "podrate-trust")
        entries = configuration.read()
        configuration.trust([b"ours"] * len(entries))
        upgrade(stdin="{}")
        assert {each.trusted for each in configuration.read()} == {b"ours"}, "an upgrade leaves it alone"
        with pytest.raises(Refused, match="conflict.*caBundle"):
            upgrade(stdin=values)
        upgrade("--force-conflicts", stdin=values)
        assert {each.trusted for each in configuration.read()} == {b"-----BEGIN CERTIFICATE-----"}
        upgrade("--reset-values", stdin="{}")
        assert {each.trusted for each in configuration.read()} == {b""}, "and is the webhook's again"
    finally:
        helm.run("uninstall", "podrate-trust", "-n", "trust", kubeconfig=str(plane.kubeconfig))
