"""The ingress queue, asked for with --ingress-queue: what arrives over TCP waits, where else it would be dropped.

The cgroup's hook can only drop, and the window that the pod advertises can't hold back a sender whose round trip is
shorter than two segments take at its share. So a queue in the pod's own network namespace, at the same rate, holds what
comes in bursts; the programs behind it set the windows, which keeps it short. docs/decisions/0004-ingress-queue.md has
the measurements.

The kernel keeps the queue; there is none of our processes in it. This module imports libnl only where there is a queue
or shall be one: most pods have none.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from bandwidth.limit import MAX_QUEUED_RATE
from loader.failure import Failure
from loader.namespace import entered, network_namespaces, processes

if TYPE_CHECKING:
    from loader.ifb import Measured

DEVICE = "podrate-in"

# Only the machine's first network namespace has it (net/core/sysctl_net_core.c, net_core_table).
_ONLY_INITIAL = "/proc/sys/net/core/dev_weight"
_UNASKED = "or ask without the ingress queue"

_libc = ctypes.CDLL(None)


def put(rate: int | None) -> None:
    """Make the queue of this thread's own network namespace what it should be: at `rate` bit/s, or (None) not there.

    A queue that is there changes in place, without a gap. Raises Failure("queue"), and then nothing has changed.
    """
    if rate is None:
        if _exists():
            _remove()
        return
    if os.path.exists(_ONLY_INITIAL):
        what = "this is the host's own network namespace, and its queue would hold back the whole machine"
        raise Failure("queue", what, f"limit a pod that has its own (no hostNetwork), {_UNASKED}")
    if rate > MAX_QUEUED_RATE:
        raise Failure("queue", f"{rate} bit/s is more than a queue can be set to", f"17G at most; {_UNASKED}")
    from loader.ifb import Ifb

    with Ifb(DEVICE) as ifb:
        ifb.put(rate)


def put_for(cgroup: str, rate: int | None) -> None:
    """The same in the network namespace of a cgroup's processes. Needs CAP_SYS_ADMIN.

    Refused where others share the namespace: the queue would hold them back too.
    """
    pids = processes(cgroup)
    if rate is not None and (count := sum(1 for _ in network_namespaces(pids))) != 1:
        what = f"the processes of {cgroup} are in {count} network namespaces"
        raise Failure("queue", what, f"limit a cgroup with processes in one, {_UNASKED}")
    for namespace in network_namespaces(pids):
        if rate is not None:
            _refuse_shared(namespace, cgroup, set(pids))
            with entered(namespace):
                put(rate)
        else:
            with suppress(PermissionError), entered(namespace):  # who may not enter can't have put one there either
                put(None)


@contextmanager
def changed_for(cgroup: str, rate: int | None) -> Iterator[None]:
    """put_for(), and back to what was there if what is then done fails. (One that shall go goes last.)"""
    if rate is None:
        yield
        put_for(cgroup, None)
        return
    before = measured(cgroup)
    put_for(cgroup, rate)
    try:
        yield
    except BaseException:
        put_for(cgroup, before and before.rate)
        raise


def measured(cgroup: str) -> "Measured | None":
    """What the queue of a cgroup's processes says of itself; None if they have none. Needs CAP_SYS_ADMIN."""
    for namespace in network_namespaces(processes(cgroup)):
        with entered(namespace):
            if _exists():
                from loader.ifb import Ifb

                with Ifb(DEVICE) as ifb:
                    return ifb.measure()
    return None


def _exists() -> bool:
    return bool(_libc.if_nametoindex(DEVICE.encode()))


def _remove() -> None:
    from loader.ifb import Ifb

    with Ifb(DEVICE) as ifb:
        ifb.remove()


def _refuse_shared(namespace: int, cgroup: str, inside: set[int]) -> None:
    inode = os.fstat(namespace).st_ino
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) not in inside:
            with suppress(OSError):  # it has ended
                if os.stat(f"/proc/{name}/ns/net").st_ino == inode:
                    what = f"process {name} shares the network of {cgroup}, and the queue would hold it back too"
                    raise Failure("queue", what, f"limit a cgroup that has all of them, {_UNASKED}")
