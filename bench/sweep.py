"""The points that `make bench` measures, one after the other, each written down before the next begins."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

from bandwidth.rate import parse_rate
from bench import beside, cost
from bench.command import LabError
from bench.iperf import Direction
from bench.point import Point, as_json, measure, observe

# Direction, congestion control or udp, RTT in ms: then limit x flows. + compares with all shapers, * is in --quick.
# The four corners of what people run, and between them; each limit, each flow count and each RTT more than once.
PLAN = """
egress   cubic   0   1Mx1 1Mx16* 1Mx64 10Mx1* 10Mx16*+ 10Mx64 100Mx1*+ 100Mx16* 100Mx64 1Gx1* 1Gx16
egress   cubic   2   100Mx4 1Gx4*
egress   cubic  20   1Mx4 10Mx1 10Mx16* 100Mx1* 100Mx16+ 1Gx4
egress   cubic  60   10Mx4 100Mx1* 100Mx16
egress   bbr     0   10Mx4 100Mx16*
egress   bbr     2   1Gx4
egress   bbr    20   100Mx1
egress   bbr    60   10Mx16
ingress  cubic   0   10Mx4 100Mx16*
ingress  cubic   2   10Mx1 1Gx16
ingress  cubic  20   10Mx16 100Mx1* 100Mx16
egress   udp     0   10Mx1* 100Mx4
ingress  udp     0   10Mx1 100Mx4*
"""
PAIR = ("podrate", "tbf")
EVERY = (*PAIR, "htb", "none")  # but the queue, which only ingress has: `python -m bench point` measures it
CLOSEUP = Point(rate=100_000_000, flows=16)
BESIDE = ("10M", "100M")
_SETUP = 0.8  # seconds that a run takes beside its traffic


@dataclass(frozen=True)
class Planned:
    """A point, the shapers that are compared there, and whether --quick includes it."""

    point: Point
    shapers: tuple[str, ...]
    quick: bool


def plan(seconds: int) -> Iterator[Planned]:
    """PLAN's points, each run to take `seconds`."""
    for line in PLAN.strip().splitlines():
        direction, traffic, rtt, *cells = line.split()
        assert direction in get_args(Direction)  # noqa: S101  ours, a few lines above
        for cell in cells:
            rate, _, flows = cell.rstrip("*+").partition("x")
            point = Point(
                rate=parse_rate(rate, "PLAN"),
                flows=int(flows),
                rtt=float(rtt) / 1e3,
                direction=cast(Direction, direction),
                protocol="udp" if traffic == "udp" else "tcp",
                congestion="cubic" if traffic == "udp" else traffic,
                seconds=seconds,
            )
            yield Planned(point, EVERY if "+" in cell else PAIR, "*" in cell)


@dataclass(frozen=True)
class Stage:
    """Something to measure: its name, about how many seconds it takes, and the work, which fills the results."""

    name: str
    seconds: float
    work: Callable[["Results"], None]


class Results:
    """What has been measured so far, in memory and in the file `path`: as plain JSON.

    machine:  what it ran on, when, and how
    points:   one object for each point and shaper, as `point --json` prints it
    closeup:  one run of each shaper at CLOSEUP: bits/s of each 0.1 s, and milliseconds of each answer
    cost:     nanoseconds a packet, and what two CPUs at once passed of their limit
    beside:   TCP beside a UDP flood
    failed:   what could not be measured, one line each
    """

    def __init__(self, path: Path, machine: dict[str, Any]) -> None:
        self.path = path
        self.data: dict[str, Any] = {"machine": machine, "points": [], "failed": []}

    def save(self) -> None:
        """Write the file; a reader never sees half of one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(self.data, indent=1) + "\n")
        fresh.replace(self.path)


def machine(**how: object) -> dict[str, Any]:
    """What we run on: kernel, CPUs, memory and the date; and `how` it is measured."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in cpuinfo if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "kernel": os.uname().release,
        "architecture": os.uname().machine,
        "cpu": models[0] if models else "unknown",
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        **how,
    }


def stages(quick: bool, seconds: int, runs: int, wanted: str = "") -> list[Stage]:
    """What a sweep measures: all whose name contains `wanted`."""
    flood = 3 if quick else 8  # it starves slowly
    found = [
        Stage("cost of a packet", 8, _cost),
        *(
            Stage(
                f"tcp beside a udp flood, {rate}, {shaper}",
                flood + beside.MARGIN + _SETUP,
                partial(_beside, rate, shaper, flood),
            )
            for rate in BESIDE
            for shaper in PAIR
        ),
        Stage("close-up " + CLOSEUP.name, len(EVERY) * (CLOSEUP.seconds + _SETUP), _closeup),
    ]
    for planned in plan(seconds):
        if planned.quick or not quick:
            duration = runs * len(planned.shapers) * (seconds + _SETUP)
            found.append(Stage(planned.point.name, duration, _point(planned.point, planned.shapers, runs)))
    return [stage for stage in found if wanted in stage.name]


def sweep(chosen: Sequence[Stage], results: Results, progress: Callable[[Stage], None]) -> None:
    """Each of the stages in turn; the results are saved after each. One that fails is written down as failed."""
    for stage in chosen:
        try:
            stage.work(results)
        except (LabError, OSError) as error:  # an OSError is the kernel's word on a BPF program
            results.data["failed"].append(f"{stage.name}: {error}")
        results.save()
        progress(stage)


def _point(point: Point, shapers: Sequence[str], runs: int) -> Callable[[Results], None]:
    def work(results: Results) -> None:
        results.data["points"] += as_json(point, measure(point, shapers, runs))

    return work


def _closeup(results: Results) -> None:
    shapers: dict[str, object] = {}
    results.data["closeup"] = {"point": asdict(CLOSEUP), "shapers": shapers}
    for shaper in EVERY:
        observed = observe(CLOSEUP, shaper)
        shapers[shaper] = {"rates": observed.rates, "times_ms": [round(time * 1e3, 4) for time in observed.times]}


def _cost(results: Results) -> None:
    costs = [asdict(each) for each in cost.measure()]
    results.data["cost"] = {"packets": costs, "passed": cost.most_passed()}


def _beside(rate: str, shaper: str, seconds: int, results: Results) -> None:
    each = beside.measure(parse_rate(rate, "BESIDE"), shaper, seconds)
    results.data.setdefault("beside", []).append({"rate": rate, "shaper": shaper, **asdict(each)})
