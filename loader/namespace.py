"""The processes of a cgroup, and the network namespaces that they are in."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CLONE_NEWNET = 0x40000000  # linux/sched.h

_libc = ctypes.CDLL(None, use_errno=True)


def processes(cgroup: str) -> list[int]:
    """The processes of the cgroup and those below it, as far as our PID namespace knows them."""
    pids: list[int] = []
    for directory, _, _ in os.walk(cgroup):
        # A cgroup may be gone meanwhile; a threaded one (EOPNOTSUPP) is listed by its domain above it.
        with suppress(OSError), open(os.path.join(directory, "cgroup.procs")) as file:
            pids += [pid for line in file if (pid := int(line))]
    return pids


def network_namespaces(pids: list[int]) -> Iterator[int]:
    """A descriptor of each network namespace that the processes are in, once."""
    seen = set()
    for pid in pids:
        with suppress(OSError):  # the process has ended
            fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if (inode := os.fstat(fd).st_ino) not in seen:
                    seen.add(inode)
                    yield fd
            finally:
                os.close(fd)


@contextmanager
def entered(namespace: int) -> Iterator[None]:
    """This thread in another network namespace, and back. Raises OSError; needs CAP_SYS_ADMIN."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(namespace)
        try:
            yield
        finally:
            _setns(own)
    finally:
        os.close(own)


def enter_new() -> None:
    """This thread in a network namespace of its own, for good. Raises OSError; needs CAP_SYS_ADMIN."""
    if _libc.unshare(_CLONE_NEWNET) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _setns(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) < 0:
        raise OSError(ctypes.get_errno(), "a network namespace can't be entered")
