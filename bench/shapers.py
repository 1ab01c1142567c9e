"""The shapers that are compared: podrate, and what the kernel has had for decades."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

from bandwidth.limit import Limit
from bench.cgroup import Cgroup
from bench.iperf import Direction
from bench.lab import Lab, Namespace

# How many packets the shaper has dropped so far.
Dropped = Callable[[], int]

_TBF_LATENCY = "25ms"


@contextmanager
def _none(_lab: Lab, _cgroup: Cgroup, _direction: Direction, _rate: int) -> Iterator[Dropped]:
    yield lambda: 0


@contextmanager
def _podrate(_lab: Lab, cgroup: Cgroup, direction: Direction, rate: int) -> Iterator[Dropped]:
    """On the pod's cgroup, as the sidecar does it."""
    from loader import bpf  # loads libbpf, which the other shapers can do without
    from loader.bucket import EGRESS, INGRESS
    from loader.shaper import Shaper

    egress = direction == "egress"
    with Shaper() as shaper:
        shaper.buckets.set(Limit(egress=rate) if egress else Limit(ingress=rate))
        shaper.attach(str(cgroup.path), bpf.EXCLUSIVE)
        yield lambda: shaper.buckets.counters(EGRESS if egress else INGRESS).dropped_packets


@contextmanager
def _queue(lab: Lab, cgroup: Cgroup, direction: Direction, rate: int) -> Iterator[Dropped]:
    """podrate with its ingress queue; for egress there is none."""
    from loader import queue

    with _podrate(lab, cgroup, direction, rate) as dropped:
        if direction == "egress":
            yield dropped
            return
        lab.pod.run(["ip", "route", "add", "default", "via", lab.peer.v4])
        with ThreadPoolExecutor(1, initializer=lab.pod.enter) as inside:
            inside.submit(queue.put, rate).result()
            yield lambda: dropped() + _qdisc_drops(lab.pod, queue.DEVICE)


@contextmanager
def _tbf(lab: Lab, _cgroup: Cgroup, direction: Direction, rate: int) -> Iterator[Dropped]:
    """tc-tbf(8) on the sender's device."""
    sender = _sender(lab, direction)
    add = ["tc", "qdisc", "add", "dev", sender.device, "root", "tbf"]
    sender.run([*add, "rate", f"{rate}bit", "burst", str(_burst(rate)), "latency", _TBF_LATENCY])
    yield lambda: _qdisc_drops(sender)


@contextmanager
def _htb(lab: Lab, _cgroup: Cgroup, direction: Direction, rate: int) -> Iterator[Dropped]:
    """tc-htb(8) on the sender's device, with its default queue of 1000 packets."""
    sender = _sender(lab, direction)
    sender.run(["tc", "qdisc", "add", "dev", sender.device, "root", "handle", "1:", "htb", "default", "1"])
    add = ["tc", "class", "add", "dev", sender.device, "parent", "1:", "classid", "1:1", "htb"]
    burst = str(_burst(rate))
    sender.run([*add, "rate", f"{rate}bit", "burst", burst, "cburst", burst])
    yield lambda: _qdisc_drops(sender)


# By name: each puts its limit of `rate` bits/s in force in a fresh lab, and is gone with the lab.
SHAPERS: dict[str, Callable[[Lab, Cgroup, Direction, int], AbstractContextManager[Dropped]]] = {
    "podrate": _podrate,
    "queue": _queue,
    "tbf": _tbf,
    "htb": _htb,
    "none": _none,
}


def _sender(lab: Lab, direction: Direction) -> Namespace:
    # A qdisc holds back what leaves a device: for ingress that is the far end's, as a node's end of the pod's veth.
    return lab.pod if direction == "egress" else lab.peer


def _burst(rate: int) -> int:
    """Bytes: 20 ms at the limit, and a packet of 10 full segments at the least."""
    return max(rate // 8 // 50, 16_000)


def _qdisc_drops(namespace: Namespace, device: str = "") -> int:
    listed = json.loads(namespace.run(["tc", "-s", "-j", "qdisc", "show", "dev", device or namespace.device]))
    return sum(int(qdisc["drops"]) for qdisc in listed if qdisc.get("root"))
