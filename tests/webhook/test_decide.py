"""The policy: what is allowed, patched and rejected, and in which words."""

import copy
import json
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.webhook.deciding import ASKS, LIMIT, after, loaded, of
from tests.webhook.reviews import PODS, patched, pod, review
from webhook.decision import Decision, Reason, Result
from webhook.request import BadRequest
from webhook.review import allowed, parse, rejected


def test_a_pod_that_asks_is_patched() -> None:
    before = pod(ASKS)
    it = after(before, of(review(before)))
    assert it["spec"]["initContainers"][0]["name"] == "podrate"
    again = of(review(it))
    assert (again.result, again.line, list(again.patch)) == (Result.ALLOWED, "has it all already", [])
    limit = '{"v":1,"egress":10000000,"ingress":10000000}'
    assert again.audit == {"result": "allowed", "reason": "limited", "limit": limit}


def test_a_pod_that_asks_nothing_is_left_alone() -> None:
    for quiet in (pod(), pod({"app": "podrate.io/bandwidth"}), pod({}, {}), pod(hostNetwork=True)):
        decision = of(review(quiet))
        assert decision == Decision(Result.ALLOWED, Reason.NO_LIMIT, "no key asks for a limit")
        assert decision.audit == {"result": "allowed", "reason": "no-limit"}


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
    assert (decision.result, decision.line) == (Result.REJECTED, line)


def test_without_a_key_windows_and_static_pods_are_none_of_our_business() -> None:
    for other in (pod(os={"name": "windows"}), pod(annotations={"kubernetes.io/config.mirror": "hash"})):
        assert of(review(other)).result is Result.ALLOWED


@pytest.mark.parametrize(
    "request_",
    [
        {"operation": "DELETE", "object": None},
        {"operation": "CONNECT"},
        {"operation": "CONNECT", "subResource": "exec"},
        {"subResource": "ephemeralcontainers"},
        {"subResource": "status"},
        {"subResource": "resize"},
        {"subResource": "eviction"},
        {"resource": PODS | {"resource": "deployments", "group": "extensions"}},
        {"resource": PODS | {"resource": "deployments", "group": "apps"}, "subResource": "scale"},
        {"resource": PODS | {"resource": "configmaps"}},
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
    again = json.loads(rejected("a", "no", {"reason": "bad-key"}, HTTPStatus.SERVICE_UNAVAILABLE))["response"]
    assert again["auditAnnotations"] == {"reason": "bad-key"}
    assert again["status"] == {"code": 503, "reason": "ServiceUnavailable", "message": "no"}


BAD_PODS: list[tuple[object, str]] = [
    (None, "request.object must be an object, not null"),
    ([], "request.object must be an object, not a list"),
    ({}, "request.object.metadata must be an object, not null"),
    ({"metadata": {}}, "request.object.spec must be an object, not null"),
    ({"metadata": {"labels": 1}, "spec": {}}, "request.object.metadata.labels must be an object, not a number"),
    (pod({"a\nb": 1}), 'request.object.metadata.labels["a\\nb"] must be a string, not a number'),
    (pod(None, {"a": True}), 'request.object.metadata.annotations["a"] must be a string, not a boolean'),
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


@pytest.mark.parametrize("name", [[], {}, 1, None])
def test_names_of_any_type_are_compared(name: object) -> None:
    web = {"name": "web", "image": "nginx", "volumeMounts": [{"name": name}]}
    asked = review(pod(ASKS, containers=[web], volumes=[{"name": name}]))
    assert of(asked).result is Result.PATCHED
