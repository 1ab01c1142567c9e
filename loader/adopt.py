"""The TCP connections of a cgroup that are older than its limit, or outlive it.

Not paced, the older ones collapse against the bucket; not released, the others stay slow.

The shaper paces a connection from its establishment. `podrate attach` on a running service finds connections that no
shaper ever met; a pod's sidecar does not: it runs before the application. And a sidecar that was restarted finds its
predecessor's callbacks on them, which is enough (bpf/src/shaper.bpf.c, BPF_SOCK_OPS_RTT_CB).
"""

import ctypes
import fcntl
import os
import socket
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import Literal, NamedTuple

from loader import bpf, shaper
from loader.lean import Resource
from loader.namespace import entered, network_namespaces, processes

OBJECT = os.path.join(os.path.dirname(shaper.OBJECT), "adopt.bpf.o")
LIVE = (6, 12)  # Linux that lets an iterator tell sockets to call the shaper; the object loads on older ones too
_ADOPTION = struct.Struct("=5Q")  # struct podrate_adoption of bpf/src/podrate.h
_UNPACED = 0xFFFFFFFF  # bytes/s: what the kernel takes for "none"
_LEAST_PACE = 256  # bytes/s, as in bpf/src/shaper.bpf.c

# Percent of an equal share. The shaper's own 5/4, from which its price takes away; but nothing corrects a fixed pace,
# so that is just below what the limit, counted on the wire, can carry of TCP's payload: the bucket stays out of it.
_LIVE, _FIXED = 125, 95
_BACKLOG = 0.1  # seconds under the limit until every connection that sends has something left to send

_SO_MAX_PACING_RATE = 47  # asm-generic/socket.h
_SYS_PIDFD_GETFD = 438  # Linux 5.6, on every architecture

_libc = ctypes.CDLL(None, use_errno=True)


class Adopted(NamedTuple):
    """How many connections are paced now that were not, and how."""

    connections: int
    mode: Literal["live", "fixed"]  # by the shaper, as any other; or at `pace` until they close
    pace: int  # bytes/s for each, to begin with


class Census(NamedTuple):
    """What a visit counted; the end of struct podrate_adoption."""

    found: int  # connections that no shaper has met; at a release, those that one has
    busy: int  # of these, those with data unsent or unacknowledged
    adopted: int  # of these, those that now have pace and callback


class Adopter(Resource):
    """What adopts and releases connections. Make it ready before the attachment: from there on they lose packets.

    A BPF iterator where the kernel has what it needs (6.12, CAP_PERFMON); else, or if not `iterator`, each process's
    sockets are borrowed (5.6), and then only a fixed pace can be set. Needs CAP_SYS_ADMIN and CAP_SYS_PTRACE.
    """

    def __init__(self, *, iterator: bool = True) -> None:
        self._object: bpf.Object | None = None
        if iterator:
            with suppress(bpf.BpfError):
                self._object = bpf.ObjectSpec(OBJECT).load()

    def adopt(self, cgroup: str, attached: shaper.Shaper) -> Adopted:
        """Pace the connections of `cgroup` and those below that are older than `attached`, the shaper just put there.

        Connections within the pod stay as they are. One that can't be reached stays unpaced: it keeps the limit, but
        uses only half of it.
        """
        egress = attached.buckets.limit().egress
        if self._object is not None:
            with suppress(OSError):  # BpfError, or a namespace that can't be entered
                adopted = _by_iterator(cgroup, egress, self._object)
                if adopted is not None:
                    return adopted
        return _by_descriptor(cgroup, egress)

    def release(self, cgroup: str) -> None:
        """Take from the connections of `cgroup` and those below what its shaper, now detached, has set on them."""
        found = 0
        if self._object is not None:
            with suppress(OSError):
                found = _visit(cgroup, self._object, "podrate_release", 0).found
        if not found:
            _set_pace(processes(cgroup), _UNPACED)

    def close(self) -> None:
        """Unload the iterator."""
        if self._object is not None:
            self._object.close()


def _pace(egress: int | None, busy: int, percent: int) -> int:
    """Bytes/s for each connection: a part of an equal share of the limit among those that are busy.

    A service may hold a thousand idle connections; dividing by those too would leave the few that send with nothing.
    """
    if egress is None:
        return _UNPACED
    return min(max(egress * percent // 800 // max(busy, 1), _LEAST_PACE), _UNPACED)


def _by_iterator(cgroup: str, egress: int | None, loaded: bpf.Object) -> Adopted | None:
    """None if this kernel's sockets can't be told to call the shaper."""
    before = _visit(cgroup, loaded, "podrate_adopt", 0)
    pace = _pace(egress, before.busy, _LIVE)
    if not before.found:
        return Adopted(0, "live", pace)
    after = _visit(cgroup, loaded, "podrate_adopt", pace)
    if after.found and not after.adopted:
        return None
    return Adopted(after.adopted, "live", pace)


def _visit(cgroup: str, loaded: bpf.Object, program: str, pace: int) -> Census:
    """Run an iterator in every network namespace of the cgroup's processes. Pace 0 only counts."""
    adoption = loaded.map("adoption")
    adoption[0] = _ADOPTION.pack(os.stat(cgroup).st_ino, pace, 0, 0, 0)
    for namespace in network_namespaces(processes(cgroup)):
        with entered(namespace):
            bpf.iterate(loaded.program(program))
    return Census(*_ADOPTION.unpack(adoption[0])[2:])


def _by_descriptor(cgroup: str, egress: int | None) -> Adopted:
    """Set what setsockopt(2) can set. Which cgroup a socket was made in can't be seen here: its holder's counts."""
    pids = processes(cgroup)
    busy = 0
    time.sleep(_BACKLOG)
    for connection in _connections(pids):
        unsent = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))  # or unacknowledged: tcp(7), SIOCOUTQ
        busy += any(unsent)
    pace = _pace(egress, busy, _FIXED)
    return Adopted(_set_pace(pids, pace), "fixed", pace)


def _set_pace(pids: list[int], pace: int) -> int:
    """Set SO_MAX_PACING_RATE on all connections of the processes; returns how many."""
    count = 0
    for connection in _connections(pids):
        connection.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, struct.pack("=I", pace))
        count += 1
    return count


def _connections(pids: list[int]) -> Iterator[socket.socket]:
    """The TCP connections that the processes hold, each once, borrowed while it is looked at."""
    seen = set()
    for pid in pids:
        with suppress(OSError):  # the process has ended
            process = os.pidfd_open(pid)
            try:
                for name in os.listdir(f"/proc/{pid}/fd"):
                    with suppress(OSError):  # the descriptor was closed
                        identity = os.readlink(f"/proc/{pid}/fd/{name}")
                        if identity.startswith("socket:[") and identity not in seen:
                            seen.add(identity)
                            with _borrowed(process, int(name)) as borrowed:
                                if _is_outward_tcp(borrowed):
                                    yield borrowed
            finally:
                os.close(process)


def _borrowed(process: int, descriptor: int) -> socket.socket:
    """Our own descriptor of another process's socket; closing it leaves the socket as it is."""
    fd = _libc.syscall(_SYS_PIDFD_GETFD, process, descriptor, 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return socket.socket(fileno=fd)


def _is_outward_tcp(borrowed: socket.socket) -> bool:
    """Whether it is a TCP connection that meets the bucket; the exemption is podrate_sockops'. OSError: no peer."""
    if borrowed.family not in (socket.AF_INET, socket.AF_INET6) or borrowed.proto != socket.IPPROTO_TCP:
        return False
    ends = [ip_address(end[0].removeprefix("::ffff:")) for end in (borrowed.getpeername(), borrowed.getsockname())]
    return ends[0] != ends[1] and not any(end.is_loopback for end in ends)
