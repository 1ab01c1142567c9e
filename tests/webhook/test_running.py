"""Running pods: what of them may change, and what the limit does then."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bandwidth.keys import INJECT
from tests.webhook.deciding import ASKS, LIMIT, SETTINGS, after, loaded, of
from tests.webhook.reviews import pod, review
from webhook.decision import Reason, Result
from webhook.namespace import Namespace
from webhook.sidecar import Settings, container

TEN = '{"v":1,"egress":10000000,"ingress":10000000}'
CAPPED = Namespace("shop", {"podrate.io/max-bandwidth": "5M"})


@pytest.mark.parametrize(
    ("labels", "annotations", "limit"),
    [
        ({"podrate.io/bandwidth": "20M"}, {LIMIT: "old"}, '{"v":1,"egress":20000000,"ingress":20000000}'),
        ({"podrate.io/egress": "20M"}, {LIMIT: "old"}, '{"v":1,"egress":20000000}'),
        ({}, {LIMIT: "old"}, '{"v":1}'),
        (ASKS, {}, '{"v":1,"egress":10000000,"ingress":10000000}'),
        ({}, {LIMIT: "old", "podrate.io/ingress": "1k"}, '{"v":1,"ingress":1000}'),
    ],
)
def test_a_running_pods_limit_follows_its_keys(labels: dict[str, str], annotations: dict[str, str], limit: str) -> None:
    before = loaded(ASKS, {LIMIT: '{"v":1,"egress":10000000,"ingress":10000000}'})
    new = loaded(labels, annotations)
    it = after(new, of(review(new, before)))
    assert it["metadata"]["annotations"] == annotations | {LIMIT: limit}
    # A running pod's spec can't change: a patch of it would fail an update that is none of our business.
    assert it["spec"] == new["spec"]
    assert of(review(it, before)).line == "the limit is as it was"


def test_an_older_sidecars_pod_follows_too() -> None:
    old, new = loaded(ASKS), loaded({"podrate.io/bandwidth": "1M"})
    for each in (old, new):
        each["spec"]["initContainers"][0] |= {"image": "example/loader:0", "command": ["old"]}
    assert of(review(new, old)).result is Result.PATCHED


def test_a_bad_change_to_a_running_pod() -> None:
    decision = of(review(loaded({"podrate.io/bandwidth": "fast"}), loaded(ASKS)))
    assert decision.result is Result.REJECTED
    assert decision.line.startswith('podrate.io/bandwidth: "fast": it is not a rate.')


@pytest.mark.parametrize(
    ("labels", "annotations"),
    [(ASKS, {}), ({}, ASKS), ({"podrate.io/bandwidth": "20M"}, {}), (ASKS | {"podrate.io/egress": "1M"}, {})],
)
def test_a_running_pod_can_not_get_the_loader(labels: dict[str, str], annotations: dict[str, str]) -> None:
    old = pod(ASKS if len(labels) > 1 or "20M" in labels.values() else {})
    decision = of(review(pod(labels, annotations), old))
    assert decision.result is Result.REJECTED
    assert decision.line.endswith(
        ": this pod runs without podrate's loader, which is only added when a pod is created. Allowed: the key on the "
        "workload's template, or on a pod created anew. Example: kubectl replace --force -f pod.yaml"
    )


@pytest.mark.parametrize("labels", [ASKS, {"podrate.io/bandwidth": "bad"}, {"podrate.io/typo": "10M"}])
def test_a_pod_from_before_us_can_still_be_changed(labels: dict[str, str]) -> None:
    old = pod(labels)
    new = pod(labels | {"app": "web"})
    assert of(review(new, old)).result is Result.ALLOWED
    assert of(review(pod({"app": "web"}), old)).result is Result.ALLOWED


def test_a_container_that_only_has_our_name_keeps_no_limit() -> None:
    impostor = {"initContainers": [{"name": "podrate", "image": "other", "volumeMounts": [{"name": "data"}]}]}
    assert of(review(pod(ASKS, **impostor), pod(**impostor))).result is Result.REJECTED


@pytest.mark.parametrize("image", ["nginx:1", None, 7])
def test_a_running_loader_keeps_its_image(image: object) -> None:
    """Whatever ran in its place would have its capabilities."""
    old = loaded(ASKS)
    new = copy.deepcopy(old)
    new["spec"]["initContainers"][0]["image"] = image
    decision = of(review(new, old))
    assert decision.result is Result.REJECTED
    assert decision.line.startswith("spec.initContainers[0].image: ")
    new["spec"]["initContainers"][0]["image"] = SETTINGS.image
    assert of(review(new, old)).result is not Result.REJECTED, "the operator's own is an upgrade"


def test_the_limit_by_hand_is_put_back() -> None:
    """Whichever way it comes: the status subresource changes metadata too, and sends what it likes as spec."""
    old = loaded(ASKS, {LIMIT: TEN})
    for status in ("", "status"):
        for forged in ({LIMIT: '{"v":1}'}, {LIMIT: "{"}, {}):
            new = loaded(ASKS, forged)
            new["spec"] = {"containers": []} if status else new["spec"]
            decision = of(review(new, old, subResource=status))
            assert after(new, decision)["metadata"]["annotations"] == {LIMIT: TEN}
            assert decision.reason is Reason.AS_BEFORE


def test_a_new_label_by_the_status_subresource_counts_too() -> None:
    old, new = loaded(ASKS, {LIMIT: TEN}), loaded({"podrate.io/bandwidth": "1M"}, {LIMIT: TEN})
    it = after(new, of(review(new, old, subResource="status")))
    assert it["metadata"]["annotations"] == {LIMIT: '{"v":1,"egress":1000000,"ingress":1000000}'}
    assert of(review(pod(ASKS), pod(), subResource="status")).reason is Reason.NO_LOADER
    assert of(review(loaded({"podrate.io/bandwidth": "x"}), old, subResource="status")).reason is Reason.BAD_KEY


def test_a_damaged_annotation_is_made_anew() -> None:
    old, new = loaded(ASKS, {LIMIT: "{"}), loaded(ASKS | {"app": "web"}, {LIMIT: "{"})
    assert after(new, of(review(new, old)))["metadata"]["annotations"] == {LIMIT: TEN}


@pytest.mark.parametrize("labels", [{"podrate.io/bandwidth": "bad"}, {"podrate.io/typo": "10M"}, ASKS])
def test_what_was_bad_before_stays_as_it_was(labels: dict[str, str]) -> None:
    """So it is with a pod above a cap that is newer than it."""
    old = loaded(labels, {LIMIT: TEN})
    for annotations in ({LIMIT: TEN}, {}, {LIMIT: '{"v":1}'}):
        new = loaded(labels | {"app": "web"}, annotations)
        decision = of(review(new, old), CAPPED)
        assert decision.reason is Reason.AS_BEFORE
        it = after(new, decision) if decision.patch else new
        assert it["metadata"]["annotations"] == {LIMIT: TEN}


def test_a_changed_key_meets_the_cap() -> None:
    old = loaded(ASKS, {LIMIT: TEN})
    decision = of(review(loaded({"podrate.io/bandwidth": "6M"}, {LIMIT: TEN}), old), CAPPED)
    assert (decision.result, decision.reason) == (Result.REJECTED, Reason.ABOVE_CAP)
    for labels in ({}, {"podrate.io/bandwidth": "5M"}):
        new = loaded(labels, {LIMIT: TEN})
        it = after(new, of(review(new, old), CAPPED))
        assert it["metadata"]["annotations"] == {LIMIT: '{"v":1,"egress":5000000,"ingress":5000000}'}


def test_opting_out_ends_the_limit_of_a_running_pod() -> None:
    old = loaded(ASKS, {LIMIT: TEN})
    new = loaded(ASKS | {"podrate.io/inject": "false"}, {LIMIT: TEN})
    decision = of(review(new, old))
    assert after(new, decision)["metadata"]["annotations"] == {LIMIT: '{"v":1}'}
    assert decision.reason is Reason.OPTED_OUT
    assert decision.warnings == (
        "podrate: podrate.io/bandwidth has no effect: podrate.io/inject is false here or on the Namespace",
    )


def without(spec: dict[str, Any]) -> None:
    spec["initContainers"].pop(0)


def environment(spec: dict[str, Any]) -> None:
    spec["initContainers"][0]["env"].append({"name": "LD_PRELOAD", "value": "x"})


def privileged(spec: dict[str, Any]) -> None:
    spec["initContainers"][0]["securityContext"]["privileged"] = True


@pytest.mark.parametrize(
    ("alter", "start"),
    [
        (without, ': "podrate": the loader can\'t be taken out of a running pod'),
        (environment, '[0].env: "podrate": the loader of a running pod can\'t be altered'),
        (privileged, '[0].securityContext: "podrate": the loader of a running pod can\'t be altered'),
    ],
)
@pytest.mark.parametrize("labels", [ASKS, {}, {"podrate.io/inject": "false"}])
def test_the_loader_of_a_running_pod_is_left_alone(
    alter: Callable[[dict[str, Any]], None], start: str, labels: dict[str, str]
) -> None:
    old = loaded(ASKS, {LIMIT: TEN})
    new = copy.deepcopy(old)
    new["metadata"]["labels"] = labels
    alter(new["spec"])
    decision = of(review(new, old))
    assert (decision.result, decision.reason) == (Result.REJECTED, Reason.LOADER_CHANGED)
    assert decision.line.startswith("spec.initContainers" + start)


def test_a_key_less_on_a_pod_without_the_loader() -> None:
    """What is left asks for a limit that the pod has never had; taking a key away is no new wish."""
    old = pod(ASKS | {"podrate.io/egress": "1M"})
    assert of(review(pod(ASKS), old)).result is Result.ALLOWED
    assert of(review(pod(), pod(ASKS)), CAPPED).result is Result.ALLOWED


def ephemeral(**container: object) -> dict[str, Any]:
    it = loaded(ASKS, {LIMIT: TEN})
    it["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": "busybox"} | container]
    return it


def test_ephemeral_containers_leave_the_loaders_volumes_alone() -> None:
    old = loaded(ASKS, {LIMIT: TEN})
    assert of(review(ephemeral(), old, subResource="ephemeralcontainers")).result is Result.ALLOWED
    bad = ephemeral(volumeMounts=[{"name": "podrate-state", "mountPath": "/state"}])
    decision = of(review(bad, old, subResource="ephemeralcontainers"))
    assert decision.line.startswith('spec.ephemeralContainers[0].volumeMounts: "podrate-state": this volume is for ')
    beside = of(review(ephemeral(targetContainerName="podrate"), old, subResource="ephemeralcontainers"))
    assert beside.line.startswith('spec.ephemeralContainers[0].targetContainerName: "podrate": what joins the ')
    other = ephemeral(targetContainerName="web")
    assert of(review(other, old, subResource="ephemeralcontainers")).result is Result.ALLOWED
    theirs = pod(ephemeralContainers=bad["spec"]["ephemeralContainers"], volumes=[{"name": "podrate-state"}])
    assert of(review(theirs, pod(), subResource="ephemeralcontainers")).result is Result.ALLOWED


def resized(**resources: object) -> dict[str, Any]:
    it = loaded(ASKS, {LIMIT: TEN})
    it["spec"]["initContainers"][0]["resources"] = resources
    it["spec"]["containers"][0]["resources"] = {"limits": {"memory": "1Gi"}}
    return it


def test_a_resize_leaves_the_loader_what_it_was_given() -> None:
    """Whoever asks; without the loader, or of other containers, it is no business of ours."""
    old = loaded(ASKS, {LIMIT: TEN})
    given = old["spec"]["initContainers"][0]["resources"]
    assert of(review(resized(**given), old, subResource="resize")).reason is Reason.AS_BEFORE
    starved = given | {"limits": {"cpu": "1m", "memory": "1Mi"}}
    nothing: dict[str, Any] = {}
    for other in (starved, nothing):
        decision = of(review(resized(**other), old, subResource="resize"))
        assert (decision.result, decision.reason) == (Result.REJECTED, Reason.LOADER_CHANGED)
        assert decision.line.startswith('spec.initContainers[0].resources: "podrate": a loader with less may no ')
    theirs = pod(initContainers=[{"name": "podrate", "resources": given}])
    assert of(review(pod(initContainers=[{"name": "podrate"}]), theirs, subResource="resize")).result is Result.ALLOWED


@pytest.mark.parametrize("resource", ["pods", "bindings"])
@pytest.mark.parametrize("place", ["labels", "annotations"])
def test_a_binding_brings_none_of_our_keys(resource: str, place: str) -> None:
    binding: dict[str, Any] = {"metadata": {"name": "web", place: {"a": "b"}}, "target": {"name": "node"}}
    asked: dict[str, Any] = {"resource": {"group": "", "version": "v1", "resource": resource}}
    asked["subResource"] = "binding" if resource == "pods" else ""
    assert of(review(binding, **asked)).result is Result.ALLOWED
    binding["metadata"][place][LIMIT] = '{"v":1}'
    decision = of(review(binding, **asked))
    assert decision.line.startswith(f"metadata.{place}[podrate.io/limit]: ")
    assert "a Binding is copied to its pod past the pod's own admission" in decision.line


ONCE = replace(SETTINGS, once=True)


def limited_once(labels: dict[str, str]) -> dict[str, Any]:
    """A running pod whose loader has ended, as one that stays would be changed into it."""
    asks = pod(labels)
    return after(asks, of(review(asks), settings=ONCE))


@pytest.mark.parametrize(
    ("labels", "settings"), [(ASKS, ONCE), (ASKS | {INJECT: "once"}, SETTINGS), (ASKS | {INJECT: "true"}, ONCE)]
)
def test_once_is_an_ordinary_init_container_first(labels: dict[str, str], settings: Settings) -> None:
    """For all pods by the operator, who has the last word, or by the pod."""
    asks = pod(labels)
    limited = after(asks, of(review(asks), settings=settings))
    it = limited["spec"]["initContainers"][0]
    assert it["command"] == ["podrate", "sidecar", "--once"]
    assert not {"restartPolicy", "startupProbe", "lifecycle"} & it.keys()  # the API server allows none of them there
    again = of(review(limited), settings=settings)
    assert again.result is Result.ALLOWED
    assert not again.patch


def test_a_loader_that_ends_is_not_taken_for_one_that_stays() -> None:
    """Nor the other way: who writes the one by hand, and asks for the other, is refused."""
    for labels, written in ((ASKS, ONCE), (ASKS | {INJECT: "once"}, SETTINGS)):
        assert of(review(pod(labels, initContainers=[container(written)]))).reason is Reason.NAME_TAKEN


def test_a_pod_that_runs_with_its_loader_is_told_that_once_is_for_new_ones() -> None:
    decision = of(review(loaded(ASKS | {INJECT: "once"}, {LIMIT: "{}"}), loaded(ASKS, {LIMIT: "{}"})))
    assert decision.result is Result.PATCHED
    (line,) = decision.warnings
    assert "once is for new pods" in line


@pytest.mark.parametrize(
    "labels", [{}, {"podrate.io/bandwidth": "20M"}, ASKS | {"podrate.io/egress": "1M"}, ASKS | {INJECT: "true"}]
)
@pytest.mark.parametrize("settings", [SETTINGS, ONCE])
def test_a_limit_that_was_put_in_force_once_can_not_be_changed(labels: dict[str, str], settings: Settings) -> None:
    """Whatever new pods get by now. Its annotation would say what the kernel does not."""
    before, new = limited_once(ASKS), limited_once(ASKS)
    new["metadata"]["labels"] = labels
    decision = of(review(new, before), settings=settings)
    assert (decision.result, decision.reason) == (Result.REJECTED, Reason.NO_LOADER)
    assert "put in force once" in decision.line
    assert "kubectl replace --force" in decision.line


def test_all_else_of_a_pod_that_was_limited_once_may_change() -> None:
    before, new = limited_once(ASKS), limited_once(ASKS)
    new["metadata"]["labels"] = ASKS | {"app": "web"}
    new["metadata"]["annotations"][LIMIT] = "by hand"
    decision = of(review(new, before))
    assert decision.reason is Reason.AS_BEFORE
    assert after(new, decision)["metadata"]["annotations"] == before["metadata"]["annotations"]
    new["spec"]["initContainers"][0]["command"] = ["true"]
    assert of(review(new, before)).reason is Reason.LOADER_CHANGED
