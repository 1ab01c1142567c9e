"""What becomes of a pod that is there, whichever way a tenant tries to change it."""

import json
from typing import Any

import pytest

from tests.webhook.admission.asking import ASKS, DENIED, TEN, limit_of, named, patched, refused
from tests.webhook.conftest import Webhook
from tests.webhook.control_plane import ControlPlane

FORGED = {"metadata": {"annotations": {"podrate.io/limit": '{"v":1}'}}}

pytestmark = pytest.mark.usefixtures("webhook")


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
    assert "patched" in patched(plane, running_pod, FORGED, *subresource)
    assert limit_of(plane.get("pod", running_pod)) == TEN
    removed = {"metadata": {"annotations": {"podrate.io/limit": None}}}
    assert "patched" in patched(plane, running_pod, removed, *subresource)
    assert limit_of(plane.get("pod", running_pod)) == TEN
    said = patched(plane, running_pod, {"metadata": {"labels": {"podrate.io/bandwidth": "fast"}}}, *subresource)
    assert 'podrate.io/bandwidth: "fast": it is not a rate.' in said


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
    altered = '[{"op": "add", "path": "/spec/initContainers/0/args", "value": ["x"]}]'
    said = plane.kubectl("patch", "pod", running_pod, "--type=json", "-p", altered, check=False)
    assert 'spec.initContainers[0].args: "podrate": the loader of a running pod can\'t be altered' in said
    it["spec"]["initContainers"] = []
    said = plane.kubectl("replace", "-f", "-", stdin=json.dumps(it), check=False)
    assert 'spec.initContainers: "podrate": the loader can\'t be taken out of a running pod' in said
