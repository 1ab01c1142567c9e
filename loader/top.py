"""podrate top: the limited cgroups, look after look; a table that lives on a terminal, else plain lines."""

import json
import os
import sys
import time
from collections.abc import Iterable

from loader.bucket import DIRECTION_NAMES
from loader.status import describe_all
from loader.table import HEAD, Row, cells, sort_rows
from loader.watch import Seen, Watch


def top(*, every: float, sort: str, count: int | None, as_json: bool) -> int:
    """Show until interrupted; 0.

    every:  seconds between two looks
    count:  how many, in plain lines; None is no end
    """
    if count is None and not as_json and _is_terminal():
        from loader.screen import Screen, usable

        if usable():
            return Screen(every, sort).run()
    with Watch() as watch:
        watch.look()
        heading = not as_json
        for each in _ticks(every, count):
            seen = watch.look()
            if as_json:
                print(json.dumps(describe_all(seen, sampled=True)), flush=True)
                continue
            if heading:
                print(_line(("TIME    ", *HEAD)))
                heading = False
            for row in sort_rows(rows(seen), sort):
                print(_line((each, *cells(row))))
            sys.stdout.flush()
    return 0


def rows(seen: Iterable[Seen]) -> list[Row]:
    """What a table shows of a look: the directions that are limited."""
    found = []
    for each in seen:
        limit = each.attached.buckets.limit()
        connections = each.attached.buckets.state().connections
        for direction, rate, flow in zip(DIRECTION_NAMES, (limit.egress, limit.ingress), each.flows, strict=True):
            if rate is not None:
                name = ascii(each.name or each.attached.cgroup)[1:-1]  # one column a character, and no escapes
                drops = flow.dropped_packets / flow.seconds
                use = flow.rate / rate
                found.append(Row(name, direction, flow.rate, rate, use, flow.throttled, drops, connections))
    return found


def _line(cells: Iterable[str]) -> str:
    """A line for other programs: fields apart by tabs."""
    return "\t".join(cells)


def _ticks(every: float, count: int | None) -> Iterable[str]:
    """The time of day, each time that a look is due."""
    done = 0
    while count is None or done < count:
        time.sleep(every)
        yield time.strftime("%H:%M:%S")
        done += 1


def _is_terminal() -> bool:
    return os.isatty(0) and os.isatty(1) and os.environ.get("TERM", "dumb") != "dumb"
