"""What LimitRanges of type Pod say of a pod with the loader: that counts to what the pod has as a whole.

Added up as the API server's plugin LimitRanger does (podRequests, podLimits and the constraints in
plugin/pkg/admission/limitranger/admission.go). Only what the loader breaks is ours to say: what the pod breaks without
it, the API server says.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from webhook.bounds import LIMIT_RANGE, Breach, OfNamespace, Quantities, chart_value, split, with_defaults
from webhook.pod import Pod
from webhook.quantity import number, quantities, written
from webhook.sidecar import NAME, Settings

_WHOLE = ("cpu", "memory")  # for which a pod may say what it has as a whole (KEP-2837)

_Totals = Mapping[str, Decimal]


class _Container(NamedTuple):
    requests: Quantities
    limits: Quantities
    stays: bool


class _Crossed(NamedTuple):
    """A bound of a LimitRange, "min", "max" or "maxLimitRequestRatio", and what of a pod is beyond it."""

    bound: str
    part: str
    what: str


def breach(pod: Pod, bounds: OfNamespace, settings: Settings) -> Breach | None:
    """The bound that `pod` keeps without a loader of `settings`, and not with it; None when there is none."""
    ranges, _ = split(bounds)
    if not any(pods for _, (_, pods) in ranges):
        return None
    loader = _Container(*with_defaults(ranges, settings.requests, settings.limits), stays=not settings.once)
    containers = [_container(each, ranges) for each in pod.containers]
    others = [_container(each, ranges) for each in pod.init_containers if each.get("name") != NAME]
    whole = pod.spec.get("resources")
    without, now = (_totals(containers, first + others, whole) for first in ([], [loader]))
    for name, (_, items) in ranges:
        for item in items:
            before = {(each.bound, each.what) for each in _crossed(item, *without)}
            for each in _crossed(item, *now):
                if (each.bound, each.what) not in before:
                    return Breach(f"{LIMIT_RANGE} {name}", *_words(each, item[each.bound][each.what], loader, *now))
    return None


def _container(raw: Mapping[str, Any], ranges: Sequence[Any]) -> _Container:
    requests, limits = (quantities(_part(raw.get("resources"), part)) for part in ("requests", "limits"))
    return _Container(*with_defaults(ranges, requests, limits), stays=raw.get("restartPolicy") == "Always")


def _part(resources: object, part: str) -> object:
    return resources.get(part) if isinstance(resources, dict) else None


def _totals(containers: list[_Container], first: list[_Container], whole: object) -> tuple[_Totals, _Totals]:
    requests = _total([each.requests for each in containers], [(each.stays, each.requests) for each in first])
    limits = _total([each.limits for each in containers], [(each.stays, each.limits) for each in first])
    for part, total in (("requests", requests), ("limits", limits)):
        total |= {what: number(it) for what, it in quantities(_part(whole, part)).items() if what in _WHOLE}
    return requests, limits


def _total(containers: list[Quantities], first: list[tuple[bool, Quantities]]) -> dict[str, Decimal]:
    """Of init containers those that stay are added; each of the others runs beside those that stay before it."""
    total: dict[str, Decimal] = {}
    staying: dict[str, Decimal] = {}
    most: dict[str, Decimal] = {}
    for each in containers:
        _add(total, each)
    for stays, each in first:
        beside = staying if stays else dict(staying)
        _add(beside, each)
        if stays:
            _add(total, each)
        most |= {what: max(amount, most.get(what, amount)) for what, amount in beside.items()}
    return total | {what: max(amount, total.get(what, amount)) for what, amount in most.items()}


def _add(total: dict[str, Decimal], more: Quantities) -> None:
    for what, quantity in more.items():
        total[what] = total.get(what, Decimal(0)) + number(quantity)


def _crossed(item: Mapping[str, Quantities], requests: _Totals, limits: _Totals) -> Iterator[_Crossed]:
    for what, least in item["min"].items():
        if what not in requests or requests[what] < number(least):
            yield _Crossed("min", "requests", what)
        if what in limits and limits[what] < number(least):
            yield _Crossed("min", "limits", what)
    for what, most in item["max"].items():
        if what not in limits or limits[what] > number(most):
            yield _Crossed("max", "limits", what)
        if what in requests and requests[what] > number(most):
            yield _Crossed("max", "requests", what)
    for what, ratio in item["maxLimitRequestRatio"].items():
        request, limit = (each.get(what, Decimal(0)) for each in (requests, limits))
        if not request or not limit or limit > request * number(ratio):
            yield _Crossed("maxLimitRequestRatio", "limits", what)


def _words(
    crossed: _Crossed, bound: str, loader: _Container, requests: _Totals, limits: _Totals
) -> tuple[str, str, str]:
    """Why, what is allowed, and an example."""
    what, part = crossed.what, crossed.part
    ours, total = (loader.requests, requests) if part == "requests" else (loader.limits, limits)
    now, taken = written(what, total[what]), ours.get(what, "0")
    if crossed.bound == "maxLimitRequestRatio":
        request = written(what, requests[what])
        more = number(loader.requests.get(what, "0")) + limits[what] / number(bound) - requests[what]
        has = f"with the loader this one has {now} and {request}"
        return (
            f"allows a pod limits.{what} of {bound} times its requests, and {has}",
            "requests in podrate's chart that keep to it, or another LimitRange",
            chart_value("requests", what, written(what, more)),
        )
    if crossed.bound == "min":
        return (
            f"wants {part}.{what} of {bound} of a pod, and with the loader's {taken} this one has {now}",
            f"{part}.{what} for the pod's own containers, as much as that",
            f"resources.{part}.{what}: {bound}",
        )
    reason = f"allows a pod {part}.{what} of {bound}, and with the loader's {taken} this one has {now}"
    rest = number(bound) - number(taken)
    if rest <= 0:
        return (
            reason,
            "less for the loader in podrate's chart, or another LimitRange",
            chart_value(part, what, written(what, number(bound) / 2, most=True)),
        )
    most = written(what, rest, most=True)
    return reason, f"at most {most} for the pod's own containers", f"resources.{part}.{what}: {most}"
