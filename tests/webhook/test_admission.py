"""What kubectl prints, a real API server between it and us: what the chart's entries send, and what comes of it."""

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.webhook.conftest import Webhook, running
from tests.webhook.control_plane import SYSTEM, ControlPlane, control_plane, obstacle
from tests.webhook.injector import PATCHED, injector
from tests.webhook.reviews import pod
from tests.webhook.test_templates import KINDS, workload

OWN = ["--self-signed", "--service=podrate", f"--namespace={SYSTEM}", "--secret=podrate-tls", "--configuration=podrate"]
ASKS = {"podrate.io/bandwidth": "10M"}
TEN = '{"v":1,"egress":10000000,"ingress":10000000}'
DENIED = 'admission webhook "{}" denied the request: '
CREATE = ("create", "--dry-run=server", "-o", "json", "-f", "-")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One of our own, whose configuration and namespaces the other tests don't see."""
    if reason := obstacle():
        pytest.skip(reason)  # the shared one says so, and fails where nothing may be skipped
    with control_plane(tmp_path_factory.mktemp("plane")) as it:
        it.install("--set=kubernetesAnnotations=true")
        for name, labels in (
            ("bounded", ["team=a"]),
            ("capped", ["podrate.io/max-bandwidth=5M", "podrate.io/max-egress=2M"]),
            ("default", ["podrate.io/egress-"]),
            ("fast", ["podrate.io/bandwidth=1G"]),
            ("safe", ["pod-security.kubernetes.io/enforce=restricted"]),
        ):
            if name != "default":
                it.kubectl("create", "namespace", name)
                it.kubectl("create", "serviceaccount", "default", "-n", name)
            it.kubectl("label", "namespace", name, *labels)
        yield it


@contextlib.contextmanager
def called(plane: ControlPlane, directory: Path, *options: str) -> Iterator[Webhook]:
    """A webhook with these options, and the API server calls it and no other."""
    with running(directory, *OWN, *options, KUBECONFIG=str(plane.account())) as webhook:
        webhook.event("ready")
        before = list(plane.service.ports)
        plane.service.ports[:] = [webhook.port]
        plane.service.disconnect()
        yield webhook
        plane.service.ports[:] = before
        plane.service.disconnect()


@pytest.fixture(scope="module")
def webhook(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    with called(plane, tmp_path_factory.mktemp("webhook"), "--kubernetes-annotations") as webhook:
        yield webhook


pytestmark = pytest.mark.usefixtures("webhook")


def named(name: str, labels: object = None, annotations: object = None, **spec: object) -> dict[str, Any]:
    it = pod(labels, annotations, **spec)
    it["metadata"] |= {"name": name}
    del it["metadata"]["namespace"]
    return it


def created(plane: ControlPlane, manifest: dict[str, Any], namespace: str = "default") -> dict[str, Any]:
    it: dict[str, Any] = json.loads(plane.kubectl("-n", namespace, *CREATE, stdin=json.dumps(manifest)))
    return it


def refused(plane: ControlPlane, manifest: dict[str, Any], namespace: str = "default", by: str = "pods") -> str:
    """The one line after the webhook's name."""
    said = plane.kubectl("-n", namespace, *CREATE, stdin=json.dumps(manifest), check=False)
    _, denied, line = said.partition(DENIED.format(f"{by}.podrate.io"))
    assert denied, said
    return line.removesuffix("\n")


def eventually(what: str, condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def limit_of(it: dict[str, Any]) -> str | None:
    limit: str | None = it["metadata"].get("annotations", {}).get("podrate.io/limit")
    return limit


def sent(plane: ControlPlane) -> set[str]:
    """The entries by which the API server has called us, by its own count."""
    metrics = plane.kubectl("get", "--raw", "/metrics")
    return set(re.findall(r'apiserver_admission_webhook_request_total{.*name="([a-z.-]+)\.podrate\.io"', metrics))


def test_a_pod_is_sent_by_one_entry(plane: ControlPlane) -> None:
    """The first of the keys that its Namespace has; none for who doesn't ask."""
    before = sent(plane)
    assert limit_of(created(plane, named("web"))) is None
    assert sent(plane) == before
    assert limit_of(created(plane, named("web"), "capped")) == '{"v":1,"egress":2000000,"ingress":5000000}'
    assert sent(plane) - before == {"max-bandwidth.namespace"}
    assert limit_of(created(plane, named("web"), "fast")) == '{"v":1,"egress":1000000000,"ingress":1000000000}'
    assert sent(plane) - before == {"max-bandwidth.namespace", "bandwidth.namespace"}
    assert limit_of(created(plane, named("web", ASKS))) == TEN
    assert sent(plane) - before == {"max-bandwidth.namespace", "bandwidth.namespace", "pods"}


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
    line = refused(plane, manifest(ASKS), "capped", by="workloads")
    assert line.startswith(f"{where}.metadata.labels[podrate.io/bandwidth]: ")
    before = len(webhook.reviews())
    created(plane, manifest({}))
    assert len(webhook.reviews()) == before
    assert "podrate.io/limit" not in json.dumps(created(plane, manifest(ASKS)))
    warned = plane.kubectl(*CREATE, stdin=json.dumps(manifest({}, ASKS)), check=False)
    assert f"write it in {where}.metadata.labels" in warned
    assert "Warning: podrate: metadata.labels[podrate.io/bandwidth] limits nothing; " in warned


def test_a_bad_template_from_before_can_be_scaled(plane: ControlPlane, webhook: Webhook) -> None:
    template = pod({"app": "web", "podrate.io/bandwidth": "10M"})
    it = workload("Deployment", template) | {"apiVersion": "apps/v1"}
    it["spec"] |= {"selector": {"matchLabels": {"app": "web"}}}
    plane.kubectl("create", "-f", "-", stdin=json.dumps(it))
    before = len(webhook.reviews())
    plane.kubectl("patch", "deployment", "web", "--type=merge", "-p", '{"spec": {"replicas": 3}}')
    plane.kubectl("scale", "deployment", "web", "--replicas=4")
    assert len(webhook.reviews()) == before
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


@pytest.fixture(scope="module")
def running_pod(plane: ControlPlane, webhook: Webhook) -> str:  # noqa: ARG001  it patches
    """Not that it runs: there is no node. But it is stored."""
    plane.kubectl("create", "-f", "-", stdin=json.dumps(named("live", ASKS)))
    return "live"


def patched(plane: ControlPlane, name: str, change: object, *options: str) -> str:
    """What kubectl prints."""
    return plane.kubectl("patch", "pod", name, "--type=merge", "-p", json.dumps(change), *options, check=False)


def test_a_stored_pod_follows_its_label(plane: ControlPlane, webhook: Webhook, running_pod: str) -> None:
    assert limit_of(plane.get("pod", running_pod)) == TEN
    plane.kubectl("label", "pod", running_pod, "podrate.io/bandwidth=20M", "--overwrite")
    assert limit_of(plane.get("pod", running_pod)) == '{"v":1,"egress":20000000,"ingress":20000000}'
    plane.kubectl("label", "pod", running_pod, "podrate.io/bandwidth=10M", "--overwrite")
    before = len(webhook.reviews())
    for change in ({"metadata": {"finalizers": ["example.com/theirs"]}}, {"metadata": {"finalizers": None}}):
        assert patched(plane, running_pod, change) == f"pod/{running_pod} patched\n"
    said = patched(plane, running_pod, {"status": {"message": "as the kubelet says"}}, "--subresource=status")
    assert said == f"pod/{running_pod} patched\n"
    assert len(webhook.reviews()) == before


@pytest.mark.parametrize("subresource", [(), ("--subresource=status",)], ids=str)
def test_the_annotation_is_ours_alone(plane: ControlPlane, running_pod: str, subresource: tuple[str, ...]) -> None:
    forged = {"metadata": {"annotations": {"podrate.io/limit": '{"v":1}'}}}
    assert "patched" in patched(plane, running_pod, forged, *subresource)
    assert limit_of(plane.get("pod", running_pod)) == TEN
    removed = {"metadata": {"annotations": {"podrate.io/limit": None}}}
    assert "patched" in patched(plane, running_pod, removed, *subresource)
    assert limit_of(plane.get("pod", running_pod)) == TEN
    said = patched(plane, running_pod, {"metadata": {"labels": {"podrate.io/bandwidth": "fast"}}}, *subresource)
    assert 'podrate.io/bandwidth: "fast": it is not a rate.' in said


FORGED = {"metadata": {"annotations": {"podrate.io/limit": '{"v":1}'}}}


@pytest.mark.parametrize(
    "way",
    [
        ("--type=json", [{"op": "replace", "path": "/metadata/annotations", "value": {}}]),
        ("--type=json", [{"op": "remove", "path": "/metadata/annotations"}]),
        ("--type=json", [{"op": "add", "path": "/metadata/annotations/podrate.io~1limit", "value": ""}]),
        ("--type=strategic", {"metadata": {"annotations": {"$patch": "replace", "a": "b"}}}),
        ("--type=strategic", {"metadata": {"annotations": {"$patch": "delete"}}}),
        ("--type=merge", {"metadata": {"annotations": None}}),
    ],
    ids=str,
)
def test_no_patch_takes_the_limit_away(plane: ControlPlane, running_pod: str, way: tuple[str, object]) -> None:
    kind, change = way
    said = plane.kubectl("patch", "pod", running_pod, kind, "-p", json.dumps(change), check=False)
    assert "patched" in said
    assert limit_of(plane.get("pod", running_pod)) == TEN


def test_no_apply_takes_the_limit_away(plane: ControlPlane, running_pod: str) -> None:
    """Of another's fields either: server-side, a manager may take them by force."""
    apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=other", "-f", "-"]
    plane.kubectl(*apply, stdin=json.dumps(named(running_pod, ASKS, FORGED["metadata"]["annotations"])))
    assert limit_of(plane.get("pod", running_pod)) == TEN
    plane.kubectl(*apply, stdin=json.dumps(named(running_pod, ASKS)))
    assert limit_of(plane.get("pod", running_pod)) == TEN


def test_no_way_above_the_cap(plane: ControlPlane) -> None:
    """As a tenant would try it: on a pod to be, then on one that is there."""
    loader = {"name": "podrate", "image": "mine", "volumeMounts": [{"name": "podrate-limit", "mountPath": "/x"}]}
    tries: list[dict[str, Any]] = [
        named("web", {"podrate.io/bandwidth": "50M"}),
        named("web", {"podrate.io/inject": "false"}),
        named("web", {"podrate.io/inject": "FALSE"}),
        named("web", None, {"podrate.io/inject": "false"}),
        named("web", None, {"podrate.io/max-bandwidth": "50M"}),
        named("web", None, {"PODRATE.io/inject": "false"}),
        named("web", initContainers=[loader], volumes=[{"name": "podrate-limit", "emptyDir": {}}]),
        named("web", volumes=[{"name": "podrate-state", "emptyDir": {}}]),
    ]
    tries[0]["metadata"]["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "u", "controller": True}
    ]
    for manifest in tries:
        refused(plane, manifest, "capped", by="max-bandwidth.namespace")
    twice = json.dumps(named("web", {"podrate.io/egress": "1M"})).replace('"1M"', '"1M", "podrate.io/egress": "50M"')
    raw = ["create", "--raw", "/api/v1/namespaces/capped/pods", "-f", "-"]
    assert '"50M": it is above the cap' in plane.kubectl(*raw, stdin=twice, check=False), "the last one counts"
    plane.kubectl(
        "-n", "capped", "create", "-f", "-", stdin=json.dumps(named("web", None, FORGED["metadata"]["annotations"]))
    )
    capped = '{"v":1,"egress":2000000,"ingress":5000000}'
    for change in (
        {"metadata": {"labels": {"podrate.io/egress": "50M"}}},
        {"metadata": {"labels": {"podrate.io/inject": "false"}}},
        {"metadata": {"annotations": {"podrate.io/bandwidth": "50M"}}},
    ):
        for subresource in ([], ["--subresource=status"]):
            patch = ["patch", "pod", "web", "--type=merge", "-p", json.dumps(change), *subresource]
            assert "max-bandwidth" in plane.kubectl("-n", "capped", *patch, check=False)
    plane.kubectl("-n", "capped", "patch", "pod", "web", "--type=merge", "-p", json.dumps(FORGED))
    assert limit_of(plane.get("-n", "capped", "pod", "web")) == capped
    plane.kubectl("-n", "capped", "delete", "pod", "web", "--force", "--grace-period=0")


def test_what_is_not_sent_changes_no_metadata(plane: ControlPlane, running_pod: str) -> None:
    """Of a pod's other subresources that write: a resize takes the containers' resources and nothing else."""
    forged = {"metadata": {"annotations": {"podrate.io/limit": '{"v":1}'}, "labels": {"podrate.io/bandwidth": "1M"}}}
    patched(plane, running_pod, forged, "--subresource=resize")
    patched(plane, running_pod, forged, "--subresource=ephemeralcontainers")
    it = plane.get("pod", running_pod)
    assert (limit_of(it), it["metadata"]["labels"]["podrate.io/bandwidth"]) == (TEN, "10M")


def test_a_binding_brings_no_key(plane: ControlPlane, running_pod: str) -> None:
    binding: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": running_pod, "annotations": {"podrate.io/limit": '{"v":1}'}},
        "target": {"kind": "Node", "name": "node"},
    }
    for path in (f"pods/{running_pod}/binding", "bindings"):
        raw = ["create", "--raw", f"/api/v1/namespaces/default/{path}", "-f", "-"]
        said = plane.kubectl(*raw, stdin=json.dumps(binding), check=False)
        assert DENIED.format("bindings.podrate.io") + "metadata.annotations[podrate.io/limit]: " in said
    binding["metadata"]["annotations"] = {"scheduler": "x"}
    plane.kubectl(*raw, stdin=json.dumps(binding))
    it = plane.get("pod", running_pod)
    assert (it["spec"]["nodeName"], it["metadata"]["annotations"]["scheduler"], limit_of(it)) == ("node", "x", TEN)


def test_an_ephemeral_container_does_not_get_at_the_loaders_volumes(plane: ControlPlane, running_pod: str) -> None:
    debugger = {"name": "debugger", "image": "busybox"}
    theirs = debugger | {"name": "thief", "volumeMounts": [{"name": "podrate-cgroup", "mountPath": "/cgroup"}]}
    change = {"spec": {"ephemeralContainers": [debugger, theirs]}}
    said = patched(plane, running_pod, change, "--subresource=ephemeralcontainers")
    assert 'spec.ephemeralContainers[1].volumeMounts: "podrate-cgroup": this volume is for podrate' in said
    change = {"spec": {"ephemeralContainers": [debugger]}}
    assert "patched" in patched(plane, running_pod, change, "--subresource=ephemeralcontainers")


def test_nobody_enters_the_loader(plane: ControlPlane, webhook: Webhook, running_pod: str) -> None:
    for command in (["exec", running_pod, "-c", "podrate", "--", "sh"], ["attach", running_pod, "-c", "podrate"]):
        said = plane.kubectl(*command, check=False)
        assert DENIED.format("loader.podrate.io") + 'container: "podrate": the loader may change the limit of ' in said
    before = len(webhook.reviews())
    for container in ([], ["-c", "web"]):
        said = plane.kubectl("exec", running_pod, *container, "--", "sh", check=False)
        assert "denied the request" not in said
        assert "node" in said, "there is none here to run it"
    assert len(webhook.reviews()) == before


def test_a_resize_leaves_the_loader_alone(plane: ControlPlane, webhook: Webhook) -> None:
    """Of other containers it is not sent, and so does not wait for us. Of a pod without a node: there is none."""
    plane.kubectl("create", "-f", "-", stdin=json.dumps(named("resized", ASKS)))

    def resized(container: str, field: str, value: object) -> str:
        change = [{"op": "replace", "path": f"/spec/{container}/0/{field}", "value": value}]
        patch = ["--subresource=resize", "--type=json", "-p", json.dumps(change)]
        return plane.kubectl("patch", "pod", "resized", *patch, check=False)

    before = len(webhook.reviews())
    assert "patched" in resized("containers", "resources", {"requests": {"memory": "32Mi"}})
    assert len(webhook.reviews()) == before
    for field, value in (("resources/limits/cpu", "1m"), ("resources/limits/memory", "16Mi")):
        said = resized("initContainers", field, value)
        assert DENIED.format("loader.podrate.io") + 'spec.initContainers[0].resources: "podrate": a loader ' in said
    restarts = [{"resourceName": each, "restartPolicy": "RestartContainer"} for each in ("cpu", "memory")]
    assert "resources for init or sidecar containers are mutable" in resized("initContainers", "resizePolicy", restarts)
    plane.kubectl("delete", "pod", "resized", "--force", "--grace-period=0")


def test_the_loader_stays(plane: ControlPlane, running_pod: str) -> None:
    said = plane.kubectl("set", "image", f"pod/{running_pod}", "podrate=other", check=False)
    assert "the loader's image can't be changed" in said
    headless = '[{"op": "remove", "path": "/spec/initContainers/0/image"}]'
    said = plane.kubectl("patch", "pod", running_pod, "--type=json", "-p", headless, check=False)
    assert "the loader's image can't be changed" in said
    it = plane.get("pod", running_pod)
    it["spec"]["initContainers"] = []
    said = plane.kubectl("replace", "-f", "-", stdin=json.dumps(it), check=False)
    assert 'spec.initContainers: "podrate": the loader can\'t be taken out of a running pod' in said


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


def test_a_limit_range_adds_what_it_wants_to_our_container(plane: ControlPlane) -> None:
    default = {"type": "Container", "default": {"ephemeral-storage": "1Gi", "memory": "1Gi"}}
    ranged = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r"}, "spec": {"limits": [default]}}
    plane.kubectl("-n", "fast", "create", "-f", "-", stdin=json.dumps(ranged))
    first = created(plane, named("web"), "fast")["spec"]["initContainers"][0]
    assert first["resources"]["limits"] == {"cpu": "100m", "ephemeral-storage": "1Gi", "memory": "64Mi"}
    plane.kubectl("-n", "fast", "delete", "limitrange", "r")


@contextlib.contextmanager
def bounded(plane: ControlPlane, kind: str, spec: dict[str, Any], status: object = None) -> Iterator[None]:
    """A LimitRange or a ResourceQuota, whose status a controller would write."""
    manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "bounds"}, "spec": spec}
    plane.kubectl("-n", "bounded", "create", "-f", "-", stdin=json.dumps(manifest))
    if status:
        change = json.dumps({"status": status})
        plane.kubectl("-n", "bounded", "patch", kind, "bounds", "--subresource=status", "--type=merge", "-p", change)
    try:
        yield
    finally:
        plane.kubectl("-n", "bounded", "delete", kind, "bounds")


def limited(plane: ControlPlane, kind: str) -> str:
    """What kubectl prints of a Deployment or a pod of 100m cpu that asks."""
    resources = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}}
    it = named("web", {"app": "web"} | ASKS, containers=[{"name": "web", "image": "nginx", "resources": resources}])
    if kind == "Deployment":
        it = workload("Deployment", it) | {"apiVersion": "apps/v1"}
        it["spec"] |= {"selector": {"matchLabels": {"app": "web"}}}
    return plane.kubectl("-n", "bounded", "create", "--dry-run=server", "-f", "-", stdin=json.dumps(it), check=False)


def test_a_limit_range_that_no_loader_meets_is_explained(plane: ControlPlane, tmp_path: Path) -> None:
    """In our words, where the API server's own do not name the loader, and come to a Deployment's author never."""
    for item, said, theirs in (
        (
            {"maxLimitRequestRatio": {"memory": "2"}},
            "limits.memory of 64Mi is more than 2 times its",
            "memory max limit",
        ),
        ({"min": {"cpu": "50m"}}, "requests.cpu of 1m is below 50m. Allowed: loader.resources in", "minimum cpu usage"),
    ):
        with bounded(plane, "LimitRange", {"limits": [{"type": "Container"} | item]}):
            eventually("we know of it", lambda: said in limited(plane, "Pod"))  # noqa: B023
            for kind in ("Pod", "Deployment"):
                line = limited(plane, kind)
                assert f"LimitRange bounds of Namespace bounded forbids the loader, whose {said}" in line
                assert theirs not in line
            if "min" in item:
                with called(plane, tmp_path, "--loader-requests=cpu=50m,memory=16Mi"):
                    assert "created (server dry run)" in limited(plane, "Pod")


def test_where_bounds_may_not_be_read_the_api_server_says_it(plane: ControlPlane, tmp_path: Path) -> None:
    """Nothing else suffers: we are ready, and the pod is rejected in its words."""
    role = plane.get("clusterrole", "podrate")
    without = [rule for rule in role["rules"] if "limitranges" not in rule["resources"]]
    plane.kubectl("replace", "-f", "-", stdin=json.dumps(role | {"rules": without}))
    try:
        least = {"limits": [{"type": "Container", "min": {"cpu": "50m"}}]}
        with bounded(plane, "LimitRange", least), called(plane, tmp_path) as webhook:
            assert " is forbidden: " in webhook.event("watch ended")["reason"]
            said = limited(plane, "Pod")
        assert "minimum cpu usage per Container is 50m, but request is 1m" in said
    finally:
        role = plane.get("clusterrole", "podrate") | {"rules": role["rules"]}
        plane.kubectl("replace", "-f", "-", stdin=json.dumps(role))


def test_a_quota_that_is_used_up_is_warned_of(plane: ControlPlane) -> None:
    hard, used = {"limits.cpu": "1"}, {"limits.cpu": "850m"}
    with bounded(plane, "ResourceQuota", {"hard": hard}, {"hard": hard, "used": used}):
        assert "Warning: " not in limited(plane, "Deployment")
        assert "exceeded quota: bounds, requested: limits.cpu=200m, used: limits.cpu=850m" in limited(plane, "Pod")
    used = {"limits.cpu": "950m"}
    line = "Warning: podrate: ResourceQuota bounds has 50m of limits.cpu left; a pod's loader takes 100m"
    with bounded(plane, "ResourceQuota", {"hard": hard}, {"hard": hard, "used": used}):
        for kind in ("Pod", "Deployment"):
            eventually("we know of it", lambda: line in limited(plane, kind))  # noqa: B023
        assert "exceeded quota" in limited(plane, "Pod")
        assert "created (server dry run)" in limited(plane, "Deployment")


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
