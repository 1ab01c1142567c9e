"""What LimitRanges and ResourceQuotas say of the loader.

A pod that breaks one is rejected by the API server, in words that don't name the loader, and of a Deployment only in
its ReplicaSet's events. So it is explained before: a LimitRange that no loader of these settings meets, a quota that
wants of every container what the loader does not state. What is left of a quota changes with each pod: a warning.

The rules are those of the API server's plugins LimitRanger and ResourceQuota (plugin/pkg/admission/limitranger,
pkg/quota/v1/evaluator/core).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from webhook.quantity import number, quantities, written

Object = dict[str, Any]
LIMIT_RANGE, QUOTA = "LimitRange", "ResourceQuota"
COLLECTIONS: Mapping[str, str] = {"/api/v1/limitranges": LIMIT_RANGE, "/api/v1/resourcequotas": QUOTA}

Quantities = Mapping[str, str]
_ITEM = ("min", "max", "default", "defaultRequest", "maxLimitRequestRatio")
# By kind and name: what we need of the object.
OfNamespace = dict[tuple[str, str], Any]

# A quota on "cpu" is one on requests.cpu.
_QUOTED = {f"{part}.{what}": (part, what) for part in ("requests", "limits") for what in ("cpu", "memory")}
_QUOTED |= {what: ("requests", what) for what in ("cpu", "memory")}
_TYPICAL = {"cpu": "100m", "memory": "64Mi"}


@dataclass(frozen=True)
class Breach:
    """Why the loader is rejected: by which object, in words that follow its name; what is allowed, and an example."""

    source: str
    reason: str
    allowed: str
    example: str


class Bounds:
    """All of them, by Namespace."""

    def __init__(self) -> None:
        self._known: dict[str, OfNamespace] = {}

    def of(self, namespace: str) -> OfNamespace:
        """Those of one Namespace: the same dict for ever, which follows what is stored."""
        return self._known.setdefault(namespace, {})

    def store(self, kind: str) -> "_Stored":
        """Where the objects of `kind` come in (collection.Store)."""
        return _Stored(self, kind)


class _Stored:
    def __init__(self, bounds: Bounds, kind: str) -> None:
        self._bounds = bounds
        self._kind = kind

    def whole(self, items: list[Object]) -> None:
        for each in list(self._bounds._known.values()):
            for key in list(each):  # at once: another thread changes what is of the other kind
                if key[0] == self._kind:
                    del each[key]
        for item in items:
            self.put(item)

    def put(self, item: Object) -> None:
        metadata, spec = item["metadata"], item.get("spec") or {}
        if self._kind == LIMIT_RANGE:
            kept: Any = tuple(
                [
                    {key: quantities(each.get(key)) for key in _ITEM}
                    for each in spec.get("limits") or ()
                    if each["type"] == kind
                ]
                for kind in ("Container", "Pod")
            )
        else:  # one with scopes is for some pods only, and who knows which
            some = spec.get("scopes") or spec.get("scopeSelector")
            status = item.get("status") or {}
            kept = ({}, {}) if some else (quantities(status.get("hard")), quantities(status.get("used")))
        self._bounds.of(metadata["namespace"])[self._kind, metadata["name"]] = kept

    def drop(self, item: Object) -> None:
        metadata = item["metadata"]
        self._bounds.of(metadata["namespace"]).pop((self._kind, metadata["name"]), None)


def excess(requests: Quantities, limits: Quantities) -> list[str]:
    """The resources of which more is requested than allowed: no pod may have such a container."""
    return [each for each in requests.keys() & limits.keys() if number(requests[each]) > number(limits[each])]


def breach(bounds: OfNamespace, requests: Quantities, limits: Quantities) -> Breach | None:
    """What rejects every pod with a loader of these requests and limits; None when nothing does."""
    ranges, quotas = split(bounds)
    requests, limits = with_defaults(ranges, requests, limits)
    for name, (items, _) in ranges:
        for item in items:
            for said, example in _outside(item, requests, limits):
                return _breach(f"{LIMIT_RANGE} {name}", f"forbids the loader, whose {said}", example)
    for name, (hard, _) in quotas:
        for key in hard:
            part, what = _QUOTED.get(key, ("", ""))
            if part and what not in (requests if part == "requests" else limits):
                said = f"wants {part}.{what} of every container, and the loader has none"
                return _breach(f"{QUOTA} {name}", said, chart_value(part, what, _TYPICAL[what]))
    return None


def _breach(source: str, reason: str, example: str) -> Breach:
    return Breach(source, reason, "loader.resources in podrate's chart that it allows, or another of its kind", example)


def chart_value(part: str, what: str, quantity: str) -> str:
    """How the operator gives every loader `quantity` of `what` as its `part`, requests or limits."""
    return f"helm upgrade --reuse-values --set loader.resources.{part}.{what}={quantity}"


def tight(bounds: OfNamespace, requests: Quantities, limits: Quantities) -> list[str]:
    """The quotas that have less left than a loader takes: a line each."""
    ranges, quotas = split(bounds)
    requests, limits = with_defaults(ranges, requests, limits)
    lines = []
    for name, (hard, used) in quotas:
        for key, most in hard.items():
            part, what = _QUOTED.get(key, ("", ""))
            taken = (requests if part == "requests" else limits).get(what)
            if taken is not None and (left := number(most) - number(used.get(key, "0"))) < number(taken):
                left = max(left, Decimal(0))
                rest = written(what, left)
                lines.append(f"podrate: {QUOTA} {name} has {rest} of {key} left; a pod's loader takes {taken}")
    return lines


def split(bounds: OfNamespace) -> tuple[list[Any], list[Any]]:
    """LimitRanges and quotas by name, as they are now: another thread changes them.

    Of a LimitRange the items of type Container, and those of type Pod.
    """
    items = sorted(bounds.copy().items(), key=lambda item: item[0])
    ranges, quotas = (
        [(name, kept) for (kind, name), kept in items if kind == wanted] for wanted in (LIMIT_RANGE, QUOTA)
    )
    return ranges, quotas


def with_defaults(ranges: Sequence[Any], requests: Quantities, limits: Quantities) -> tuple[Quantities, Quantities]:
    """As LimitRanger completes a container: its own limit is its request by default."""
    items = [item for _, (containers, _) in ranges for item in containers]
    default_requests, default_limits = (
        {what: quantity for item in items for what, quantity in item[key].items()}
        for key in ("defaultRequest", "default")
    )
    return {**default_requests, **limits, **requests}, {**default_limits, **limits}


def _outside(item: Mapping[str, Any], requests: Quantities, limits: Quantities) -> Iterator[tuple[str, str]]:
    """What of the loader is outside of an item of a LimitRange, and how it would be inside."""
    for what, least in item["min"].items():
        for part, stated in (("requests", requests), ("limits", limits)):
            if what in stated and number(stated[what]) < number(least):
                yield f"{part}.{what} of {stated[what]} is below {least}", chart_value(part, what, least)
    for what, most in item["max"].items():
        for part, stated in (("limits", limits), ("requests", requests)):
            if what in stated and number(stated[what]) > number(most):
                yield f"{part}.{what} of {stated[what]} is above {most}", chart_value(part, what, most)
    for what, ratio in item["maxLimitRequestRatio"].items():
        if what in requests and what in limits and number(limits[what]) > number(requests[what]) * number(ratio) > 0:
            said = f"limits.{what} of {limits[what]} is more than {ratio} times its request, {requests[what]}"
            yield said, chart_value("requests", what, written(what, number(limits[what]) / number(ratio)))
