"""Two network namespaces with a wire between them: a pod's and its peer's.

    with Lab(rtt=0.020) as lab, Cgroup("try", "pod1") as cgroup:
        print(lab.pod.run(["ping", "-c1", lab.peer.v4], cgroup))

Nothing of it touches the machine's own network: the devices are born inside the namespaces, the addresses are
those set aside for benchmarks (RFC 2544 and RFC 5180), and the sysctls are the namespaces' own.
"""

import ctypes
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.cgroup import Cgroup
from bench.command import Argv, LabError, last_line, require, run, stop, terminable, undisturbed
from bench.compiled import program

_CLONE_NEWNET = 0x40000000  # linux/sched.h

_SYSCTLS = {
    # A run must not start with what the last one learned of the path.
    "ipv4/tcp_no_metrics_save": "1",
    # The kernel's own default, whatever this machine prefers: answer ECN but don't ask for it.
    # (The congestion control can't be had this way: a namespace may only choose what the machine allows to all.)
    "ipv4/tcp_ecn": "2",
}

_serial = itertools.count(1)


@dataclass
class Namespace:
    """One network namespace of a lab: its name, its only device, its addresses, and how to start things in it."""

    name: str
    mac: str
    v4: str
    v6: str
    device: str = "eth0"
    _started: list[subprocess.Popen[str]] = field(default_factory=list, repr=False)

    def command(self, argv: Argv, cgroup: Cgroup | None = None) -> list[str]:
        """The command line that starts `argv` in this network namespace, and in `cgroup` when one is given.

        By nsenter and not `ip netns exec`, which mounts a /sys that has no cgroups.
        """
        argv = list(map(str, argv))
        return ["nsenter", f"--net=/run/netns/{self.name}", "--", *(cgroup.command(argv) if cgroup else argv)]

    def run(self, argv: Argv, cgroup: Cgroup | None = None, *, timeout: float = 30) -> str:
        """Start `argv` here, wait for it, return what it printed. Raises LabError when it fails."""
        return run(self.command(argv, cgroup), timeout=timeout)

    def popen(
        self,
        argv: Argv,
        cgroup: Cgroup | None = None,
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Start `argv` here and don't wait. What still runs when the lab is left is ended then."""
        process = subprocess.Popen(self.command(argv, cgroup), stdin=stdin, stdout=stdout, stderr=stderr, text=True)
        self._started.append(process)
        return process

    def enter(self) -> None:
        """Move the calling thread here for good: call it in one made for that. Raises LabError when it is refused."""
        libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12
        with Path("/run/netns", self.name).open() as file:
            if libc.setns(file.fileno(), _CLONE_NEWNET):
                raise LabError(f"namespace {self.name}: {os.strerror(ctypes.get_errno())}")

    def stop_all(self) -> None:
        """End every process in this namespace, those that ours have started too."""
        while self._started:
            stop(self._started.pop())
        with suppress(LabError):  # it was never made
            for pid in run(["ip", "netns", "pids", self.name]).split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)


class Lab:
    """A context manager: the namespaces `pod` and `peer`, and a wire between their devices `eth0`.

    rtt: the wire's round-trip time in seconds. 0 is a bare veth pair; another value needs `cc`, and puts a third
    namespace between the two, whose process forwards whole (GSO) packets after half that time.

    Raises LabError when we are not root or a tool is missing. Everything made is removed on the way out, after a
    failure, Ctrl-C and SIGTERM too.
    """

    def __init__(self, rtt: float = 0) -> None:
        if not 0 <= rtt <= 2:
            raise ValueError(f"rtt: {rtt}: not 0 to 2 seconds")
        name = f"podrate-{os.getpid()}-{next(_serial)}"
        self.rtt = rtt
        self.pod = Namespace(f"{name}-pod", "02:00:00:00:00:01", "198.18.0.1", "2001:2::1")
        self.peer = Namespace(f"{name}-peer", "02:00:00:00:00:02", "198.18.0.2", "2001:2::2")
        self._wire = Namespace(f"{name}-wire", "", "", "")
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        require("ip", "nsenter", *(["cc"] if self.rtt else []))
        try:
            self._undo.enter_context(terminable())
            self._add(self.pod)
            self._add(self.peer)
            if self.rtt:
                self._lay_wire()
            else:
                _pair(self.pod, "eth0", self.peer, "eth0")
            _configure(self.pod, self.peer)
            _configure(self.peer, self.pod)
            if self.rtt:
                self._start_wire()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        with undisturbed():
            self._undo.close()

    def _add(self, namespace: Namespace) -> None:
        self._undo.enter_context(_existing(namespace))
        run(["ip", "netns", "add", namespace.name])
        run(["ip", "-n", namespace.name, "link", "set", "lo", "up"])

    def _lay_wire(self) -> None:
        self._add(self._wire)
        # It forwards frames and has nothing of its own to say.
        _sysctl(self._wire, {"ipv6/conf/default/disable_ipv6": "1"})
        for end, device in ((self.pod, "left"), (self.peer, "right")):
            _pair(end, "eth0", self._wire, device)
            run(["ip", "-n", self._wire.name, "link", "set", device, "up"])

    def _start_wire(self) -> None:
        """Once both ends are up: what it can't deliver it reports as lost."""
        process = self._wire.popen([program("delay"), "left", "right", str(round(self.rtt / 2 * 1e9))])
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise LabError(f"delay wire: {last_line(process.communicate(timeout=2)[1])}")
        self._undo.callback(_take_down, process)


def _take_down(wire: subprocess.Popen[str]) -> None:
    """End the delay wire; a wire that lost packets by itself measured nothing, so it says so."""
    wire.terminate()
    _, complaint = wire.communicate(timeout=5)
    if complaint:
        print(f"lab: the delay wire was overrun, what was measured on it is void: {complaint.strip()}", file=sys.stderr)


@contextmanager
def _existing(namespace: Namespace) -> Iterator[None]:
    """On the way out, empty `namespace` and delete it; entered before it is made, so that none is forgotten."""
    try:
        yield
    finally:
        namespace.stop_all()
        with suppress(LabError):
            # Its deletion takes the devices along, but later. A lab that is left has left nothing.
            run(["ip", "-n", namespace.name, "link", "delete", namespace.device])
        with suppress(LabError):
            run(["ip", "netns", "delete", namespace.name])


def _pair(one: Namespace, device: str, other: Namespace, other_device: str) -> None:
    """A veth pair with an end in each namespace."""
    ends = ["name", device, "netns", one.name], ["name", other_device, "netns", other.name]
    run(["ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1]])


def _configure(end: Namespace, far: Namespace) -> None:
    """Addresses, neighbours and sysctls of one end. Static neighbours: no ARP or ND among the packets counted."""
    _sysctl(end, _SYSCTLS)
    lines = (
        f"link set {end.device} address {end.mac} addrgenmode none up",
        f"address add {end.v4}/24 dev {end.device}",
        f"address add {end.v6}/64 dev {end.device} nodad",
        f"neighbour add {far.v4} lladdr {far.mac} dev {end.device} nud permanent",
        f"neighbour add {far.v6} lladdr {far.mac} dev {end.device} nud permanent",
    )
    for line in lines:
        run(["ip", "-n", end.name, *line.split()])


def _sysctl(namespace: Namespace, values: dict[str, str]) -> None:
    """Write /proc/sys/net, which shows the writer's own network namespace."""
    script = "; ".join(f"echo {value} >/proc/sys/net/{key}" for key, value in values.items())
    namespace.run(["sh", "-ec", script])
