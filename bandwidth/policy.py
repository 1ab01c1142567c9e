"""From what a pod and its Namespace say to the pod's limit.

A pod's own keys win over the Namespace's, and a direction's key over `bandwidth`. Above a cap nothing is accepted, and
below it nobody is without a limit.
"""

from collections.abc import Mapping
from typing import NamedTuple

from bandwidth.duration import format_duration
from bandwidth.invalid import Invalid
from bandwidth.keys import (
    BANDWIDTH,
    BURST,
    CAPS,
    EGRESS,
    INGRESS,
    INGRESS_QUEUE,
    INJECT,
    KEYS,
    MAX_BANDWIDTH,
    MAX_EGRESS,
    MAX_INGRESS,
    Asked,
    ours,
    read,
)
from bandwidth.limit import MAX_BURST, MAX_QUEUED_RATE, Limit
from bandwidth.rate import format_rate

_CAP_OF = {EGRESS: (MAX_EGRESS, MAX_BANDWIDTH), INGRESS: (MAX_INGRESS, MAX_BANDWIDTH)}
_PACKET = 1514 * 8  # bits on the wire of a full Ethernet frame: a burst below one could never be kept


class AboveCap(Invalid):
    """More than the Namespace allows."""


class Outcome(NamedTuple):
    """The limit of a pod, or None.

    opted_out:  whether it has none because it, or its Namespace, said so
    once:       whether the same said that nothing shall stay to change it
    """

    limit: Limit | None
    opted_out: bool = False
    once: bool = False


def namespace_rules(name: str, labels: Mapping[str, object], annotations: Mapping[str, object]) -> Asked:
    """What the Namespace `name` says for its pods: their defaults and their caps.

    Labels only: by these the API server knows which Namespaces' pods to ask us about. Raises Invalid for the first bad
    key or value, for defaults that its own caps forbid, and for a burst too short for what its pods get unasked.
    """
    where = f"Namespace {name}: metadata"
    for key, value in annotations.items():
        if ours(key):
            reason = "on a Namespace this must be a label: the API server selects Namespaces by their labels"
            example = f"kubectl label namespace {name} {BANDWIDTH}=10M"
            raise Invalid(f"{where}.annotations[{key}]", value, reason, "a label", example)
    rules = read(labels, {}, where, (*KEYS, *CAPS))
    rules.check()
    unasked = []  # the rates of a pod that says nothing
    for direction in (EGRESS, INGRESS):
        cap = _cap(rules, direction)
        if found := rules.rate(direction, BANDWIDTH):
            _refuse_above(rules, *found, cap, "its own cap")
        if rate := found or cap:
            unasked.append(rate[1])
    if unasked and rules.burst():
        _refuse_short(rules, min(unasked))
    return rules


def pod_limit(pod: Asked, namespace: Asked, *, host_network: bool = False) -> Outcome:
    """The limit of a pod that says `pod` in a Namespace that says `namespace`.

    host_network: whether it has no network namespace of its own, so no place for an ingress queue.
    Raises Invalid, or AboveCap, for the first thing that can't be.
    """
    said, default = pod.inject(), namespace.inject()
    if default == "false" and said in (None, "false"):
        return Outcome(None, opted_out=True)
    if said == "false":
        _refuse_opt_out(pod, namespace)
        return Outcome(None, opted_out=True)
    pod.check()
    egress, ingress = (_rate(pod, namespace, direction) for direction in (EGRESS, INGRESS))
    if egress is ingress is None:
        for key in (BURST, INGRESS_QUEUE):
            if key in pod.written:
                reason = "there is no limit that it could be for"
                raise Invalid(pod.names[key], pod.written[key], reason, f"it beside {BANDWIDTH}", f"{BANDWIDTH}: 10M")
        return Outcome(None)
    whose = pod if BURST in pod.written else namespace
    burst = whose.burst()
    if burst is not None:
        _refuse_short(whose, min(rate for rate in (egress, ingress) if rate is not None))
    queue = _ingress_queue(pod, namespace, ingress, host_network=host_network)
    return Outcome(Limit(egress, ingress, burst, queue), once=(said or default) == "once")


def _rate(pod: Asked, namespace: Asked, direction: str) -> int | None:
    cap = _cap(namespace, direction)
    if found := pod.rate(direction, BANDWIDTH):
        _refuse_above(pod, *found, cap, "the cap of the Namespace")
        return found[1]
    if found := namespace.rate(direction, BANDWIDTH):
        return found[1]
    return cap[1] if cap else None


def _cap(namespace: Asked, direction: str) -> tuple[str, int] | None:
    return namespace.rate(*_CAP_OF[direction])


def _refuse_above(said: Asked, key: str, rate: int, cap: tuple[str, int] | None, whose: str) -> None:
    if cap and rate > cap[1]:
        most = format_rate(cap[1])
        reason = f"it is above {whose}, {cap[0]}: {most}"
        raise AboveCap(said.names[key], said.written[key], reason, f"at most {most}", f"{key}: {most}")


def _refuse_opt_out(pod: Asked, namespace: Asked) -> None:
    for direction in (EGRESS, INGRESS):
        if cap := _cap(namespace, direction):
            reason = f"the Namespace caps its pods, {cap[0]}: {format_rate(cap[1])}, and none of them can opt out"
            allowed = "a pod without this key, or this key on the Namespace"
            raise AboveCap(
                pod.names[INJECT], pod.written[INJECT], reason, allowed, f"{BANDWIDTH}: {format_rate(cap[1])}"
            )


def _refuse_short(said: Asked, rate: int) -> None:
    refuse_short(said.names[BURST], said.written[BURST], said.burst() or 0, rate, example=f"{BURST}:")


def refuse_short(where: str, written: object, burst: int, rate: int, *, example: str) -> None:
    """Raise Invalid for a burst (ns) shorter than one packet takes at the lower of the rates (bit/s): none can keep it.

    where, written:  the key or option, and what it said
    example:         how it is written, up to its value
    """
    least = -(-_PACKET * 1_000_000_000 // rate)
    if burst >= least:
        return
    # A round number of milliseconds that is enough, so that what we suggest is accepted.
    enough = -(-least // 1_000_000) * 1_000_000
    reason = f"a full packet takes {format_duration(enough)} at {format_rate(rate)}, and no shorter burst can be kept"
    if enough > MAX_BURST:
        allowed, example = "no burst at this rate", f"a rate of {format_rate(10_000)}"
    else:
        allowed, example = f"{format_duration(enough)} to 10s at this rate", f"{example} {format_duration(enough)}"
    raise Invalid(where, written, reason, allowed, example)


def _ingress_queue(pod: Asked, namespace: Asked, ingress: int | None, *, host_network: bool) -> bool:
    """Whether there shall be one: a pod's own wish is kept or refused, a Namespace's default holds where it can."""
    obstacle = None
    if ingress is None:
        obstacle = ("there is no ingress limit to queue for", f"it beside {INGRESS} or {BANDWIDTH}", f"{INGRESS}: 10M")
    elif ingress > MAX_QUEUED_RATE:
        most = format_rate(MAX_QUEUED_RATE)
        obstacle = (
            f"a queue can't be set to {format_rate(ingress)}",
            f"an ingress limit up to {most}",
            f"{INGRESS}: {most}",
        )
    elif host_network:
        reason = "the pod is on the host's network, and its queue would hold back the whole node"
        obstacle = (reason, "a pod without hostNetwork, or without this key", '"false"')
    wanted = pod.ingress_queue()
    if wanted and obstacle:
        raise Invalid(pod.names[INGRESS_QUEUE], pod.written[INGRESS_QUEUE], *obstacle)
    if wanted is None:
        wanted = namespace.ingress_queue() and not obstacle
    return bool(wanted)
