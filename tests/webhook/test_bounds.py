"""What LimitRanges and ResourceQuotas say of the loader; admission/test_bounds.py compares it with the API server."""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.webhook.deciding import ASKS, SETTINGS, of
from tests.webhook.reviews import pod, review
from tests.webhook.test_templates import applied, workload
from webhook.bounds import LIMIT_RANGE, QUOTA, Bounds, breach
from webhook.decision import Reason, Result
from webhook.namespace import Namespace

LIMITS = dict(SETTINGS.limits)


def limit_range(item: dict[str, dict[str, str]], name: str = "limits", of_type: str = "Container") -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop"}
    return {"metadata": metadata, "spec": {"limits": [{"type": of_type} | item]}}


def quota(hard: dict[str, str], used: dict[str, str] | None = None, **spec: object) -> dict[str, Any]:
    metadata = {"name": "quota", "namespace": "shop"}
    return {"metadata": metadata, "spec": {"hard": hard} | spec, "status": {"hard": hard, "used": used or {}}}


def shop(*, ranges: list[dict[str, Any]] | None = None, quotas: list[dict[str, Any]] | None = None) -> Namespace:
    bounds = Bounds()
    bounds.store(LIMIT_RANGE).whole(ranges or [])
    bounds.store(QUOTA).whole(quotas or [])
    return Namespace("shop", bounds=bounds.of("shop"))


@pytest.mark.parametrize(
    ("item", "said", "example"),
    [
        ({"min": {"cpu": "50m"}}, "requests.cpu of 1m is below 50m", "requests.cpu=50m"),
        ({"min": {"memory": "0.5Gi"}}, "requests.memory of 16Mi is below 0.5Gi", "requests.memory=0.5Gi"),
        ({"max": {"cpu": "50e-3"}}, "limits.cpu of 100m is above 50e-3", "limits.cpu=50e-3"),
        ({"max": {"memory": "60000k"}}, "limits.memory of 64Mi is above 60000k", "limits.memory=60000k"),
        (
            {"maxLimitRequestRatio": {"cpu": "30"}},
            "limits.cpu of 100m is more than 30 times its request, 1m",
            "requests.cpu=4m",
        ),
        (
            {"maxLimitRequestRatio": {"memory": "3"}},
            "limits.memory of 64Mi is more than 3 times its request, 16Mi",
            "requests.memory=22Mi",
        ),
    ],
    ids=str,
)
def test_a_limit_range_that_no_loader_meets(item: dict[str, dict[str, str]], said: str, example: str) -> None:
    namespace = shop(ranges=[limit_range(item)])
    decision = of(review(pod(ASKS)), namespace)
    assert (decision.result, decision.reason) == (Result.REJECTED, Reason.RESOURCES)
    assert decision.line == (
        f'podrate.io/bandwidth: "10M": LimitRange limits of Namespace shop forbids the loader, whose {said}. '
        "Allowed: loader.resources in podrate's chart that it allows, or another of its kind. "
        f"Example: helm upgrade --reuse-values --set loader.resources.{example}"
    )
    template = applied("Deployment", workload("Deployment", pod(ASKS)), namespace=namespace)
    assert template.line == f"spec.template.metadata.labels[podrate.io/bandwidth]{decision.line[20:]}"
    assert of(review(pod()), namespace).result is Result.ALLOWED, "who does not ask is not told"


@pytest.mark.parametrize(
    "other",
    [
        limit_range({"min": {"cpu": "1m", "memory": "16Mi"}, "max": {"cpu": "100m", "memory": "64Mi"}}),
        limit_range({"maxLimitRequestRatio": {"cpu": "100", "memory": "4"}}),
        limit_range({"min": {"ephemeral-storage": "1Gi"}, "defaultRequest": {"ephemeral-storage": "1Gi"}}),
        limit_range({"max": {"cpu": "1m"}}, of_type="Pod"),
        limit_range({"min": {"storage": "1Gi"}}, of_type="PersistentVolumeClaim"),
        limit_range({"min": {"cpu": "many"}, "max": {"memory": "1.2.3"}}),
    ],
    ids=lambda it: str(it["spec"]["limits"]),
)
def test_others_are_met(other: dict[str, Any]) -> None:
    decision = of(review(pod(ASKS)), shop(ranges=[other]))
    assert (decision.result, decision.warnings) == (Result.PATCHED, ())


def test_a_quota_wants_of_every_container_what_it_counts() -> None:
    """Ours states requests and limits of both, unless the operator took them away."""
    bounds = shop(quotas=[quota({"limits.cpu": "10", "pods": "5", "requests.ephemeral-storage": "1Gi"})]).bounds
    assert breach(bounds, {"cpu": "1m", "memory": "16Mi"}, LIMITS) is None
    found = breach(bounds, {"cpu": "1m"}, {"memory": "64Mi"})
    assert found is not None
    assert f"{found.source} {found.reason}" == (
        "ResourceQuota quota wants limits.cpu of every container, and the loader has none"
    )
    default = shop(
        ranges=[limit_range({"default": {"cpu": "50m"}})],
        quotas=[quota({"limits.cpu": "10"})],
    ).bounds
    assert breach(default, {"cpu": "1m"}, {"memory": "64Mi"}) is None, "the LimitRange gives it one"


@pytest.mark.parametrize(
    ("hard", "used", "warnings"),
    [
        ({"limits.cpu": "1"}, {"limits.cpu": "900m"}, ()),
        (
            {"limits.cpu": "1"},
            {"limits.cpu": "950m"},
            ("podrate: ResourceQuota quota has 50m of limits.cpu left; a pod's loader takes 100m",),
        ),
        (
            {"memory": "1Gi", "pods": "0"},
            {"memory": "2Gi"},
            ("podrate: ResourceQuota quota has 0Mi of memory left; a pod's loader takes 16Mi",),
        ),
        ({"limits.ephemeral-storage": "0"}, {}, ()),
    ],
)
def test_what_is_left_of_a_quota_is_warned_of(
    hard: dict[str, str], used: dict[str, str], warnings: tuple[str, ...]
) -> None:
    namespace = shop(quotas=[quota(hard, used)])
    assert tuple(of(review(pod(ASKS)), namespace).warnings) == warnings
    template = applied("Job", workload("Job", pod(ASKS)), namespace=namespace)
    assert (template.result, tuple(template.warnings)) == (Result.ALLOWED, warnings)
    assert of(review(pod()), namespace).warnings == ()
    some = shop(quotas=[quota(hard, used, scopes=["NotTerminating"])])
    assert of(review(pod(ASKS)), some).warnings == (), "of which pods it counts we know nothing"


def test_what_is_stored_follows() -> None:
    bounds = Bounds()
    namespace = Namespace("shop", bounds=bounds.of("shop"))
    ranges, quotas = bounds.store(LIMIT_RANGE), bounds.store(QUOTA)
    ranges.put(limit_range({"min": {"cpu": "1"}}))
    assert of(review(pod(ASKS)), namespace).reason is Reason.RESOURCES
    quotas.whole([quota({"limits.cpu": "0"})])
    ranges.put(limit_range({"min": {"cpu": "1m"}}))
    assert len(of(review(pod(ASKS)), namespace).warnings) == 1
    quotas.drop(quota({}))
    ranges.drop(limit_range({}))
    ranges.drop(limit_range({}))
    assert namespace.bounds == {}
    ranges.whole([limit_range({"min": {"cpu": "1"}})])
    ranges.whole([])
    assert namespace.bounds == {}


def test_two_kinds_are_listed_and_watched_at_once() -> None:
    """Each in a thread of its own, which an exception would end: nothing would follow what is stored."""
    kept = Bounds()
    quotas = [quota({"pods": "9"}) | {"metadata": {"namespace": "shop", "name": f"q{n}"}} for n in range(50)]

    def watches() -> None:
        for _ in range(500):
            for each in quotas:
                kept.store(QUOTA).put(each)
            for each in quotas:
                kept.store(QUOTA).drop(each)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor() as threads:
            watching = threads.submit(watches)
            while not watching.done():
                kept.store(LIMIT_RANGE).whole([])
            watching.result()
    finally:
        sys.setswitchinterval(before)
    assert kept.of("shop") == {}
