"""What kubectl prints of what is new, a real API server between it and us: what the chart's entries send, and why."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.webhook.admission.asking import ASKS, CREATE, DENIED, TEN, created, eventually, limit_of, named, refused
from tests.webhook.conftest import Webhook
from tests.webhook.control_plane import ControlPlane
from tests.webhook.injector import PATCHED, injector
from tests.webhook.reviews import pod
from tests.webhook.test_templates import KINDS, workload

pytestmark = pytest.mark.usefixtures("webhook")


def sent(plane: ControlPlane) -> Counter[str]:
    """How often the API server has called us by each entry, by its own count."""
    metrics = plane.kubectl("get", "--raw", "/metrics")
    count = r'^apiserver_admission_webhook_request_total{.*name="([a-z.-]+)\.podrate\.io".*} (\d+)$'
    calls: Counter[str] = Counter()
    for entry, times in re.findall(count, metrics, re.MULTILINE):
        calls[entry] += int(times)
    return calls


def test_a_pod_is_sent_by_one_entry(plane: ControlPlane) -> None:
    """The first of the keys that its Namespace has; none for who doesn't ask."""
    gigabit = '{"v":1,"egress":1000000000,"ingress":1000000000}'
    for labels, namespace, limit, entries in (
        (None, "default", None, set()),
        (None, "capped", '{"v":1,"egress":2000000,"ingress":5000000}', {"max-bandwidth.namespace"}),
        (None, "fast", gigabit, {"bandwidth.namespace"}),
        (ASKS, "default", TEN, {"pods"}),
    ):
        before = sent(plane)
        assert limit_of(created(plane, named("web", labels), namespace)) == limit
        assert set(sent(plane) - before) == entries  # by which it may come twice: other plugins change it after us


def test_a_pod_above_the_cap(plane: ControlPlane) -> None:
    line = refused(plane, named("web", ASKS), "capped", by="max-bandwidth.namespace")
    assert line == (
        'podrate.io/bandwidth: "10M": it is above the cap of the Namespace, podrate.io/max-egress: 2M. '
        "Allowed: at most 2M. Example: podrate.io/bandwidth: 2M"
    )
    allowed = created(plane, named("web", {"podrate.io/egress": "1M"}), "capped")
    assert limit_of(allowed) == '{"v":1,"egress":1000000,"ingress":5000000}'


def test_a_namespace_that_was_just_labelled(plane: ControlPlane) -> None:
    """Its very next pod: the API server itself may send it by the labels of before, for some milliseconds."""
    new = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new", "labels": ASKS}}
    plane.kubectl("create", "-f", "-", stdin=json.dumps(new))
    plane.kubectl("create", "serviceaccount", "default", "-n", "new")
    assert limit_of(created(plane, named("web"), "new")) == TEN
    said = plane.kubectl("label", "namespace", "new", "podrate.io/max-egress=1g", check=False)
    assert DENIED.format("namespaces.podrate.io") in said
    assert '[podrate.io/max-egress]: "1g": prefixes are case sensitive; did you mean 1G?' in said
    assert "annotated" in plane.kubectl("annotate", "namespace", "new", "note=x")


@pytest.mark.parametrize("kind", KINDS)
def test_bad_workloads(plane: ControlPlane, webhook: Webhook, kind: str) -> None:
    def manifest(labels: dict[str, str], own: dict[str, str] | None = None) -> dict[str, Any]:
        template = pod({"app": "web"} | labels, restartPolicy="Never" if group == "batch" else "Always")
        it = workload(kind, template, own)
        it["apiVersion"] = f"{group}/v1"
        if kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
            it["spec"] |= {"selector": {"matchLabels": {"app": "web"}}}
        if kind == "CronJob":
            it["spec"] |= {"schedule": "* * * * *"}
        return it

    group, _, path = KINDS[kind]
    where = ".".join(path)
    line = refused(plane, manifest({"podrate.io/egress": "10m"}), by="workloads")
    assert line.startswith(f'{where}.metadata.labels[podrate.io/egress]: "10m": m means milli; did you mean 10M? ')
    line = refused(plane, manifest(ASKS), "capped", by="max-bandwidth.workloads")
    assert line.startswith(f"{where}.metadata.labels[podrate.io/bandwidth]: ")
    unasked = manifest({})
    _of(unasked, path)["spec"] |= {"hostUsers": False}
    line = refused(plane, unasked, "fast", by="bandwidth.workloads")
    assert "with hostUsers: false the pod's root is nobody on the node" in line
    before = len(webhook.reviews())
    created(plane, manifest({}))
    assert len(webhook.reviews()) == before
    assert "podrate.io/limit" not in json.dumps(created(plane, manifest(ASKS)))
    warned = plane.kubectl(*CREATE, stdin=json.dumps(manifest({}, ASKS)), check=False)
    assert f"write it in {where}.metadata.labels" in warned
    assert "Warning: podrate: metadata.labels[podrate.io/bandwidth] limits nothing; " in warned
    if kind == "CronJob":
        beside = manifest({})
        beside["spec"]["jobTemplate"]["metadata"] = {"labels": ASKS}
        warned = plane.kubectl(*CREATE, stdin=json.dumps(beside), check=False)
        assert "Warning: podrate: spec.jobTemplate.metadata.labels[podrate.io/bandwidth] limits nothing; " in warned


def _of(it: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    for key in path:
        it = it[key]
    return it


def test_a_bad_template_from_before_can_be_scaled(plane: ControlPlane, webhook: Webhook) -> None:
    template = pod({"app": "web", "podrate.io/bandwidth": "10M"})
    it = workload("Deployment", template) | {"apiVersion": "apps/v1"}
    it["spec"] |= {"selector": {"matchLabels": {"app": "web"}}}
    plane.kubectl("create", "-f", "-", stdin=json.dumps(it))
    before = len(webhook.reviews())
    plane.kubectl("patch", "deployment", "web", "--type=merge", "-p", '{"spec": {"replicas": 3}}')
    plane.kubectl("scale", "deployment", "web", "--replicas=4")
    assert len(webhook.reviews()) == before
    label = ["label", "deployment", "web"]
    assert "write it in spec.template.metadata.labels" in plane.kubectl(*label, "podrate.io/egress=1M", check=False)
    sent = len(webhook.reviews())
    assert "limits nothing" not in plane.kubectl(*label, "app=web", check=False)
    assert len(webhook.reviews()) == sent
    bad = '{"spec": {"template": {"metadata": {"labels": {"podrate.io/bandwidth": "x"}}}}}'
    assert "denied the request" in plane.kubectl("patch", "deployment", "web", "--type=merge", "-p", bad, check=False)


def test_a_pod_with_no_name_yet_and_a_dry_run(plane: ControlPlane, webhook: Webhook) -> None:
    unnamed = named("web", ASKS)
    unnamed["metadata"] = {"generateName": "web-", "labels": ASKS}
    assert limit_of(created(plane, unnamed)) == TEN
    assert webhook.reviews()[-1]["name"] == "web-"
    run = ["run", "web", "--image=nginx", "--labels=podrate.io/bandwidth=10m", "--dry-run=server"]
    assert 'podrate.io/bandwidth: "10m": m means milli' in plane.kubectl(*run, check=False)


def test_pod_security_is_explained(plane: ControlPlane) -> None:
    assert "PodSecurity level restricted of Namespace safe forbids the loader" in refused(
        plane, named("web", ASKS), "safe"
    )


def test_kubernetes_annotations(plane: ControlPlane) -> None:
    wants = named("web", None, {"kubernetes.io/egress-bandwidth": "10M"})
    it = created(plane, wants)
    assert limit_of(it) == '{"v":1,"egress":10000000}'
    assert "kubernetes.io/egress-bandwidth" not in it["metadata"]["annotations"]
    assert "Warning: podrate: kubernetes.io/egress-bandwidth is deprecated" in plane.kubectl(
        *CREATE, stdin=json.dumps(wants), check=False
    )


def test_an_annotation_in_another_case_is_no_silent_wish(plane: ControlPlane) -> None:
    """Of a label's prefix the API server wants lower case, of an annotation's not."""
    line = refused(plane, named("web", None, {"PodRate.IO/bandwidth": "10M"}))
    assert line.startswith('PodRate.IO/bandwidth: "10M": podrate has no such key; did you mean podrate.io/bandwidth?')


@pytest.mark.parametrize("name", ["a-mesh", "z-mesh"])
def test_another_injector_before_or_after_us(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    with injector(name, tmp_path) as configuration:
        plane.kubectl("create", "-f", "-", stdin=json.dumps(configuration))
        try:
            eventually("it is called", lambda: "MESH" in json.dumps(created(plane, named("plain"))))
            it = created(plane, named("web", ASKS, initContainers=[{"name": "own", "image": "x"}]))
        finally:
            plane.kubectl("delete", "mutatingwebhookconfiguration", name)
    inits = it["spec"]["initContainers"]
    assert [each["name"] for each in inits] == ["podrate", *PATCHED, "own"]
    assert ("MESH" in json.dumps(inits[0])) == (name == "z-mesh"), "who comes later finds our container"
    assert limit_of(it) == TEN


def test_without_us_nobody_else_is_kept_waiting(plane: ControlPlane, webhook: Webhook) -> None:
    plane.service.ports.remove(webhook.port)
    plane.service.disconnect()
    try:
        created(plane, named("web"))
        said = plane.kubectl(*CREATE, stdin=json.dumps(named("web", ASKS)), check=False)
        assert 'failed calling webhook "pods.podrate.io"' in said
        said = plane.kubectl("-n", "fast", *CREATE, stdin=json.dumps(named("web")), check=False)
        assert 'failed calling webhook "bandwidth.namespace.podrate.io"' in said
        plane.kubectl("label", "namespace", "fast", "podrate.io/bandwidth=2G", "--overwrite")
        it = workload("Job", pod(ASKS, restartPolicy="Never")) | {"apiVersion": "batch/v1"}
        created(plane, it)
    finally:
        plane.service.ports.append(webhook.port)
