"""What a shaper did between two looks at its counters."""

import time
from typing import NamedTuple

from loader.bucket import DIRECTIONS, Buckets, Counters


class Flow(NamedTuple):
    """One direction, from one look to the next."""

    seconds: float  # how long that was
    rate: float  # bit/s that passed, on the wire
    dropped_packets: int
    marked_packets: int
    throttled: float  # 0 to 1: for how much of the time the limit was used up and senders were held back


class Meter:
    """The flows of a shaper since the last look, or since this was made."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._last = self._counted()

    def flows(self) -> tuple[Flow, ...]:
        """By direction."""
        then, before = self._last
        self._last = now, after = self._counted()
        elapsed = max(now - then, 1)
        return tuple(_between(*pair, elapsed) for pair in zip(before, after, strict=True))

    def _counted(self) -> tuple[int, tuple[Counters, ...]]:
        return time.monotonic_ns(), tuple(map(self._buckets.counters, DIRECTIONS))


def _between(before: Counters, after: Counters, elapsed: int) -> Flow:
    passed, dropped, marked, throttled = (
        getattr(after, name) - getattr(before, name)
        for name in ("passed_bytes", "dropped_packets", "marked_packets", "throttled_ns")
    )
    # What was admitted in advance of its time is counted now: a little more than all of it is all of it.
    return Flow(elapsed / 1e9, passed * 8e9 / elapsed, dropped, marked, min(1.0, throttled / elapsed))
