"""What a limited pod pays for its sidecar: the time to start it, and the memory and wakeups while it waits.

The real process as a container has it: a root of its own with the files that Dockerfile.loader puts there (so that no
page is shared with another program of this machine), the pod's mounts and the pod's two capabilities. Memory is PSS as
the kernel counts it (smaps_rollup): a page that ten processes map counts a tenth for each.
"""

import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from bandwidth.limit import Limit, encode
from bench.cgroup import Cgroup
from bench.command import LabError, run, stop

_SOURCE = Path(__file__).parents[1]
_PYTHON = Path("/usr/bin/python3")  # the distribution's, as in the image
# The pod's two, and one to get into the root.
_CAPABILITIES = ["setpriv", "--bounding-set=-all,+bpf,+net_admin,+sys_chroot", "--inh-caps=-all", "--no-new-privs"]


class Resident(NamedTuple):
    """One sidecar. Seconds, bytes, and voluntary context switches a second."""

    start: float  # from its exec until the limit is in force
    follow: float  # from a change of the annotation's file until it is in force
    alone: int  # PSS, the only one on the node
    anonymous: int  # of that, what no other could share and no kernel drop
    shared: int  # PSS, one of ten
    wakeups: float
    cpu: float  # of one CPU, while it waits


class _Sidecar:
    """One sidecar in a pod of its own, started in `root`."""

    def __init__(self, root: Path, number: int, stack: ExitStack) -> None:
        uid = f"0f0e0d0c-0b0a-4908-8706-{number:012d}"
        cgroup = stack.enter_context(Cgroup("resident", f"kubepods/pod{uid}/podrate"))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podrate-resident-pod-")))
        self._limit = directory / "limit"
        self._limit.mkdir()
        (directory / "state").mkdir()
        self._annotate(10_000_000)
        script = "mount --bind $0 $0; mount -o remount,bind,ro $0\n"
        script += "mount -t tmpfs tmpfs $0/run; mount -t proc proc $0/proc; mount -t sysfs sysfs $0/sys\n"
        for name, source in (("cgroup", cgroup.root), ("limit", self._limit), ("state", directory / "state")):
            script += f"mkdir -p $0/run/podrate/{name}; mount --bind {source} $0/run/podrate/{name}\n"
        script += f'date +%s.%N >{directory}/began; exec "$@"'
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, str(root)]
        argv = cgroup.command([*enter, *_CAPABILITIES, "chroot", str(root), "podrate", "sidecar"])
        environment = {"POD_UID": uid, "PATH": os.environ["PATH"]}
        self._process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment)
        stack.callback(stop, self._process)
        in_force = self._await_in_force()
        self.start = in_force - float((directory / "began").read_text())

    def change(self) -> float:
        """Change the limit as the kubelet does, by a rename; returns the seconds until it was in force."""
        began = time.time()
        self._annotate(20_000_000)
        return self._await_in_force() - began

    def memory(self) -> dict[str, int]:
        """smaps_rollup in bytes."""
        lines = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines()[1:]
        return {name.rstrip(":"): int(size) * 1024 for name, size, _ in (line.split() for line in lines)}

    def spent(self) -> tuple[int, float]:
        """Voluntary context switches, and seconds of CPU, until now."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        nanoseconds = Path(f"/proc/{self._process.pid}/schedstat").read_text().split()[0]
        (switches,) = re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.MULTILINE)
        return int(switches), int(nanoseconds) / 1e9

    def _annotate(self, rate: int) -> None:
        written = self._limit / "..new"
        written.write_text(encode(Limit(rate)))
        written.rename(self._limit / "limit")

    def _await_in_force(self) -> float:
        """When the next line came that says so."""
        assert self._process.stderr is not None  # noqa: S101
        line = self._process.stderr.readline()
        if "is in force" not in line:
            raise LabError(f"sidecar: {line.strip()} {self._process.stderr.read().strip()}")
        return time.time()


def measure(seconds: float, count: int = 10) -> Resident:
    """Start `count` sidecars one after the other, watch them wait for some seconds, then change their limits."""
    with ExitStack() as stack:
        root = stack.enter_context(_image())
        sidecars = [_Sidecar(root, number, stack) for number in range(count)]
        time.sleep(1)
        shared = [each.memory()["Pss"] for each in sidecars]
        before = [each.spent() for each in sidecars]
        time.sleep(seconds)
        after = [each.spent() for each in sidecars]
        follow = [each.change() for each in sidecars]
    with ExitStack() as stack:
        only = _Sidecar(stack.enter_context(_image()), 0, stack)
        time.sleep(1)
        alone = only.memory()
    spent = [[(b - a) / seconds for a, b in zip(*each, strict=True)] for each in zip(before, after, strict=True)]
    return Resident(
        start=statistics.median(each.start for each in sidecars),
        follow=statistics.median(follow),
        alone=alone["Pss"],
        anonymous=alone["Anonymous"],
        shared=round(statistics.mean(shared)),
        wakeups=statistics.mean(wakeups for wakeups, _ in spent),
        cpu=statistics.mean(cpu for _, cpu in spent),
    )


@contextmanager
def _image() -> Iterator[Path]:
    """The loader's root file system, from this machine's files: Python, libbpf, and ours where the image has them."""
    if not _PYTHON.exists():
        raise LabError(f"{_PYTHON}: not installed; the sidecar's interpreter is the distribution's")
    version = run([_PYTHON, "-c", "import sys; print('python%d.%d' % sys.version_info[:2])"]).strip()
    with tempfile.TemporaryDirectory(prefix="podrate-resident-") as directory:
        root = Path(directory)
        for name in ("usr/bin", "usr/lib/podrate/bpf", "usr/lib64", "proc", "sys", "run", "tmp"):
            (root / name).mkdir(parents=True)
        for name in ("bin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        library = Path("/usr/lib") / version
        shutil.copytree(library, root / f"usr/lib/{version}", ignore=shutil.ignore_patterns("test", "idlelib", "*.a"))
        shutil.copy2(_PYTHON.resolve(), root / "usr/bin/python3")
        loaded = [_PYTHON, *library.glob("lib-dynload/_ctypes.*.so"), *_libbpf()]
        for path in {*_libbpf(), *re.findall(r"(/\S+) \(0x", run(["ldd", *map(str, loaded)]))}:
            target = root / str(path).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        shutil.copytree(_SOURCE / "bpf/build", root / "usr/lib/podrate/bpf/build")
        for package in ("bandwidth", "loader"):
            shutil.copytree(_SOURCE / package, root / "usr/lib/podrate" / package, ignore=_not_python)
        shutil.copy2(_SOURCE / "loader/image/podrate", root / "usr/bin/podrate")
        compiling = "/usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/podrate"
        run(["chroot", root, *compiling.split()])
        yield root


def _not_python(_: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".py")]


def _libbpf() -> list[str]:
    caches = run(["ldconfig", "-p"])
    return re.findall(r"libbpf\.so\.1 .*=> (\S+)", caches)[:1]
