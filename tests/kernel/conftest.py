"""What kernel tests need: root, cgroup v2, and the tools that push packets. CI has it all: there nothing skips."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bandwidth.limit import Limit
from bench.cgroup import Cgroup
from bench.lab import Lab
from tests.kernel.pod import ROOT as ROOT
from tests.kernel.pod import UID as UID
from tests.kernel.pod import Pod as Pod

NEEDS = {"ip": "iproute2", "iperf3": "iperf3", "unshare": "util-linux", "setpriv": "util-linux", "cc": "gcc"}


@pytest.fixture(scope="session", autouse=True)
def _machine() -> None:
    missing = [f"{tool} (apt-get install {package})" for tool, package in NEEDS.items() if not shutil.which(tool)]
    if os.geteuid() != 0:
        missing.append("root (sudo make test)")
    if missing and not os.environ.get("CI"):
        pytest.skip(f"kernel tests need {', '.join(missing)}")
    assert not missing


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def pod_cgroup() -> Iterator[Cgroup]:
    """A cgroup as a kubelet would make it, with a container's below."""
    with Cgroup("test", f"kubepods/burstable/pod{UID}/container") as cgroup:
        yield cgroup


@pytest.fixture
def pod(pod_cgroup: Cgroup, tmp_path: Path) -> Iterator[Pod]:
    """That pod, its limit asked for, and its loader not started yet."""
    with Pod(pod_cgroup, tmp_path) as pod:
        pod.annotate(Limit(10_000_000, 20_000_000))
        yield pod


@pytest.fixture
def podrate() -> "Podrate":
    return Podrate([sys.executable, "-m", "loader"])


class Podrate:
    """The podrate command."""

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv

    def __call__(self, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run it to its end; `prefix` is a command that starts it."""
        argv = [*prefix, *self.argv, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, cwd=ROOT, check=False)

    def error(self, *arguments: str, prefix: tuple[str, ...] = ()) -> tuple[int, str]:
        """Run it to its failure; the exit code and the one line it printed."""
        done = self(*arguments, prefix=prefix)
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("podrate: ")
        return done.returncode, lines[0]


def in_a_mount_namespace(script: str) -> tuple[str, ...]:
    """A command prefix: in mounts of its own, changed by `script`."""
    return ("unshare", "--mount", "--propagation", "private", "sh", "-ec", script + '; exec "$@"', "sh")
