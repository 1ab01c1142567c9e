"""The documents' commands that need no cluster, on a machine of their own.

It has the network of a laboratory, where example.com is a neighbour that serves files; below /sys/fs/cgroup the
services nginx and backup and the pod shop/web; a home; and a directory of manifests to be checked.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cgroup import Cgroup
from bench.lab import Lab
from tests.docs.blocks import ROOT, Block, blocks, check, tracked, typed
from tests.webhook.control_plane import BIN, obstacle

UID = "0f0e0d0c-0b0a-4908-8706-050403020100"
CGROUPS = ("system.slice/nginx.service", "system.slice/backup.service", f"kubepods/burstable/pod{UID}/container")
# Those that go on until somebody presses q, on a terminal.
ENDLESS = ("podrate top", "podrate top --sort throttled --every 5s")


class Machine:
    """A machine with a limited service and a limited pod; `directory` has its home and its files."""

    def __init__(self, lab: Lab, cgroup: Cgroup, directory: Path) -> None:
        self._lab, self._cgroup, self._directory = lab, cgroup, directory
        for each in CGROUPS:
            (cgroup.path / each).mkdir(parents=True)
        for each in ("home/.config/fish/completions", "site-functions", "bin", "work/deploy"):
            (directory / each).mkdir(parents=True)
        (directory / "hosts").write_text(f"127.0.0.1 localhost\n{lab.peer.v4} example.com\n")
        (directory / "bin" / "podrate").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m loader "$@"\n')
        (directory / "bin" / "podrate").chmod(0o755)
        work = directory / "work"
        (work / "chart").symlink_to(ROOT / "charts/podrate")
        (work / "backup.tar").write_bytes(bytes(100_000))
        shutil.copy(ROOT / "examples/deployment.yaml", work / "deploy/web.yaml")
        shutil.copy(ROOT / "examples/namespace.yaml", work / "namespaces.yaml")
        mounts = [
            "umount --lazy --recursive /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup",
            f"mount -t tmpfs tmpfs /var/log; mkdir -p /var/log/pods/shop_web_{UID}",
            f"mount --bind {directory}/hosts /etc/hosts",
            "mount -t tmpfs tmpfs /usr/local/share; mkdir -p /usr/local/share/zsh/site-functions",
            f"cd {work}",
        ]
        self._prepare = "\n".join([*mounts, 'exec "$@"'])

    def __call__(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a command of a shell."""
        argv = ["unshare", "--mount", "--cgroup", "--propagation", "private", "sh", "-ec", self._prepare, "sh"]
        if (command := text.partition("#")[0].strip()) in ENDLESS:
            text = f"(sleep 1; printf q) | TERM=xterm script --quiet --return --command '{command}' /dev/null"
        environment = os.environ | {
            "HOME": f"{self._directory}/home",
            "PATH": f"{self._directory}/bin:{os.environ['PATH']}:{BIN}",
            "PYTHONPATH": str(ROOT),
            "LC_ALL": "C.UTF-8",
        }
        start = self._lab.pod.command(argv, self._cgroup)
        return typed(text, environment, 120, before=start)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def machine(lab: Lab, tmp_path: Path) -> Iterator[Machine]:
    served = tmp_path / "served"
    served.mkdir()
    (served / "file").write_bytes(bytes(1_000_000))
    lab.peer.popen([sys.executable, Path(__file__).with_name("files.py"), "80", served])
    with Cgroup("docs") as cgroup:
        machine = Machine(lab, cgroup, tmp_path)
        limited = machine("for each in nginx.service shop/web; do podrate attach --bandwidth 10M $each || exit; done")
        assert limited.returncode == 0, limited.stdout
        yield machine
    lab.peer.stop_all()


@pytest.mark.parametrize("block", blocks("machine"), ids=str)
def test_on_a_machine(block: Block, machine: Machine) -> None:
    if "helm " in block.text and (reason := obstacle()):
        assert os.environ.get("CI") != "true", f"no helm: {reason}"  # in CI nothing is skipped
        pytest.skip(f"no helm: {reason}")
    check(block, machine)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows, and a home."""
    copy = tmp_path_factory.mktemp("checkout")
    for each in tracked():
        (copy / each).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / each, copy / each)
    (copy / ".home").mkdir()
    return copy


@pytest.mark.parametrize("block", blocks("checkout"), ids=str)
def test_in_a_checkout(block: Block, checkout: Path) -> None:
    environment = os.environ | {"HOME": f"{checkout}/.home"}
    check(block, lambda text: typed(text, environment, 300, cwd=checkout))


def test_the_demo_ends_with_every_limit_kept() -> None:
    """What `make demo` starts."""
    done = subprocess.run([sys.executable, "-m", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
