"""Every place of a review with every type of JSON in it, one at a time: where chance does not come, an order does."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.webhook.deciding import ASKS, LIMIT, SETTINGS, loaded
from tests.webhook.reviews import pod, review
from tests.webhook.test_templates import KINDS, workload
from webhook.decide import decide
from webhook.decision import Result
from webhook.namespace import Namespace
from webhook.request import BadRequest
from webhook.review import MAX_BYTES, allowed, parse, rejected
from webhook.sidecar import VOLUMES, container

# orjson reads no more than 1024 levels; the objects begin some ten levels down. Not as an object: json can't write it.
NESTED = "nested"
DEEP = '[{"a":' * 490 + "1" + "}]" * 490
ANYTHING: list[object] = [None, True, 0, -1.5, 2**60, "", "\u202e\n", [], [None], [{}], {}, {"name": {}}, NESTED]
FULL = pod(
    ASKS | {"podrate.io/burst": "20ms", "podrate.io/inject": "true"},
    {"kubernetes.io/egress-bandwidth": "1M", "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes": "a"},
    initContainers=[container(SETTINGS)],
    ephemeralContainers=[{"name": "debugger", "volumeMounts": [{"name": "x"}]}],
    volumes=[*VOLUMES, {"name": "data"}],
    imagePullSecrets=[{"name": "mine"}],
    hostNetwork=False,
    hostUsers=True,
    runtimeClassName="runc",
    os={"name": "linux"},
    nodeSelector={"kubernetes.io/os": "linux"},
)
RUNS, RAN = loaded(ASKS, {LIMIT: "{}"}), loaded({}, {LIMIT: "x"})
TEMPLATE = workload("CronJob", FULL, ASKS)
NAMESPACE = {"metadata": {"name": "shop", "labels": {"podrate.io/max-bandwidth": "10M"}, "annotations": {"a": "b"}}}


def about(group: str, resource: str, subresource: str | None = None) -> dict[str, Any]:
    return {"resource": {"group": group, "version": "v1", "resource": resource}, "subResource": subresource}


REVIEWS: dict[str, dict[str, Any]] = {
    "create": review(FULL),
    "update": review(RUNS, RAN),
    "as before": review(RUNS, RUNS),
    "status": review(RAN, RUNS, **about("", "pods", "status")),
    "ephemeral": review(FULL, FULL, **about("", "pods", "ephemeralcontainers")),
    "exec": review({"container": "web"}, operation="CONNECT", **about("", "pods", "exec")),
    "template": review(TEMPLATE, workload("CronJob", pod()), **about(*KINDS["CronJob"][:2])),
    "namespace": review(NAMESPACE, {"metadata": {"name": "shop"}}, **about("", "namespaces")),
    "binding": review({"metadata": {"labels": {"a": "b"}, "annotations": {}}}, **about("", "bindings")),
}


def places(it: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = it.items() if isinstance(it, dict) else enumerate(it) if isinstance(it, list) else ()
    for key, below in inside:
        yield (*path, key)
        yield from places(below, (*path, key))


def answered(body: bytes) -> None:
    """There is an answer, in one line of printable ASCII that is no longer than a person reads."""
    try:
        request = parse(body)
        decision = decide(request, SETTINGS, Namespace("shop", {"podrate.io/max-bandwidth": "1G"}))
    except BadRequest as error:
        assert str(error).isprintable()
        assert len(str(error)) < 2000
        return
    for line in (decision.line, *decision.warnings):
        assert line.isascii()
        assert line.isprintable()
        assert len(line) < 2000
    if decision.result is Result.REJECTED:
        rejected(request["uid"], decision.line, decision.audit, decision.status)
    else:
        allowed(request["uid"], decision.patch, decision.warnings, decision.audit)


@pytest.mark.parametrize("what", REVIEWS)
def test_every_type_in_every_place(what: str) -> None:
    count = 0
    for path in places(REVIEWS[what]):
        asked = copy.deepcopy(REVIEWS[what])
        here: Any = asked
        for key in path[:-1]:
            here = here[key]
        for anything in ANYTHING:
            here[path[-1]] = anything
            try:
                answered(json.dumps(asked).replace(f'"{NESTED}"', DEEP).encode())
            except Exception as error:
                pytest.fail(f"{'.'.join(map(str, path))} = {ascii(anything)[:40]}: {error!r}"[:1000])
            count += 1
    assert count > 100


@pytest.mark.parametrize("size", [64, 317, MAX_BYTES // 4])
def test_long_keys_and_values_are_cut_in_the_answer(size: int) -> None:
    """The API server asks us before it looks at their length itself."""
    for text in ("a" * size, "\u00e9" * size, "\n" * size):
        for labels in (ASKS | {f"podrate.io/{text}": "x"}, ASKS | {"podrate.io/egress": text}, ASKS | {"app": text}):
            for about_it in (review(pod(labels)), review(pod({}, labels))):
                answered(json.dumps(about_it).encode())
        answered(json.dumps(review(pod(ASKS, runtimeClassName="kata-" + text))).encode())
        answered(
            json.dumps(
                review(
                    {"metadata": {"name": text, "labels": {"podrate.io/bandwidth": text}}}, **about("", "namespaces")
                )
            ).encode()
        )
        answered(
            json.dumps(review({"metadata": {"labels": {f"podrate.io/{text}": text}}}, **about("", "bindings"))).encode()
        )
        answered(
            json.dumps(
                review(workload("Job", pod({}), {f"podrate.io/{text}": "1M"}), **about("batch", "jobs"))
            ).encode()
        )
