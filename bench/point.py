"""One point of the benchmark: a limit, some traffic, and the shapers that have to cope with it."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields

from bandwidth.rate import format_rate
from bench import iperf, meter, probe
from bench.cgroup import Cgroup
from bench.iperf import Direction, Protocol, Traffic, Transfer
from bench.lab import Lab
from bench.shapers import SHAPERS

UDP_LOAD = 2  # UDP is sent at so many times the limit: it does not slow down by itself
_START = 0.2  # seconds in which TCP may be above the limit
_WINDOW = 0.1  # seconds
_PROBE_LOAD = 0.01  # of the limit: a probe asks no more often, for what it uses the traffic can't have
_EXCHANGE = 1600  # bits of a request, an answer's acknowledgment and their headers
_BEGUN = 1000  # bytes in one of the meter's steps: more than neighbours, less than what any traffic begins with


@dataclass(frozen=True)
class Point:
    """The parameters: `rate` is the limit in bits/s, `rtt` in seconds, the rest as in iperf.Traffic."""

    rate: int
    flows: int = 1
    rtt: float = 0
    direction: Direction = "egress"
    protocol: Protocol = "tcp"
    congestion: str = "cubic"
    seconds: int = 5

    @property
    def name(self) -> str:
        """For example "egress cubic 100M x16 20ms"."""
        traffic = "udp" if self.protocol == "udp" else self.congestion
        return f"{self.direction} {traffic} {format_rate(self.rate)} x{self.flows} {self.rtt * 1e3:g}ms"

    def traffic(self) -> Traffic:
        """What is sent."""
        rate = UDP_LOAD * self.rate / self.flows if self.protocol == "udp" else None
        return Traffic(self.direction, self.protocol, self.flows, self.seconds, self.congestion, rate)


@dataclass(frozen=True)
class Measured:
    """One shaper at one point; from several runs, the median of each field by itself.

    goodput_ratio:       payload that arrived, to the limit; TCP can't exceed .957
    worst_window_ratio:  the 0.1 s in which most arrived, after the first 0.2 s, to the limit. Egress: any 0.1 s (in
                         steps of 10 ms), in bytes on the wire, as the kernel of the peer received them. Ingress: as
                         the receiver reports its payload, for no meter stands behind podrate's hook
    retransmits:         segments sent again
    jain:                fairness among the flows (Jain, Chiu and Hawe, 1984): 1 is equal, 1/flows is one has all
    rr_p50_ms, rr_p99_ms:  64 bytes to the peer and back, asked in the pod's cgroup beside the traffic
    rr_outside_p99_ms:   the same outside the cgroup, through the same device
    dropped:             packets that the shaper dropped
    """

    goodput_ratio: float
    worst_window_ratio: float
    retransmits: float
    jain: float
    rr_p50_ms: float
    rr_p99_ms: float
    rr_outside_p99_ms: float
    dropped: float


@dataclass(frozen=True)
class Observed:
    """One run: its figures, the answers' times in the pod in seconds, and bits/s of each 0.1 s on the wire."""

    measured: Measured
    times: list[float]
    rates: list[float]


def measure(
    point: Point, shapers: Sequence[str], runs: int, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Measured]:
    """Each shaper `runs` times at `point`, in turn, so that what disturbs the machine disturbs all of them alike."""
    measured: dict[str, list[Measured]] = {shaper: [] for shaper in shapers}
    for _ in range(runs):
        for shaper in shapers:
            measured[shaper].append(observe(point, shaper).measured)
            progress(shaper)
    return {shaper: _median(each) for shaper, each in measured.items()}


def as_json(point: Point, measured: Mapping[str, Measured]) -> list[dict[str, object]]:
    """One object a shaper: its name, the point's parameters, what was measured."""
    return [{"shaper": shaper, **asdict(point), **asdict(each)} for shaper, each in measured.items()]


def observe(point: Point, shaper: str) -> Observed:
    """One run of one shaper."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(rtt=point.rtt))
        pod = stack.enter_context(Cgroup("bench", "pod"))
        app = pod.child("app")
        dropped = stack.enter_context(SHAPERS[shaper](lab, pod, point.direction, point.rate))
        server = stack.enter_context(probe.Server(lab.peer))
        wire = stack.enter_context(meter.Meter(lab.peer if point.direction == "egress" else lab.pod))
        run = stack.enter_context(iperf.Run(lab, point.traffic(), app))
        interval = max(0.01, _EXCHANGE / (_PROBE_LOAD * point.rate))
        inside = stack.enter_context(probe.Probe(lab.pod, server, point.seconds, app, interval))
        outside = stack.enter_context(probe.Probe(lab.pod, server, point.seconds, interval=interval))
        transfer = run.wait()
        arrived = since_begun(wire.arrived())
        in_pod, beside = inside.wait(), outside.wait()
        worst = worst_window(arrived) if point.direction == "egress" else worst_interval(transfer)
        measured = Measured(
            goodput_ratio=transfer.goodput / point.rate,
            worst_window_ratio=worst / point.rate,
            retransmits=transfer.retransmits,
            jain=jain(transfer.flows),
            rr_p50_ms=percentile(in_pod, 50) * 1e3,
            rr_p99_ms=percentile(in_pod, 99) * 1e3,
            rr_outside_p99_ms=percentile(beside, 99) * 1e3,
            dropped=dropped(),
        )
        window = round(_WINDOW / meter.STEP)
        windows = [arrived[i : i + window] for i in range(0, round(point.seconds / meter.STEP), window)]
        return Observed(measured, in_pod, [sum(each) * 8 / _WINDOW for each in windows])


def _median(runs: Sequence[Measured]) -> Measured:
    return Measured(
        **{field.name: statistics.median(getattr(run, field.name) for run in runs) for field in fields(Measured)}
    )


def since_begun(arrived: Sequence[int]) -> Sequence[int]:
    """Of a meter's steps, those from the first in which there was traffic."""
    first = next((i for i, size in enumerate(arrived) if size >= _BEGUN), len(arrived))
    return arrived[first:]


def worst_window(arrived: Sequence[int]) -> float:
    """The highest rate over _WINDOW, in bits/s, after _START; `arrived` is bytes in each of a meter's steps."""
    start, window = round(_START / meter.STEP), round(_WINDOW / meter.STEP)
    sums = [sum(arrived[i : i + window]) for i in range(start, max(start, len(arrived) - window) + 1)]
    return max(sums) * 8 / _WINDOW


def worst_interval(transfer: Transfer) -> float:
    """The highest rate over _WINDOW or longer, in bits/s, after _START; by the receiver's own report."""
    worst = bits = seconds = 0.0
    for interval in transfer.intervals:
        if interval.start < _START - 0.01:
            continue
        bits += interval.bits
        seconds += interval.end - interval.start
        # A receiver that was kept waiting for the CPU reports a late interval, then a short one.
        if seconds >= 0.9 * _WINDOW:
            worst = max(worst, bits / seconds)
            bits = seconds = 0.0
    return worst


def jain(flows: Sequence[float]) -> float:
    """Jain's index of the flows' rates."""
    squares = sum(rate * rate for rate in flows)
    return sum(flows) ** 2 / (len(flows) * squares) if squares else 0.0


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that at least `percent` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]
