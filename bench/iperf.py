"""One iperf3 run between a lab's namespaces, as numbers.

    transfer = iperf.run(lab, Traffic(flows=4, seconds=2), cgroup)
    print(transfer.goodput, transfer.retransmits)

The client runs in the pod's namespace and cgroup whichever way the data goes: it is the pod that connects.
"""

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from bench.cgroup import Cgroup
from bench.command import LabError, last_line, require, stop
from bench.lab import Lab, Namespace

Direction = Literal["egress", "ingress"]  # as the pod sees it
Protocol = Literal["tcp", "udp"]

INTERVAL = 0.1  # seconds; the shortest that iperf3 reports
_PATIENCE = 20  # seconds that connecting, and closing over a slow limit, may add to a run


@dataclass(frozen=True)
class Traffic:
    """What is sent; the options of iperf3(1) under their own names.

    seconds:    whole ones: iperf3 takes no others
    rate:       bits/s of each flow; None sends as fast as it goes. UDP must have one.
    length:     bytes of payload in a UDP datagram
    """

    direction: Direction = "egress"
    protocol: Protocol = "tcp"
    flows: int = 1
    seconds: int = 2
    congestion: str = "cubic"
    rate: float | None = None
    length: int = 1400
    family: Literal[4, 6] = 4
    port: int = 5201

    def __post_init__(self) -> None:
        if self.protocol == "udp" and self.rate is None:
            raise ValueError("Traffic: UDP needs a rate in bits/s, for example rate=20e6")

    def options(self) -> list[str]:
        """The client's options."""
        options = ["--parallel", str(self.flows), "--time", str(self.seconds), "--port", str(self.port)]
        options += ["--udp", "--length", str(self.length)] if self.protocol == "udp" else ["-C", self.congestion]
        options += ["--bitrate", f"{self.rate:.0f}"] if self.rate is not None else []
        options += ["--reverse"] if self.direction == "ingress" else []
        return options


@dataclass(frozen=True)
class Interval:
    """What the receiver got between two times of a run, in seconds from its start."""

    start: float
    end: float
    bits: float

    @property
    def rate(self) -> float:
        """In bits per second."""
        return self.bits / (self.end - self.start)


@dataclass(frozen=True)
class Transfer:
    """What a run came to. Payload only: of the bytes on an Ethernet wire, TCP's payload is at most 95.6 %.

    intervals:    what the receiver got, every 0.1 s
    flows:        goodput of each flow in bits/s, by the receiver
    retransmits:  segments that the sender sent again (TCP)
    sent, lost:   datagrams that were sent, and that never arrived (UDP)
    """

    intervals: tuple[Interval, ...]
    flows: tuple[float, ...]
    retransmits: int
    sent: int
    lost: int

    @property
    def goodput(self) -> float:
        """Bits per second that the receiver got, over the whole run."""
        return self.between(0, float("inf"))

    def between(self, start: float, end: float) -> float:
        """Goodput in bits/s over the intervals that lie whole between two times of the run, in seconds."""
        # iperf3's intervals end up to some ms late.
        inside = [i for i in self.intervals if i.start >= start - 0.01 and i.end <= end + 0.01]
        if not inside:
            raise LabError(f"iperf3: no interval between {start:g} and {end:g} s")
        return sum(i.bits for i in inside) / sum(i.end - i.start for i in inside)


class Run:
    """A run under way: entered it has started, `wait` gives what it came to, left early it is ended."""

    def __init__(self, lab: Lab, traffic: Traffic, cgroup: Cgroup | None = None) -> None:
        require("iperf3")
        self._lab = lab
        self._traffic = traffic
        self._cgroup = cgroup
        self._programs: list[_Program] = []

    def __enter__(self) -> Self:
        server, port = self._lab.peer, self._traffic.port
        listen = ["iperf3", "--server", "--one-off", "--json", "--interval", str(INTERVAL), "--port", str(port)]
        address = server.v4 if self._traffic.family == 4 else server.v6
        connect = ["iperf3", "--client", address, "--json", "--interval", str(INTERVAL), *self._traffic.options()]
        try:
            self._programs.append(_Program(server, listen))
            _wait_listening(self._programs[0], server, port)
            self._programs.append(_Program(self._lab.pod, connect, self._cgroup))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        for program in reversed(self._programs):
            program.close()

    def running(self) -> bool:
        """Whether the client still runs."""
        return self._programs[1].process.poll() is None

    def wait(self) -> Transfer:
        """Wait for the run's end. Raises LabError with iperf3's own words when it failed."""
        server, client = self._programs
        connecting = client.report(self._traffic.seconds + _PATIENCE)
        listening = server.report(_PATIENCE)
        return _transfer(connecting, listening if self._traffic.direction == "egress" else connecting)


def run(lab: Lab, traffic: Traffic, cgroup: Cgroup | None = None) -> Transfer:
    """Start a run, wait for its end, return what it came to."""
    with Run(lab, traffic, cgroup) as under_way:
        return under_way.wait()


class _Program:
    """An iperf3 process and what it has printed: into a file, for its report is longer than a pipe holds."""

    def __init__(self, namespace: Namespace, argv: list[str], cgroup: Cgroup | None = None) -> None:
        self._file = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed by close()
        output = self._file.fileno()
        self.process = namespace.popen(argv, cgroup, stdout=output, stderr=output)

    def report(self, patience: float) -> dict[str, Any]:
        """Its report, once it has ended. Raises LabError when that takes over `patience` seconds, or it failed."""
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise LabError(f"iperf3: not done after {patience:g} s") from None
        self._file.seek(0)
        text = self._file.read()
        try:
            report: dict[str, Any] = json.loads(text)
        except ValueError:
            raise LabError(f"iperf3: exit {self.process.returncode}: {last_line(text)}") from None
        if "error" in report:
            raise LabError(f"iperf3: {report['error']}")
        return report

    def close(self) -> None:
        """End it, if it has not ended."""
        stop(self.process)
        self._file.close()


def _wait_listening(program: _Program, namespace: Namespace, port: int, patience: float = 5) -> None:
    """Until `program` listens, by its namespace's socket table: with --json it prints nothing before the end."""
    inside = Path("/run/netns", namespace.name).stat().st_ino
    process = Path("/proc", str(program.process.pid))
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if program.process.poll() is not None:
            program.report(1)
        if (process / "ns/net").stat().st_ino == inside:  # before that, nsenter shows the machine's own sockets
            for table in ("net/tcp", "net/tcp6"):
                for line in (process / table).read_text().splitlines()[1:]:
                    _, local, _, state, *_ = line.split()
                    if state == "0A" and local.endswith(f":{port:04X}"):  # TCP_LISTEN
                        return
        time.sleep(0.002)
    raise LabError(f"iperf3: no server listens on port {port} after {patience:g} s")


def _transfer(client: dict[str, Any], receiver: dict[str, Any]) -> Transfer:
    intervals: list[Interval] = []
    bits: dict[int, int] = {}
    for report in receiver["intervals"]:
        start, end, got = report["sum"]["start"], report["sum"]["end"], report["sum"]["bytes"] * 8
        if intervals and end - start < INTERVAL / 2:
            # What came after the last tick: a rate of its own would be noise.
            last = intervals.pop()
            start, got = last.start, got + last.bits
        intervals.append(Interval(start, end, got))
        for stream in report["streams"]:
            bits[stream["socket"]] = bits.get(stream["socket"], 0) + stream["bytes"] * 8
    if not intervals:
        raise LabError("iperf3: the receiver reports no interval")
    seconds = intervals[-1].end - intervals[0].start
    # The client's summary holds both ends' counts: they exchange them at the end.
    total = client["end"].get("sum", {})
    return Transfer(
        intervals=tuple(intervals),
        flows=tuple(got / seconds for got in bits.values()),
        retransmits=client["end"].get("sum_sent", {}).get("retransmits", 0),
        sent=total.get("packets", 0),
        lost=total.get("lost_packets", 0),
    )
