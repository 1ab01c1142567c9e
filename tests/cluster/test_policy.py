"""The policy on a real cluster, by what kubectl prints: workloads, Namespaces, live changes, and us away."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import RELEASE, SYSTEM
from .images import Images
from .kubectl import Cluster, application, eventually

pytestmark = pytest.mark.usefixtures("release")

SLEEP = ["sleep", "infinity"]
TEN = '{"v":1,"egress":10000000,"ingress":10000000}'
FIVE = '{"v":1,"egress":5000000,"ingress":5000000}'


def workload(kind: str, name: str, images: Images, labels: dict[str, str]) -> dict[str, Any]:
    """A Deployment or a CronJob of one pod."""
    pod = application(name, images.app, SLEEP, {"app": name, **labels})
    template = {"metadata": pod["metadata"], "spec": pod["spec"]}
    del template["metadata"]["name"]
    if kind == "CronJob":
        template["spec"]["restartPolicy"] = "Never"
        spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}}
        return {"apiVersion": "batch/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    scaled = {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": scaled}


def refused(cluster: Cluster, manifest: dict[str, Any], namespace: str | None = None) -> str:
    """The one line that `kubectl apply` prints."""
    where = ["-n", namespace] if namespace else []
    applied = cluster.kubectl(*where, "apply", "-f", "-", stdin=json.dumps(manifest), check=False)
    assert applied.returncode != 0
    (line,) = applied.stderr.splitlines()
    return line


def limit(cluster: Cluster, *pod: str) -> str | None:
    value: str | None = cluster.get(*pod)["metadata"].get("annotations", {}).get("podrate.io/limit")
    return value


@pytest.fixture(scope="module")
def namespaces(cluster: Cluster) -> Iterator[None]:
    """One with a default, one with a cap, one that forbids the loader."""
    labels = {
        "policy-default": {"podrate.io/bandwidth": "5M"},
        "policy-capped": {"podrate.io/max-bandwidth": "5M"},
        "policy-safe": {"pod-security.kubernetes.io/enforce": "restricted"},
    }
    for name, each in labels.items():
        privileged = {"pod-security.kubernetes.io/enforce": "privileged"}
        metadata = {"name": name, "labels": privileged | each}
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        account = ["-n", name, "get", "serviceaccount", "default"]
        eventually(f"{name} has its account", lambda: cluster.kubectl(*account, check=False).returncode == 0)  # noqa: B023
    yield
    cluster.kubectl("delete", "namespace", *labels, "--wait=false")


@pytest.mark.parametrize(
    ("kind", "path"), [("Deployment", "spec.template"), ("CronJob", "spec.jobTemplate.spec.template")]
)
def test_a_bad_workload_is_refused_when_it_is_applied(cluster: Cluster, images: Images, kind: str, path: str) -> None:
    line = refused(cluster, workload(kind, "bad", images, {"podrate.io/bandwidth": "10m"}))
    assert (
        'admission webhook "workloads.podrate.io" denied the request: '
        f'{path}.metadata.labels[podrate.io/bandwidth]: "10m": m means milli; did you mean 10M? Allowed: ' in line
    )
    assert cluster.kubectl("get", kind, "bad", check=False).returncode != 0


@pytest.mark.usefixtures("namespaces")
def test_above_the_cap(cluster: Cluster, images: Images) -> None:
    asks = {"podrate.io/egress": "10M"}
    said = '"10M": it is above the cap of the Namespace, podrate.io/max-bandwidth: 5M. Allowed: at most 5M. '
    pod = application("above", images.app, SLEEP, asks)
    assert f"denied the request: podrate.io/egress: {said}" in refused(cluster, pod, "policy-capped")
    line = refused(cluster, workload("Deployment", "above", images, asks), "policy-capped")
    assert f"denied the request: spec.template.metadata.labels[podrate.io/egress]: {said}" in line


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("namespace", ["policy-default", "policy-capped"])
def test_a_pod_that_asks_for_nothing_gets_the_namespaces_limit(
    cluster: Cluster, images: Images, namespace: str
) -> None:
    """In the kernel, not only in the annotation."""
    manifest = json.dumps(application("plain", images.app, SLEEP))
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=manifest)
    assert limit(cluster, "-n", namespace, "pod", "plain") == FIVE
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/plain", "--timeout=90s")
    log = cluster.kubectl("-n", namespace, "logs", "plain", "-c", "podrate").stdout
    assert f"limit {FIVE} is in force" in log


def test_a_pod_that_has_its_size_as_a_whole_is_limited(cluster: Cluster, images: Images) -> None:
    pod = application("whole", images.app, SLEEP, {"podrate.io/bandwidth": "10M"})
    pod["spec"]["resources"] = {"limits": {"cpu": "1", "memory": "512Mi"}}
    pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "10m"}}
    cluster.create(pod)
    cluster.wait_ready("whole")
    loader = cluster.get("pod", "whole")["spec"]["initContainers"][0]
    assert loader["resources"]["requests"] == {"cpu": "0", "memory": "0"}
    assert any(f"limit {TEN} is in force" in line for line in cluster.logs("whole", "podrate"))
    cluster.delete("whole")


@pytest.mark.usefixtures("namespaces")
def test_a_namespace_that_forbids_the_loader_is_explained(cluster: Cluster, images: Images) -> None:
    pod = application("safe", images.app, SLEEP, {"podrate.io/bandwidth": "10M"})
    line = refused(cluster, pod, "policy-safe")
    assert (
        'podrate.io/bandwidth: "10M": PodSecurity level restricted of Namespace policy-safe forbids the loader' in line
    )
    assert line.endswith(
        "kubectl label namespace policy-safe pod-security.kubernetes.io/enforce=privileged --overwrite"
    )


@pytest.mark.usefixtures("namespaces")
def test_a_pod_that_only_says_that_it_is_static_never_runs(cluster: Cluster, images: Images) -> None:
    """We let it in without the loader, whatever the cap; the kubelet, which made no such pod, takes it away."""
    node = cluster.get("nodes")["items"][0]["metadata"]["name"]
    pod = application("static", images.app, SLEEP, {}, {"kubernetes.io/config.mirror": "x"}, nodeName=node)
    applied = cluster.kubectl("-n", "policy-capped", "apply", "-f", "-", stdin=json.dumps(pod))
    assert "the limit of Namespace policy-capped does not hold for this pod: a static pod runs from" in applied.stderr
    get = ["-n", "policy-capped", "get", "pod", "static", "-o", "jsonpath={.status.containerStatuses}"]
    eventually("it is gone", lambda: (said := cluster.kubectl(*get, check=False)).returncode != 0 or said.stdout != "")
    assert "NotFound" in cluster.kubectl(*get, check=False).stderr


def test_a_bad_label_on_a_namespace_is_refused(cluster: Cluster) -> None:
    said = cluster.kubectl("label", "namespace", cluster.namespace, "podrate.io/max-egress=10m", check=False)
    assert said.returncode != 0
    assert '[podrate.io/max-egress]: "10m": m means milli; did you mean 10M?' in said.stderr


def test_a_live_change_of_a_deployments_pods_and_of_one_pod(cluster: Cluster, images: Images) -> None:
    manifest = workload("Deployment", "web", images, {"podrate.io/bandwidth": "10M"})
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    names = cluster.kubectl("get", "pods", "-l", "app=web", "-o", "name").stdout.split()
    assert len(names) == 2
    assert {limit(cluster, name) for name in names} == {TEN}
    labelled = cluster.kubectl("label", "pods", "-l", "app=web", "podrate.io/bandwidth=5M", "--overwrite").stdout
    assert labelled.splitlines() == [f"{name} labeled" for name in names]
    for name in names:
        assert limit(cluster, name) == FIVE
        eventually(f"{name} has it", lambda: FIVE in cluster.logs(name, "podrate")[-1])  # noqa: B023
    cluster.kubectl("label", names[0], "podrate.io/bandwidth=10M", "--overwrite")
    eventually("one has its own", lambda: TEN in cluster.logs(names[0], "podrate")[-1])
    assert FIVE in cluster.logs(names[1], "podrate")[-1]
    statuses = [cluster.get(name)["status"] for name in names]
    assert {each["restartCount"] for status in statuses for each in status["initContainerStatuses"]} == {0}
    cluster.kubectl("delete", "deployment", "web", "--wait=false")


def test_a_dry_run_is_refused_like_any_other(cluster: Cluster, images: Images) -> None:
    run = ["run", "dry", f"--image={images.app}", "--dry-run=server", "-o", "yaml"]
    said = cluster.kubectl(*run, "--labels=podrate.io/bandwidth=10m", check=False)
    assert said.returncode != 0
    assert 'podrate.io/bandwidth: "10m": m means milli; did you mean 10M?' in said.stderr
    assert f"podrate.io/limit: '{TEN}'" in cluster.kubectl(*run, "--labels=podrate.io/bandwidth=10M").stdout
    assert cluster.kubectl("get", "pod", "dry", check=False).returncode != 0


def test_a_limit_by_hand_is_overwritten(cluster: Cluster, images: Images) -> None:
    forged = {"podrate.io/limit": '{"v":1}'}
    cluster.create(application("forged", images.app, SLEEP, {"podrate.io/bandwidth": "10M"}, forged))
    assert limit(cluster, "pod", "forged") == TEN
    for subresource in ([], ["--subresource=status"]):
        patch = json.dumps({"metadata": {"annotations": forged}})
        cluster.kubectl("patch", "pod", "forged", "--type=merge", "-p", patch, *subresource)
        assert limit(cluster, "pod", "forged") == TEN
    said = cluster.kubectl("annotate", "pod", "forged", "podrate.io/limit-", check=False)
    assert said.returncode == 0
    assert limit(cluster, "pod", "forged") == TEN
    cluster.delete("forged")


def test_an_ephemeral_container_leaves_the_loaders_volumes_alone(cluster: Cluster, images: Images) -> None:
    cluster.create(application("debugged", images.app, SLEEP, {"podrate.io/bandwidth": "10M"}))
    thief = {"name": "thief", "image": images.app, "volumeMounts": [{"name": "podrate-cgroup", "mountPath": "/x"}]}
    patch = ["patch", "pod", "debugged", "--subresource=ephemeralcontainers", "--type=strategic", "-p"]
    said = cluster.kubectl(*patch, json.dumps({"spec": {"ephemeralContainers": [thief]}}), check=False)
    assert said.returncode != 0
    assert "this volume is for podrate's own container" in said.stderr
    del thief["volumeMounts"]
    cluster.kubectl(*patch, json.dumps({"spec": {"ephemeralContainers": [thief]}}))
    cluster.delete("debugged")


@pytest.mark.usefixtures("namespaces")
def test_while_we_are_away(cluster: Cluster, images: Images) -> None:
    """Nobody else notices; and who asked is refused with a line that names us."""
    replicas = cluster.get("-n", SYSTEM, "deployment", RELEASE)["spec"]["replicas"]
    cluster.kubectl("-n", SYSTEM, "scale", "deployment", RELEASE, "--replicas=0")
    selector = f"app.kubernetes.io/instance={RELEASE}"
    gone = ["-n", SYSTEM, "get", "pods", "-l", selector, "-o", "name"]
    try:
        eventually("no webhook is left", lambda: not cluster.kubectl(*gone).stdout.strip(), seconds=60)
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(application("away", images.app, SLEEP)))
        cluster.wait_ready("away")
        asks = application("asks", images.app, SLEEP, {"podrate.io/bandwidth": "10M"})
        assert 'failed calling webhook "pods.podrate.io"' in refused(cluster, asks)
        plain = application("plain-2", images.app, SLEEP)
        assert 'failed calling webhook "bandwidth.namespace.podrate.io"' in refused(cluster, plain, "policy-default")
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(workload("Deployment", "later", images, {})))
    finally:
        cluster.kubectl("-n", SYSTEM, "scale", "deployment", RELEASE, f"--replicas={replicas}")
        cluster.kubectl("-n", SYSTEM, "rollout", "status", f"deployment/{RELEASE}", "--timeout=90s")
        cluster.wait_reviewed()
        cluster.kubectl("delete", "deployment", "later", "--ignore-not-found", "--wait=false")
        cluster.delete("away", "asks")
