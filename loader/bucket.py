"""A Limit as the kernel holds it: the buckets' parameters, writing them, reading them and the counters back.

Mirrors bpf/src/podrate.h.
"""

from __future__ import annotations

import struct
import time

from bandwidth.limit import MAX_RATE, Limit
from loader import bpf
from loader.lean import NamedTuple
from loader.parts import ALL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

EGRESS, INGRESS = 0, 1  # enum podrate_direction
DIRECTIONS = (EGRESS, INGRESS)
DIRECTION_NAMES = ("egress", "ingress")

TICKS = 64  # a nanosecond
_MS = 1_000_000 * TICKS
_NEVER = 1 << 62  # ticks: a debt that no clock reaches

_LIMIT = struct.Struct("=13Q")  # struct podrate_limit, less what is reserved
_BUCKET = struct.Struct("=13Q 3Q 16Q")  # struct podrate_bucket: a limit, the clocks
_CLOCKS, _CLOCKS_OFFSET = struct.Struct("=2Q"), 136  # its tat and price
_COUNTERS = struct.Struct("=7Q")  # struct podrate_counters
_SHAPER = struct.Struct("=3Q")  # struct podrate_shaper
_WORD = struct.Struct("=I")


class BucketLimit(NamedTuple):
    """struct podrate_limit: the fields in its order, times in ticks of 1/64 ns."""

    rate: int
    byte_mult: int
    byte_shift: int
    burst: int
    mark: int
    horizon_control: int
    horizon_tcp: int
    horizon_other: int
    horizon_start: int
    price_unit: int
    price_most: int
    entry_most: int
    credit: int

    def pack(self) -> bytes:
        """A struct podrate_bucket with this limit and fresh clocks.

        Raises ValueError for a field that the data path's arithmetic is not made for, or that would make a rate none.
        """
        for name, value in zip(self._fields, self, strict=True):
            least, most = _BOUNDS.get(name, (0, _NEVER))
            if self.rate and name not in _MAY_BE_NOTHING:
                least = max(least, 1)
            if type(value) is not int or not least <= value <= most:
                raise ValueError(f"{name} {value!r}: {least} to {most}")
        return _BUCKET.pack(*self, *[0] * 19)


# Least and most of those fields that are not times; a time is 0 to _NEVER.
_BOUNDS = {"rate": (0, MAX_RATE), "byte_mult": (0, (1 << 32) - 1), "byte_shift": (0, 32)}
# Under a rate the others are not: packets that cost nothing are no limit, and a unit of nothing divides.
_MAY_BE_NOTHING = ("rate", "byte_shift", "mark", "credit")


def bucket_limit(rate: int | None, direction: int, asked_burst: int | None = None) -> BucketLimit:
    """The parameters of a bucket for `rate` bit/s; None is no limit. `asked_burst` in ns; None is what suits the
    direction best, and then senders are not told to use it up.

    Times, not bytes: what they are for (a round trip, a scheduler's tick, an interrupt's batch) does not
    depend on the rate. Only where a few packets last longer do packets decide. docs/decisions has the measurements.
    """
    if rate is None:
        return BucketLimit(*[0] * len(BucketLimit._fields))

    def lasts(size: int) -> int:
        return size * 8 * 1_000_000_000 * TICKS // rate

    # As precise as 32 bits allow; rounded up, so that the limit is never exceeded by rounding.
    shift = 0
    while shift < 32 and (8_000_000_000 * TICKS << (shift + 1)) // rate < 1 << 32:
        shift += 1
    mult = -(-(8_000_000_000 * TICKS << shift) // rate)

    unit = max(5 * _MS, lasts(12 * 1514))  # a dozen packets, or some of a scheduler's ticks
    if direction == EGRESS:
        burst, mark, horizon_tcp = 10 * _MS, max(50 * _MS, 2 * unit), max(100 * _MS, 4 * unit)
    else:
        # What arrives can't be told to wait, only lost: allow a window's worth of burst before that.
        burst, mark, horizon_tcp = 100 * _MS, _NEVER, max(100 * _MS, lasts(64_000))
    if asked_burst is not None:
        burst = asked_burst * TICKS
    return BucketLimit(
        rate=rate,
        byte_mult=mult,
        byte_shift=shift,
        burst=burst,
        mark=mark,
        horizon_control=max(1000 * _MS, 2 * horizon_tcp),  # what else runs up a debt shall not cost those
        horizon_tcp=horizon_tcp,
        horizon_other=max(10 * _MS, lasts(8000)),
        horizon_start=max(25 * _MS, lasts(4 * 1514)),
        price_unit=unit,
        # 100 flows at 1 Mbit/s; in ingress less, for there a burst raises it that nobody chose to send.
        price_most=20_000 * _MS if direction == EGRESS else max(2_000 * _MS, 50 * unit),
        entry_most=max(1_600 * _MS, 30 * unit),
        # A window that is open can't be taken back, so in ingress only half is spent by opening it.
        credit=0 if asked_burst is None else burst if direction == EGRESS else burst // 2,
    )


class Counters(NamedTuple):
    """struct podrate_counters, summed over the CPUs. Bytes are wire bytes."""

    passed_packets: int
    passed_bytes: int
    dropped_packets: int
    dropped_bytes: int
    marked_packets: int
    exempt_packets: int
    throttled_ns: int


class Pressure(NamedTuple):
    """What the limit of one direction does to its senders now."""

    debt_ns: int  # the bucket's debt: how long what was admitted still takes at the limit
    held_back: bool  # the limit is used up, so that senders are slowed down


class ShaperState(NamedTuple):
    """struct podrate_shaper."""

    wanted: int  # parts, of loader.parts
    refused: int  # of these, those that the kernel turned out not to have
    connections: int  # open TCP connections that were met: paced while there is a limit

    @property
    def parts(self) -> int:
        """The parts in use."""
        return self.wanted & ~self.refused


class Buckets:
    """The maps of one shaper: the limit in force, and the counters."""

    # By name, the size of a value in bytes.
    MAPS: ClassVar = {
        "buckets": _BUCKET.size,
        "active": _WORD.size,
        "counters": _COUNTERS.size,
        "shaper": _SHAPER.size,
    }

    def __init__(self, buckets: bpf.Map, active: bpf.Map, counters: bpf.Map, shaper: bpf.Map) -> None:
        self._buckets = buckets
        self._active = active
        self._counters = counters
        self._shaper = shaper

    def want(self, parts: int) -> None:
        """Say which parts the shaper shall have (loader.parts), before it is attached: paces no connection before."""
        if not 0 <= parts <= ALL:
            raise ValueError(f"parts {parts}: no such part; 0 to {ALL}")
        self._shaper[0] = _SHAPER.pack(parts, 0, 0)

    def state(self) -> ShaperState:
        """Which parts are in use, and how many connections."""
        return ShaperState(*_SHAPER.unpack(self._shaper[0]))

    def limit(self) -> Limit:
        """The limit in force, read from the kernel; whether there is a queue too, these maps don't know."""
        limits = [BucketLimit(*_LIMIT.unpack_from(self._buckets[self._index(direction)])) for direction in DIRECTIONS]
        burst = next((limit.burst // TICKS for limit in limits if limit.credit), None)
        egress, ingress = (limit.rate or None for limit in limits)
        return Limit(egress, ingress, burst)

    def set(self, limit: Limit) -> None:
        """Put a limit in force. A direction whose rate stays keeps its clock; the other starts with a fresh one."""
        for direction, rate in zip(DIRECTIONS, (limit.egress, limit.ingress), strict=True):
            wanted = bucket_limit(rate, direction, limit.burst)
            index = self._index(direction)
            if _LIMIT.unpack_from(self._buckets[index]) == wanted:
                continue
            # Written whole into the idle bucket, then named: see struct podrate_bucket.
            self._buckets[index ^ 1] = wanted.pack()
            self._active[direction] = _WORD.pack((index ^ 1) & 1)

    def counters(self, direction: int) -> Counters:
        """The counters of one direction since the shaper was loaded."""
        summed = Counters(*map(sum, zip(*_COUNTERS.iter_unpack(self._counters[direction]), strict=True)))
        return summed._replace(throttled_ns=summed.throttled_ns // TICKS)  # the kernel counts ticks

    def pressure(self, direction: int) -> Pressure:
        """How the limit weighs on its senders at this moment."""
        bucket = self._buckets[self._index(direction)]
        limit, clocks = BucketLimit(*_LIMIT.unpack_from(bucket)), _CLOCKS.unpack_from(bucket, _CLOCKS_OFFSET)
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) * TICKS  # the clock of bpf_ktime_get_ns
        debt, price = (max(0, clock - now) for clock in clocks)
        # As raise_price of bpf/src/bucket.h has it.
        return Pressure(debt // TICKS, limit.rate > 0 and price > limit.price_unit >> 1)

    def _index(self, direction: int) -> int:
        (which,) = _WORD.unpack(self._active[direction])
        return direction * 2 + int(which & 1)

    def close(self) -> None:
        """Close the maps, if they were opened by id."""
        for each in (self._buckets, self._active, self._counters, self._shaper):
            each.close()
