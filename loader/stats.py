"""podrate run --stats: a line on the terminal while the command runs, and a summary when it has ended."""

import os
import sys
import time
from contextlib import suppress

from bandwidth.rate import format_rate
from loader.bucket import DIRECTION_NAMES, DIRECTIONS, Buckets
from loader.figures import count, percent, scaled, seconds
from loader.meter import Meter
from loader.say import say

EVERY = 1.0  # seconds between two live lines
_CLEAR = "\r\x1b[K"  # to the line's beginning, and erase it: ECMA-48


class Stats:
    """The figures of one run, on stderr."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._meter = Meter(buckets)
        self._started = time.monotonic()
        self._drawn = False

    def live(self) -> None:
        """Draw the line anew, if stderr is a terminal that is ours to write on: not one of a shell's background job."""
        try:
            if os.tcgetpgrp(2) != os.getpgrp():
                return
            columns = os.get_terminal_size(2).columns
        except OSError:  # no terminal
            return
        limit = self._buckets.limit()
        parts = []
        for name, rate, flow in zip(DIRECTION_NAMES, (limit.egress, limit.ingress), self._meter.flows(), strict=True):
            part = f"{name} {scaled(flow.rate)}bit/s"
            if rate:
                part += f" of {format_rate(rate)}, {percent(flow.throttled)} throttled"
            parts.append(part)
        line = f"podrate: {'; '.join(parts)}"[: columns - 1]
        self._write(_CLEAR + line)
        self._drawn = True

    def clear(self) -> None:
        """Take the line away, for what others have to say there."""
        if self._drawn:
            self._write(_CLEAR)
            self._drawn = False

    def summary(self) -> None:
        """Say what passed in all that time."""
        self.clear()
        took = time.monotonic() - self._started
        for name, direction in zip(DIRECTION_NAMES, DIRECTIONS, strict=True):
            counters = self._buckets.counters(direction)
            throttled = min(1.0, counters.throttled_ns / 1e9 / took)
            say(
                f"{name} {scaled(counters.passed_bytes)}B in {seconds(took)},"
                f" {scaled(counters.passed_bytes * 8 / took)}bit/s on average;"
                f" {count(counters.passed_packets, 'packet')} passed, {counters.dropped_packets} dropped,"
                f" {counters.marked_packets} marked; throttled {percent(throttled)} of the time"
            )

    def _write(self, text: str) -> None:
        if sys.stderr:
            with suppress(OSError):
                sys.stderr.write(text)
                sys.stderr.flush()
