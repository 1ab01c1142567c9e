"""Where a guest looks: a pod's cgroup, packets through it, and the podrate command."""

import io
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from bench import iperf
from bench.cgroup import Cgroup
from bench.command import LabError
from bench.iperf import Traffic
from bench.lab import Lab, Namespace
from loader.cli import main

RATE = 5_000_000  # bits/s: slow enough for an emulated processor
ENDLESS = 60  # seconds of traffic that is ended when it has been looked at

Figures = dict[str, Any]


class Said(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    error: str


def podrate(*arguments: str) -> Said:
    """The podrate command, in this process: a Python takes an emulated processor a second to start."""
    former, sys.argv = sys.argv, ["podrate", *arguments]
    out, error = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    try:
        with redirect_stdout(out), redirect_stderr(error):
            code = main()
    finally:
        sys.argv = former
    return Said(code, *(each.buffer.getvalue().decode() for each in (out, error)))


def podrate_process(*arguments: str) -> Said:
    """The same as a process of its own."""
    done = subprocess.run(["podrate", *arguments], capture_output=True, text=True, timeout=60, check=False)
    return Said(done.returncode, done.stdout, done.stderr)


class Place(NamedTuple):
    """A laboratory, a pod's cgroup, and the container's below it, in which traffic runs."""

    lab: Lab
    pod: str
    container: Cgroup

    def measure(self, cgroup: Cgroup | None = None, **traffic: Any) -> Figures:  # noqa: ANN401  Traffic's own fields
        """One run: its goodput as a part of RATE, and what was sent again or lost."""
        transfer = iperf.run(self.lab, Traffic(**traffic), cgroup or self.container)
        return {
            "ratio": transfer.goodput / RATE,
            "retransmits": transfer.retransmits,
            "lost": transfer.lost / max(transfer.sent, 1),
        }

    @contextmanager
    def limited(self, *options: str) -> Iterator[Said]:
        """The pod under a limit, RATE in both directions if none is given; detached after it."""
        try:
            yield podrate("attach", *(options or ("--bandwidth", "5M")), self.pod)
        finally:
            podrate("detach", self.pod)

    @contextmanager
    def flowing(self, **traffic: Any) -> Iterator["Wire"]:  # noqa: ANN401
        """Traffic under way, until the block is left."""
        with iperf.Run(self.lab, Traffic(seconds=ENDLESS, **traffic), self.container):
            wire = Wire(self.lab.peer)
            wire.wait_data()
            yield wire


class Wire:
    """What arrives at a namespace's device."""

    def __init__(self, namespace: Namespace) -> None:
        self._marker = f"{namespace.device}:"
        # /proc shows the devices of a process's namespace; the lab ends this one.
        self._inside = namespace.popen(["sh", "-c", "echo; exec sleep 1000"])
        assert self._inside.stdout is not None
        self._inside.stdout.readline()

    def _received(self) -> int:
        for line in Path(f"/proc/{self._inside.pid}/net/dev").read_text().splitlines():
            if line.split()[0] == self._marker:
                return int(line.split()[1])
        raise LabError(f"no device {self._marker}")

    def wait_data(self) -> None:
        """Until there is more than iperf3's handshake."""
        before, deadline = self._received(), time.monotonic() + 20
        while self._received() < before + 10_000:
            if time.monotonic() > deadline:
                raise LabError("iperf3: no data arrived in 20 s")
            time.sleep(0.01)

    def ratio(self, seconds: float) -> float:
        """What arrives in the next seconds, headers included, as a part of RATE."""
        begun, before = time.monotonic(), self._received()
        time.sleep(seconds)
        return (self._received() - before) * 8 / (time.monotonic() - begun) / RATE
