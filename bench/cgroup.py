"""A cgroup of our own below the machine's cgroup2 mount.

with Cgroup("try", "kubepods/burstable/pod1/app") as cgroup:
    subprocess.run(cgroup.command(["curl", url]))
"""

import copy
import errno
import itertools
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.command import Argv, LabError, undisturbed

_serial = itertools.count(1)


class Cgroup:
    """A context manager: the cgroup `path`, made below `root`, a directory of ours alone in the cgroup2 mount.

    name:   what it is for; the root is podrate-<name>-<our pid>-<serial number>
    below:  the path from that root to the cgroup, for example kubepods/burstable/pod<uid>/<container>

    On the way out what still runs inside is killed, and everything from the root down is removed.
    Raises LabError when there is no cgroup v2, or none may be made.
    """

    def __init__(self, name: str, below: str = "") -> None:
        self.root = cgroup2_mount() / f"podrate-{name}-{os.getpid()}-{next(_serial)}"
        self.path = self.root / below

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True)
        except OSError as error:
            self._close()
            raise LabError(f"{self.path}: no cgroup can be made: {error.strerror}") from None
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def command(self, argv: Argv) -> list[str]:
        """The command line that starts `argv` inside the cgroup: not one instruction of it runs outside."""
        enter = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
        return ["sh", "-c", enter, str(self.path), *map(str, argv)]

    def child(self, name: str) -> Self:
        """A cgroup below this one. It goes when this one does, and is no context manager of its own."""
        child = copy.copy(self)
        child.path = self.path / name
        child.path.mkdir()
        return child

    def processes(self) -> list[int]:
        """The ids of all processes in it and below."""
        pids: list[int] = []
        for directory, _, _ in os.walk(self.root):
            with suppress(FileNotFoundError):
                pids += map(int, Path(directory, "cgroup.procs").read_text().split())
        return pids

    def _close(self) -> None:
        with undisturbed():
            deadline = time.monotonic() + 5
            while self.root.exists():
                for pid in self.processes():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                try:
                    for directory, _, _ in os.walk(self.root, topdown=False):
                        Path(directory).rmdir()
                except OSError as error:
                    # Busy: a killed process is gone from the list some time before it is gone.
                    if error.errno != errno.EBUSY or time.monotonic() > deadline:
                        raise LabError(f"{error.filename}: can't be removed: {error.strerror}") from None
                    time.sleep(0.01)


def cgroup2_mount() -> Path:
    """Where the machine's cgroup2 hierarchy is mounted: /sys/fs/cgroup, or elsewhere beside version 1."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # 31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw: proc_pid_mountinfo(5)
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            return Path(fields.split()[4])
    raise LabError("no cgroup2 file system is mounted; podrate needs cgroup v2")
