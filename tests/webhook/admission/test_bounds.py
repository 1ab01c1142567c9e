"""LimitRanges and ResourceQuotas that the loader breaks: our words beside those of the API server's own plugins."""

import collections
import contextlib
import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.webhook.admission.asking import ASKS, CREATE, created, eventually, named
from tests.webhook.admission.conftest import called
from tests.webhook.control_plane import ControlPlane
from tests.webhook.deciding import after, of
from tests.webhook.reviews import review
from tests.webhook.test_templates import workload

pytestmark = pytest.mark.usefixtures("webhook")


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


def sized(draw: random.Random) -> dict[str, Any]:
    """A pod that asks, of one or two containers, an init container sometimes, and sometimes with a size as a whole."""

    def resources() -> dict[str, dict[str, str]]:
        of_memory = draw.choice([{}, {"memory": f"{draw.choice([16, 64, 448, 512, 960, 1024])}Mi"}])
        return {"requests": of_memory} if draw.random() < 0.3 else {"requests": of_memory, "limits": of_memory}

    containers = [{"name": f"c{n}", "image": "nginx", "resources": resources()} for n in range(draw.choice([1, 2]))]
    first: dict[str, Any] = {"name": "first", "image": "nginx", "resources": resources()}
    if draw.random() < 0.5:
        first["restartPolicy"] = "Always"
    it = named("web", {"app": "web"} | ASKS, containers=containers, initContainers=draw.choice([[], [first]]))
    if draw.random() < 0.3:
        it["spec"]["resources"] = {"limits": {"memory": draw.choice(["1Gi", "2Gi"])}}
    return it


def test_a_pod_as_a_whole_is_judged_as_the_api_server_does(plane: ControlPlane) -> None:
    """Of pods that are accepted without the label: those that the loader would break are refused, and no others."""

    def create(it: dict[str, Any]) -> str:
        return plane.kubectl("-n", "bounded", *CREATE, stdin=json.dumps(it), check=False)

    seen = collections.Counter[str]()
    draw = random.Random(5)  # noqa: S311  the same pods each time
    for bound in ({"max": {"memory": "1Gi"}}, {"min": {"memory": "80Mi"}}, {"maxLimitRequestRatio": {"memory": "1"}}):
        with bounded(plane, "LimitRange", {"limits": [{"type": "Pod"} | bound]}):
            probe = named("probe", ASKS)
            probe["spec"]["containers"][0]["resources"] = {"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}
            if "min" not in bound:
                eventually("we know of it", lambda: "this one has" in create(probe))  # noqa: B023
            for _ in range(12):
                it = sized(draw)
                plain = copy.deepcopy(it)
                del plain["metadata"]["labels"]
                defaulted = create(plain)
                if not defaulted.startswith("{"):
                    seen["the pod's own"] += 1
                    continue
                said = create(it)
                injected = json.loads(defaulted)
                injected["metadata"] |= {"labels": dict(ASKS)}
                injected = after(injected, of(review(copy.deepcopy(injected))))
                del injected["metadata"]["labels"], injected["metadata"]["annotations"]
                theirs = create(injected)
                ours = "LimitRange bounds of Namespace bounded" in said
                assert ours == ("is forbidden" in theirs), (bound, it, said, theirs)
                assert ours != said.startswith("{"), (bound, it, said)
                seen["refused" if ours else "created"] += 1
    assert seen["refused"] > 3, seen
    assert seen["created"] > 3, seen


def test_a_pod_that_has_its_size_as_a_whole(plane: ControlPlane) -> None:
    """Of limits alone the API server makes requests: the sum of the containers', with no room for the loader's."""
    container = {"name": "web", "image": "nginx", "resources": {"requests": {"cpu": "100m"}}}
    for whole in ({"limits": {"cpu": "1", "memory": "1Gi"}}, {"requests": {"cpu": "100m"}}, {"limits": {"cpu": "1"}}):
        it = created(plane, named("web", ASKS, containers=[container], resources=whole), "bounded")
        assert it["spec"]["initContainers"][0]["resources"]["requests"]["cpu"] == "0"
        assert it["spec"]["resources"]["requests"]["cpu"] == "100m"


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
