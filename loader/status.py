"""podrate status: which cgroups are limited, to what, what passed, and whether anybody is held back now."""

import json
import os
from collections.abc import Iterator
from typing import Any

from bandwidth.rate import format_rate
from loader.attached import Attached, find_attached
from loader.bucket import DIRECTION_NAMES, DIRECTIONS
from loader.cgroup import mount_point
from loader.failure import Failure
from loader.parts import PARTS
from loader.queue import measured
from loader.say import printable


def limited(cgroup: str | None = None) -> Iterator[Attached]:
    """The shapers on a cgroup, or on every cgroup of this machine, each to be closed."""
    if cgroup:
        if attached := find_attached(cgroup):
            yield attached
        return
    for directory, _, _ in os.walk(mount_point()):
        try:
            attached = find_attached(directory)
        except Failure as failure:
            if failure.reason == "no-cgroup":  # removed while we looked
                continue
            raise
        if attached:
            yield attached


def describe(attached: Attached) -> dict[str, Any]:
    """What `podrate status --json` says of one cgroup: bit/s (null: no limit), wire bytes, packets, nanoseconds.

    parts: each part of the shaper (loader.parts): active; off, because this kernel was known not to have it; or
           refused, when the kernel turned out not to have it.
    """
    limit, state = attached.buckets.limit(), attached.buckets.state()
    described: dict[str, Any] = {
        "cgroup": attached.cgroup,
        "attachment": "exclusive" if attached.exclusive else "multi",
        "programs": [program.id for program in attached.programs],
        "parts": {
            name: "active" if state.parts & part else "refused" if state.wanted & part else "off"
            for part, (name, _) in PARTS.items()
        },
        "connections": state.connections,
    }
    for direction, rate in zip(DIRECTIONS, (limit.egress, limit.ingress), strict=True):
        counters = attached.buckets.counters(direction)._asdict()
        pressure = attached.buckets.pressure(direction)._asdict()
        described[DIRECTION_NAMES[direction]] = {"limit": rate, **counters, **pressure}
    found = measured(attached.cgroup)
    described["ingress_queue"] = found and found._asdict()
    return described


def status(cgroup: str | None, as_json: bool) -> int:
    """Print the limited cgroups; 0, also when there is none."""
    found = []
    for attached in limited(cgroup):
        found.append(describe(attached))
        attached.close()
    if as_json:
        print(json.dumps(found, indent=2))
        return 0
    for each in found:
        print(f"{printable(each['cgroup'])} ({each['attachment']}, programs {', '.join(map(str, each['programs']))})")
        for name in DIRECTION_NAMES:
            print(f"  {name:<8}{_line(each[name])}")
        if queue := each["ingress_queue"]:
            print(f"  queue   {_queue_line(queue)}")
        print(f"  {each['connections']} open TCP connection(s)")
        for name, without in PARTS.values():
            if each["parts"][name] != "active":
                print(f"  {name} {each['parts'][name]}: {without}")
    if not found:
        print(f"no limit on {cgroup}" if cgroup else "no cgroup on this machine is limited by podrate")
    return 0


def _queue_line(queue: dict[str, int]) -> str:
    rate = f"{format_rate(queue['rate'])}bit/s"
    return f"{rate:<14} waiting {queue['backlog']} bytes, passed {queue['packets']} packets, dropped {queue['dropped']}"


def _line(direction: dict[str, Any]) -> str:
    limit = "no limit" if direction["limit"] is None else f"{format_rate(direction['limit'])}bit/s"
    now = f"held back, debt {direction['debt_ns'] / 1e6:.0f} ms" if direction["held_back"] else "free"
    return (
        f"{limit:<14} now {now}; throttled {direction['throttled_ns'] / 1e9:.1f} s,"
        f" passed {direction['passed_packets']} packets {direction['passed_bytes']} bytes,"
        f" dropped {direction['dropped_packets']}, marked {direction['marked_packets']},"
        f" exempt {direction['exempt_packets']}"
    )
