"""iperf3 from the pod to its peer, watched while it runs, and what came of it."""

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import iperf
from bench.cgroup import Cgroup
from bench.command import LabError, stop
from bench.iperf import Traffic
from bench.lab import Lab, Namespace

WINDOW = 0.1  # seconds: the time over which a rate is a rate
LOWEST, HIGHEST = 0.85, 1.05  # goodput to limit: headers are 4.4 % of the wire's bytes, the rest is tolerance
_SAMPLE = 0.01  # seconds
_HANDSHAKE = 4000  # bytes: more than iperf3 says before the data, less than the data's first window


@dataclass(frozen=True)
class Phase:
    """A stretch of the demo: `limit` in bits/s or None, `start` and `end` by time.monotonic(), `goodput` in bits/s."""

    name: str
    limit: int | None
    start: float
    end: float
    goodput: float

    @property
    def ratio(self) -> float | None:
        """Goodput to limit, where there is one."""
        return None if self.limit is None else self.goodput / self.limit

    @property
    def kept(self) -> bool:
        """Whether the limit was kept, and used."""
        return self.ratio is None or LOWEST <= self.ratio <= HIGHEST


@dataclass(frozen=True)
class Recorded:
    """A transfer, and when it began by time.monotonic()."""

    begun: float
    transfer: iperf.Transfer

    @property
    def end(self) -> float:
        """When its last interval ended."""
        return self.begun + self.transfer.intervals[-1].end

    def phase(self, name: str, limit: int | None, start: float, end: float, skip: float) -> Phase:
        """The phase from `start` to `end` (time.monotonic()); its goodput is measured from `skip` seconds in."""
        goodput = self.transfer.between(start - self.begun + skip, end - self.begun)
        return Phase(name, limit, start, end, goodput)


class Meter:
    """A context manager: counts what arrives at a namespace's device, a hundred times a second."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._samples: list[tuple[float, int]] = []  # time.monotonic(), bytes since the device is up
        self._left = threading.Event()

    def __enter__(self) -> Self:
        # A process in the namespace, through which /proc shows us its devices.
        self._holder = self._namespace.popen(
            ["sleep", "infinity"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._left.set()
        self._thread.join()
        stop(self._holder)

    def _count(self) -> None:
        counters = Path("/proc", str(self._holder.pid), "net/dev")
        marker = f"{self._namespace.device}:"
        while not self._left.wait(_SAMPLE):
            for line in counters.read_text().splitlines():
                name, _, numbers = line.strip().partition(" ")
                if name == marker:
                    self._samples.append((time.monotonic(), int(numbers.split()[0])))

    def rate(self) -> float:
        """Bits per second over the last WINDOW."""
        samples = self._samples[-round(WINDOW / _SAMPLE) :]
        if len(samples) < 2:
            return 0
        (start, before), (end, after) = samples[0], samples[-1]
        return (after - before) * 8 / (end - start)

    def wait_data(self, since: float, patience: float = 10) -> float:
        """The time.monotonic() at which iperf3's data, not its handshake, began to arrive after `since`."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            samples = [sample for sample in self._samples if sample[0] >= since]
            for at, count in samples:
                if count - samples[0][1] > _HANDSHAKE:
                    return at
            time.sleep(_SAMPLE)
        raise LabError(f"iperf3: no data arrived in {patience:g} s")

    def reached(self, rate: float, since: float) -> float | None:
        """When, after `since`, a whole WINDOW first carried about `rate` bits/s; None if it never did."""
        samples = [sample for sample in self._samples if sample[0] >= since]
        first = 0
        for at, count in samples:
            while samples[first + 1][0] < at - WINDOW:
                first += 1
            start, before = samples[first]
            if at - start >= WINDOW and LOWEST <= (count - before) * 8 / (at - start) / rate <= HIGHEST:
                return at
        return None


def send(
    lab: Lab,
    app: Cgroup,
    meter: Meter,
    seconds: int,
    tick: Callable[[float], None],
) -> Recorded:
    """Send for whole `seconds` from the pod's application; `tick` is called with the time since the first data."""
    started = time.monotonic()
    with iperf.Run(lab, Traffic(seconds=seconds), app) as run:
        begun = meter.wait_data(started)
        while run.running():
            tick(time.monotonic() - begun)
            time.sleep(0.05)
        return Recorded(begun, run.wait())
