"""The policy: what is allowed, patched and rejected, and in which words."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.webhook.reviews import PODS, patched, pod, review, stored_pod
from webhook.decide import decide
from webhook.decision import Decision, Reason, Result
from webhook.review import BadRequest, allowed, parse, rejected
from webhook.sidecar import Settings

SETTINGS = Settings("localhost/podrate-loader:dev")
ASKS = {"podrate.io/bandwidth": "10M"}
LIMIT = "podrate.io/limit"


def of(asked: dict[str, Any]) -> Decision:
    return decide(parse(json.dumps(asked).encode()), SETTINGS)


def after(before: dict[str, Any], decision: Decision) -> dict[str, Any]:
    assert decision.result is Result.PATCHED
    return patched(before, json.loads(allowed("uid", decision.patch))["response"])


def loaded(labels: dict[str, str], annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """A running pod with the sidecar."""
    it = stored_pod()
    it["metadata"] |= {"labels": labels, "annotations": annotations or {}}
    return it


def test_a_pod_that_asks_is_patched() -> None:
    before = pod(ASKS)
    it = after(before, of(review(before)))
    assert it["spec"]["initContainers"][0]["name"] == "podrate"
    assert of(review(it)) == Decision(Result.ALLOWED, Reason.LIMITED, "has it all already", kind="Pod")


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


def test_a_pod_that_asks_nothing_is_left_alone() -> None:
    for quiet in (pod(), pod({"app": "podrate.io/bandwidth"}), pod({}, {}), pod(hostNetwork=True)):
        assert of(review(quiet)) == Decision(Result.ALLOWED, Reason.NO_LIMIT, "no key asks for a limit", kind="Pod")


def test_the_hosts_network_is_limited_too() -> None:
    assert of(review(pod(ASKS, hostNetwork=True))).result is Result.PATCHED


def test_a_limit_by_hand_alone_is_removed() -> None:
    before = pod(annotations={LIMIT: '{"v":1,"egress":1000}', "a": "b"})
    assert after(before, of(review(before)))["metadata"]["annotations"] == {"a": "b"}
    assert after(before, of(review(before, pod())))["metadata"]["annotations"] == {"a": "b"}


def test_a_dry_run_is_as_any_other() -> None:
    assert of(review(pod(ASKS), dryRun=True)) == of(review(pod(ASKS)))


@pytest.mark.parametrize(
    ("new", "line"),
    [
        (
            pod({"podrate.io/bandwidth": "10m"}),
            'podrate.io/bandwidth: "10m": m means milli; did you mean 10M? Allowed: a number and k, M, G or T '
            "(or Ki, Mi, Gi, Ti) in bits per second, from 1k to 1T. Example: 10M",
        ),
        (
            pod({"podrate.io/bandwith": "10M"}),
            'podrate.io/bandwith: "10M": podrate has no such key; did you mean podrate.io/bandwidth? '
            "Allowed: podrate.io/bandwidth, podrate.io/egress, podrate.io/ingress, podrate.io/burst, "
            "podrate.io/ingress-queue, podrate.io/inject. Example: podrate.io/bandwidth: 10M",
        ),
        (
            pod(annotations={"podrate.io/egress": "fast\nforged: log line"}),
            'podrate.io/egress: "fast\\nforged: log line": it is not a rate. Allowed: a number and k, M, G or T '
            "(or Ki, Mi, Gi, Ti) in bits per second, from 1k to 1T. Example: 10M",
        ),
        (
            pod(ASKS, os={"name": "windows"}),
            'podrate.io/bandwidth: "10M": the pod runs on Windows, the limit in the Linux kernel. '
            "Allowed: a pod on Linux. Example: spec.os.name: linux",
        ),
        (
            pod(ASKS, nodeSelector={"kubernetes.io/os": "windows"}),
            'podrate.io/bandwidth: "10M": the pod runs on Windows, the limit in the Linux kernel. '
            "Allowed: a pod on Linux. Example: spec.os.name: linux",
        ),
        (
            pod(ASKS, {"kubernetes.io/config.mirror": "hash"}),
            'podrate.io/bandwidth: "10M": a static pod runs from a file on its node, where the loader can\'t be added. '
            "Allowed: a pod that is created through the API server. "
            "Example: a DaemonSet with the key in spec.template.metadata.labels",
        ),
        (
            pod(ASKS, volumes=[{"name": "podrate-state", "emptyDir": {}}]),
            'spec.volumes[0].name: "podrate-state": podrate adds a volume by this name to a limited pod, and this one '
            "differs from it. Allowed: any other name, or no such volume. Example: my-podrate-state",
        ),
    ],
)
def test_rejections(new: dict[str, Any], line: str) -> None:
    decision = of(review(new))
    assert (decision.result, decision.line, decision.kind) == (Result.REJECTED, line, "Pod")


def test_without_a_key_windows_and_static_pods_are_none_of_our_business() -> None:
    for other in (pod(os={"name": "windows"}), pod(annotations={"kubernetes.io/config.mirror": "hash"})):
        assert of(review(other)).result is Result.ALLOWED


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


@pytest.mark.parametrize(
    "request_",
    [
        {"operation": "DELETE", "object": None},
        {"operation": "CONNECT"},
        {"subResource": "ephemeralcontainers"},
        {"subResource": "status"},
        {"resource": PODS | {"resource": "deployments", "group": "apps"}},
        {"resource": PODS | {"version": "v2"}},
    ],
    ids=str,
)
def test_other_requests_are_allowed_untouched(request_: dict[str, Any]) -> None:
    decision = of(review(pod({"podrate.io/bandwidth": "bad"}), **request_))
    assert (decision.result, decision.patch) == (Result.ALLOWED, ())


def test_answers_on_the_wire() -> None:
    head = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    assert json.loads(allowed("a")) == head | {"response": {"uid": "a", "allowed": True}}
    assert json.loads(rejected("a", "no")) == head | {
        "response": {"uid": "a", "allowed": False, "status": {"code": 422, "reason": "Invalid", "message": "no"}}
    }


BAD_PODS: list[tuple[object, str]] = [
    (None, "request.object must be an object, not null"),
    ([], "request.object must be an object, not a list"),
    ({}, "request.object.metadata must be an object, not null"),
    ({"metadata": {}}, "request.object.spec must be an object, not null"),
    ({"metadata": {"labels": 1}, "spec": {}}, "request.object.metadata.labels must be an object, not a number"),
    (pod({"a\nb": 1}), 'request.object.metadata.labels["a\\nb"] must be a string, not a number'),
    (pod(None, {"a": None}), 'request.object.metadata.annotations["a"] must be a string, not null'),
    (pod(initContainers={}), "request.object.spec.initContainers must be a list, not an object"),
    (pod(containers=[1]), "request.object.spec.containers[0] must be an object, not a number"),
    (pod(ASKS, os="windows"), "request.object.spec.os must be an object, not a string"),
]


@pytest.mark.parametrize(("bad", "line"), BAD_PODS, ids=str)
def test_pods_that_no_api_server_sends(bad: object, line: str) -> None:
    with pytest.raises(BadRequest) as caught:
        of(review(bad))
    assert str(caught.value) == line


def paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of everything in `value`."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, item in inside for deeper in paths(item, (*path, key)))]


FULL = review(
    pod(
        ASKS,
        {"a": "b"},
        initContainers=[{"name": "podrate"}],
        volumes=[{"name": "podrate-limit"}],
        os={"name": "linux"},
    ),
    loaded(ASKS, {LIMIT: "x"}),
    subResource="",
    name="web",
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["podrate", "10M", LIMIT]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text() | st.sampled_from(["name", *ASKS]), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(st.sampled_from(paths(FULL)), ANYTHING, st.sampled_from(["CREATE", "UPDATE"]))
def test_anything_anywhere_is_answered_or_a_bad_request(
    path: tuple[str | int, ...], anything: object, operation: str
) -> None:
    asked: Any = {"root": copy.deepcopy(FULL)}
    asked["root"]["request"]["operation"] = operation
    parent = asked
    for key in ("root", *path)[:-1]:
        parent = parent[key]
    parent[("root", *path)[-1]] = anything
    try:
        decision = of(asked["root"])
    except BadRequest as error:
        line = str(error)
    else:
        line = decision.line
        if decision.patch:
            patched(asked["root"]["request"]["object"], json.loads(allowed("uid", decision.patch))["response"])
    assert line.isascii()
    assert line.isprintable()


@given(st.binary(max_size=60))
def test_any_bytes_are_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(body)
