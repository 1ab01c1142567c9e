"""A cgroup of our own, below this process's, for as long as something runs in it."""

import os
from contextlib import suppress
from errno import EACCES, EAGAIN, EEXIST, EOPNOTSUPP, EPERM, EROFS

from loader.cgroup import of_process
from loader.failure import Failure
from loader.lean import Resource

_ROOT = ("permission", "run as root")
_WHY_NOT_MADE = {
    EACCES: _ROOT,
    EPERM: _ROOT,
    EROFS: ("permission", "run podrate where the cgroup2 mount is writable: sudo, docker run --privileged"),
    EAGAIN: ("no-cgroup", "raise cgroup.max.descendants and cgroup.max.depth of the cgroups above"),
    EEXIST: ("no-cgroup", "try again, or remove it: rmdir"),
}
_WHY_NOT_ENTERED = {
    EACCES: _ROOT,
    EPERM: _ROOT,
    EOPNOTSUPP: ("no-cgroup", "start podrate from a cgroup that is not threaded (cgroup.type)"),
}
_OTHERWISE = ("no-cgroup", "try again")


class TransientCgroup(Resource):
    """A new cgroup, podrate-PURPOSE-PID-..., removed when it is closed unless something still runs in it.

    Then it stays until all of that has ended and podrate makes another one beside it.
    """

    def __init__(self, purpose: str) -> None:
        above, prefix = of_process("self"), f"podrate-{purpose}-"
        _remove_abandoned(above, prefix)
        # Random: two process ids of different PID namespaces may be the same.
        self.path = os.path.join(above, f"{prefix}{os.getpid()}-{os.urandom(4).hex()}")
        try:
            os.mkdir(self.path)
        except OSError as error:
            raise _failure(_WHY_NOT_MADE, error.errno, f"{self.path} can't be made") from None

    def enter(self) -> None:
        """Move this process in. Raises OSError."""
        with open(os.path.join(self.path, "cgroup.procs"), "w") as file:
            file.write(str(os.getpid()))

    def not_entered(self, errno: int) -> Failure:
        """What to say when enter() has failed."""
        return _failure(_WHY_NOT_ENTERED, errno, f"{self.path} can't be entered")

    def close(self) -> None:
        """Remove it and those below it, if nothing runs in it."""
        _remove(self.path)


def _failure(why: dict[int, tuple[str, str]], errno: int | None, what: str) -> Failure:
    reason, remedy = why.get(errno or 0, _OTHERWISE)
    return Failure(reason, f"{what}: {os.strerror(errno or 0)}", remedy)


def _remove(path: str) -> None:
    """Nothing below is removed while something runs anywhere in it, for that may just have made it for its own use."""
    with suppress(OSError):
        with open(os.path.join(path, "cgroup.events")) as file:
            if "populated 0\n" not in file:
                return
        for directory, _, _ in os.walk(path, topdown=False):
            os.rmdir(directory)


def _remove_abandoned(above: str, prefix: str) -> None:
    """Those that were left behind, for what ran in them or because podrate was killed, and that are empty now."""
    for name in os.listdir(above):
        pid = name.removeprefix(prefix).partition("-")[0]
        if name.startswith(prefix) and not os.path.exists(f"/proc/{pid}"):
            _remove(os.path.join(above, name))
