"""podrate status: which cgroups are limited, to what, what passed, and whether anybody is held back now."""

import json
import time
from typing import Any

from bandwidth.duration import format_duration
from bandwidth.rate import format_rate
from loader.attached import others
from loader.bucket import DIRECTION_NAMES, DIRECTIONS
from loader.failure import Failure
from loader.figures import count, percent, scaled, seconds
from loader.parts import PARTS
from loader.queue import measured
from loader.say import printable
from loader.watch import Seen, Watch


def status(cgroup: str | None, *, sample: float, as_json: bool) -> int:
    """Print the limits that apply to a cgroup, its own first, or those of every cgroup; 0, also when there is none.

    sample:  seconds between the two looks at the counters; 0 is one look, which can't say what happens now
    """
    with Watch(cgroup) as watch:
        found = watch.look()
        if sample and found:
            time.sleep(sample)
            found = watch.look()
        described = describe_all(found, sampled=sample > 0)
    if as_json:
        print(json.dumps(described, indent=2))
        return 0
    print("\n\n".join("\n".join(_text(each)) for each in described) or _nothing(cgroup))
    return 0


def describe_all(found: list[Seen], *, sampled: bool) -> list[dict[str, Any]]:
    """What --json says of a look; without the cgroups that have been removed since."""
    described = []
    for each in found:
        try:
            described.append(_describe(each, sampled=sampled))
        except Failure as failure:
            if failure.reason != "no-cgroup":
                raise
    return described


def _describe(seen: Seen, *, sampled: bool) -> dict[str, Any]:
    """What `podrate status --json` says of one cgroup: bit/s (null: no limit), wire bytes, packets, nanoseconds.

    parts:   each part of the shaper (loader.parts): active; off, because this kernel was known not to have it; or
             refused, when the kernel turned out not to have it
    sample:  of each direction (loader.meter.Flow), what passed since the look before, and `use`, its share of the limit
    others:  programs that are not podrate's, on the same hooks of the same cgroup
    """
    attached = seen.attached
    limit, state = attached.buckets.limit(), attached.buckets.state()
    described: dict[str, Any] = {
        "cgroup": attached.cgroup,
        "name": seen.name,
        "attachment": "exclusive" if attached.exclusive else "multi",
        "programs": [program.id for program in attached.programs],
        "others": [other._asdict() for other in others(attached.cgroup)],
        "burst_ns": limit.burst,
        "parts": {
            name: "active" if state.parts & part else "refused" if state.wanted & part else "off"
            for part, (name, _) in PARTS.items()
        },
        "connections": state.connections,
    }
    for direction, rate, flow in zip(DIRECTIONS, (limit.egress, limit.ingress), seen.flows, strict=True):
        counters = attached.buckets.counters(direction)._asdict()
        pressure = attached.buckets.pressure(direction)._asdict()
        sample = {**flow._asdict(), "use": flow.rate / rate if rate else None} if sampled else None
        described[DIRECTION_NAMES[direction]] = {"limit": rate, "sample": sample, **counters, **pressure}
    found = measured(attached.cgroup)
    described["ingress_queue"] = found and found._asdict()
    return described


def _nothing(cgroup: str | None) -> str:
    if cgroup is None:
        return "no cgroup on this machine is limited by podrate"
    return f"no limit on {printable(cgroup)}, nor on a cgroup above it"


def _text(described: dict[str, Any]) -> list[str]:
    lines = [printable(" ".join(filter(None, (described["name"], described["cgroup"]))))]
    for name in DIRECTION_NAMES:
        now, total = _direction(described[name])
        lines += [f"  {name:<8}{now}", f"  {'':<8}{total}"]
    if described["burst_ns"] is not None:
        lines.append(f"  burst   {format_duration(described['burst_ns'])}")
    if queue := described["ingress_queue"]:
        lines.append(f"  queue   {_queue(queue)}")
    programs = ", ".join(map(str, described["programs"]))
    lines.append(f"  {count(described['connections'], 'open TCP connection')}; programs {programs}")
    for other in described["others"]:
        how = "exclusive, on its" if other["exclusive"] else "beside ours, on the"
        lines.append(f"  program {other['id']} ({printable(other['name'])}) is {how} {other['hook']} hook")
    for name, without in PARTS.values():
        if described["parts"][name] != "active":
            lines.append(f"  {name} {described['parts'][name]}: {without}")
    return lines


def _direction(direction: dict[str, Any]) -> tuple[str, str]:
    """What is now, and what has been."""
    rate, sample, now = direction["limit"], direction["sample"], []
    if sample:
        use = f" ({percent(sample['use'])})" if rate else ""
        last = seconds(sample["seconds"]).removeprefix("1.0 s").removeprefix("1 s") or "second"
        now.append(f"{scaled(sample['rate'])}bit/s{use}")
        if rate:
            now.append(f"throttled {percent(sample['throttled'])} of the last {last}")
        if sample["dropped_packets"]:
            now.append(f"{count(sample['dropped_packets'], 'packet')} dropped")
    if rate:
        now.append(f"held back, debt {direction['debt_ns'] / 1e6:.0f} ms" if direction["held_back"] else "free")
    limit = "no limit" if rate is None else f"{format_rate(rate)}bit/s"
    so_far = (
        f"so far passed {scaled(direction['passed_bytes'])}B in {direction['passed_packets']} packets,"
        f" dropped {direction['dropped_packets']}, marked {direction['marked_packets']},"
        f" exempt {direction['exempt_packets']}, throttled {seconds(direction['throttled_ns'] / 1e9)}"
    )
    return f"{limit:<14} now {', '.join(now) or 'unmeasured'}", so_far


def _queue(queue: dict[str, int]) -> str:
    rate = f"{format_rate(queue['rate'])}bit/s"
    return f"{rate:<14} waiting {queue['backlog']} bytes, passed {queue['packets']} packets, dropped {queue['dropped']}"
