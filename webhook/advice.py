"""What is accepted and yet likely to be a mistake: the warnings that kubectl prints."""

from collections.abc import Mapping, Sequence

from bandwidth.duration import format_duration
from bandwidth.keys import KUBERNETES, Asked
from bandwidth.limit import Limit
from bandwidth.rate import format_rate

SLOW = 64_000  # bit/s: at less, a page of the web takes minutes, and TCP's own timers give up
FAST = 10_000_000_000  # bit/s: few nodes have more, so that it is no limit, or a prefix too much
LONG = 1_000_000_000  # ns: who may send at full speed for longer is not limited by most people's measure


def warnings(limit: Limit, annotations: Mapping[str, str], asked: Asked, *, kubernetes: bool) -> Sequence[str]:
    """Lines about a pod that gets `limit`, for its `annotations` and what they were read as.

    kubernetes:  whether Kubernetes' own annotations ask for a limit
    """
    return (*_about_limit(limit), *_about_annotations(annotations, asked, kubernetes=kubernetes))


def _about_limit(limit: Limit) -> list[str]:
    lines = []
    for direction, rate in (("egress", limit.egress), ("ingress", limit.ingress)):
        if rate is not None and rate < SLOW:
            lines.append(f"podrate: {direction} is limited to {format_rate(rate)}bit/s; below 64k TCP hardly works")
        if rate is not None and rate > FAST:
            lines.append(f"podrate: {direction} is limited to {format_rate(rate)}bit/s; few nodes have more than 10G")
    if limit.burst is not None and limit.burst > LONG:
        lines.append(f"podrate: a burst of {format_duration(limit.burst)} exceeds the limit for longer than a second")
    return lines


def _about_annotations(annotations: Mapping[str, str], asked: Asked, *, kubernetes: bool) -> list[str]:
    lines = []
    for alias, key in KUBERNETES.items():
        if alias not in annotations:
            continue
        if not kubernetes:
            lines.append(f"podrate: where the CNI plugin bandwidth runs, {alias} limits this pod a second time")
        elif asked.names.get(key, "").removesuffix("]").endswith(alias):
            lines.append(f"podrate: {alias} is deprecated here; write {key}: {annotations[alias]}")
        else:
            lines.append(f"podrate: {alias} has no effect beside podrate's own keys")
    return [line if line.isascii() and line.isprintable() else ascii(line)[1:-1] for line in lines]
