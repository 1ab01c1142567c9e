"""LimitRanges of type Pod, and a pod with the loader; admission/test_bounds.py compares it with the API server."""

from dataclasses import replace
from typing import Any

import pytest

from tests.webhook.deciding import ASKS, SETTINGS, after, of
from tests.webhook.reviews import pod, review
from tests.webhook.test_bounds import limit_range, shop
from tests.webhook.test_templates import applied, workload
from webhook.decision import Reason, Result


def sized(size: dict[str, str], **spec: object) -> dict[str, Any]:
    """A pod that asks, with a container of these requests and limits."""
    container = {"name": "web", "image": "nginx", "resources": {"requests": size, "limits": size}}
    return pod(ASKS, containers=[container], **spec)


@pytest.mark.parametrize(
    ("item", "it", "reason", "allowed", "example"),
    [
        (
            {"max": {"memory": "1Gi"}},
            sized({"memory": "1Gi"}),
            "allows a pod limits.memory of 1Gi, and with the loader's 64Mi this one has 1088Mi",
            "at most 960Mi for the pod's own containers",
            "resources.limits.memory: 960Mi",
        ),
        (
            {"max": {"cpu": "50m"}},
            sized({"cpu": "10m"}),
            "allows a pod limits.cpu of 50m, and with the loader's 100m this one has 110m",
            "less for the loader in podrate's chart, or another LimitRange",
            "helm upgrade --reuse-values --set loader.resources.limits.cpu=25m",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "1"}},
            sized({"cpu": "100m"}),
            "allows a pod limits.cpu of 1 times its requests, and with the loader this one has 200m and 101m",
            "requests in podrate's chart that keep to it, or another LimitRange",
            "helm upgrade --reuse-values --set loader.resources.requests.cpu=100m",
        ),
        (
            {"min": {"memory": "100Mi"}},
            pod(ASKS, containers=[{"name": "web", "resources": {"requests": {"memory": "200Mi"}}}]),
            "wants limits.memory of 100Mi of a pod, and with the loader's 64Mi this one has 64Mi",
            "limits.memory for the pod's own containers, as much as that",
            "resources.limits.memory: 100Mi",
        ),
    ],
    ids=lambda it: str(it)[:40],
)
def test_a_bound_that_the_loader_breaks(
    item: dict[str, dict[str, str]], it: dict[str, Any], reason: str, allowed: str, example: str
) -> None:
    namespace = shop(ranges=[limit_range(item, of_type="Pod")])
    decision = of(review(it), namespace)
    assert (decision.result, decision.reason) == (Result.REJECTED, Reason.RESOURCES)
    said = f'"10M": LimitRange limits of Namespace shop {reason}. Allowed: {allowed}. Example: {example}'
    assert decision.line == f"podrate.io/bandwidth: {said}"
    template = applied("Deployment", workload("Deployment", it), namespace=namespace)
    assert template.line == f"spec.template.metadata.labels[podrate.io/bandwidth]: {said}"


def test_a_bound_that_a_pod_keeps_with_the_loader_too() -> None:
    namespace = shop(ranges=[limit_range({"maxLimitRequestRatio": {"cpu": "2"}}, of_type="Pod")])
    assert of(review(sized({"cpu": "100m"})), namespace).result is Result.PATCHED, "200m is less than twice 101m"


def test_what_the_pod_breaks_itself_is_for_the_api_server_to_say() -> None:
    for item in ({"max": {"memory": "1Gi"}}, {"min": {"memory": "4Gi"}}, {"maxLimitRequestRatio": {"cpu": "2"}}):
        namespace = shop(ranges=[limit_range(item, of_type="Pod")])
        for it in (sized({"memory": "2Gi"}), pod(ASKS)):
            assert of(review(it), namespace).result is Result.PATCHED


def test_a_loader_that_ends_runs_beside_nothing() -> None:
    namespace = shop(ranges=[limit_range({"max": {"memory": "1Gi"}}, of_type="Pod")])
    assert of(review(sized({"memory": "1Gi"})), namespace, replace(SETTINGS, once=True)).result is Result.PATCHED


def test_an_init_container_runs_beside_a_loader_that_stays() -> None:
    namespace = shop(ranges=[limit_range({"max": {"memory": "1Gi"}}, of_type="Pod")])
    first = {"name": "first", "resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}}
    it = sized({"memory": "16Mi"}, initContainers=[first])
    assert "with the loader's 64Mi this one has 1088Mi" in of(review(it), namespace).line
    staying = sized({"memory": "512Mi"}, initContainers=[first | {"restartPolicy": "Always"}])
    assert of(review(staying), namespace).result is Result.PATCHED, "1.5Gi is too much without the loader"
    assert of(review(it), namespace, replace(SETTINGS, once=True)).result is Result.PATCHED


def test_the_loader_is_counted_once() -> None:
    namespace = shop(ranges=[limit_range({"max": {"memory": "1Gi"}}, of_type="Pod")])
    before = sized({"memory": "960Mi"})
    again = after(before, of(review(before), namespace))
    assert of(review(again), namespace).line == "has it all already"


def test_a_default_counts_as_if_it_were_written() -> None:
    both = limit_range({"default": {"memory": "1Gi"}})
    both["spec"]["limits"].append({"type": "Pod", "max": {"memory": "1Gi"}})
    decision = of(review(pod(ASKS)), shop(ranges=[both]))
    assert "with the loader's 64Mi this one has 1088Mi" in decision.line


def test_where_a_pod_has_requests_as_a_whole_the_loader_has_none_of_its_own() -> None:
    """More than the containers' sum is what the API server checks (validatePodResourceConsistency)."""
    for whole, expected in (
        ({"cpu": "100m"}, {"cpu": "0", "memory": "16Mi"}),
        ({"cpu": "1", "memory": "1Gi"}, {"cpu": "0", "memory": "0"}),
        ({"hugepages-2Mi": "2Mi"}, dict(SETTINGS.requests)),
    ):
        before = sized({"cpu": "100m"}, resources={"requests": whole})
        it = after(before, of(review(before)))
        assert it["spec"]["initContainers"][0]["resources"] == {"requests": expected, "limits": dict(SETTINGS.limits)}
        assert of(review(it)).line == "has it all already"
    nothing: list[Any] = [{}, {"limits": {"cpu": "1"}}, {"requests": {}}, None]
    for none in nothing:
        before = sized({"cpu": "100m"}, resources=none)
        resources = after(before, of(review(before)))["spec"]["initContainers"][0]["resources"]
        assert resources["requests"] == dict(SETTINGS.requests)
