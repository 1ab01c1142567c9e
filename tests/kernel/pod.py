"""A pod as its loader sees it: the real mounts and capabilities, and a kubelet's way of changing the annotation."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from bandwidth.limit import ANNOTATION, Limit, encode
from bench.cgroup import Cgroup
from bench.command import stop
from bench.lab import Namespace
from demo.node import DownwardVolume
from loader.attached import find_attached
from loader.failure import EXIT_CODES

ROOT = Path(__file__).parents[2]
UID = "0f0e0d0c-0b0a-4908-8706-050403020100"


class Pod:
    """A pod's three volumes, and its loader, started as often as a test likes.

    mounts:        more of a shell script, run among the container's mounts
    capabilities:  what the container has; as in the pod, unless a test takes some away
    within:        a command that starts the loader
    environment:   more of the container's
    """

    def __init__(self, cgroup: Cgroup, directory: Path) -> None:
        self.mounts = ""
        self.capabilities = ["bpf", "net_admin"]
        self.within: list[str] = []
        self.environment: dict[str, str] = {}
        self.cgroup = cgroup.path.parent
        self._root = cgroup.root
        self._limit, self._state = directory / "limit", directory / "state"
        self._limit.mkdir()
        self._state.mkdir()
        item = {"path": "limit", "fieldRef": {"fieldPath": f"metadata.annotations['{ANNOTATION}']"}}
        self._volume = DownwardVolume(self._limit, [item])
        self._log = directory / "log"
        self._started: list[subprocess.Popen[str]] = []

    def annotate(self, text: str | Limit) -> None:
        annotation = encode(text) if isinstance(text, Limit) else text
        self._volume.write({"metadata": {"annotations": {ANNOTATION: annotation}}})

    def command(self, *arguments: str) -> list[str]:
        """The loader's command line inside its mounts."""
        script = "mount -t tmpfs tmpfs /run; mkdir -p /run/podrate/cgroup /run/podrate/limit /run/podrate/state\n"
        for name, source in (("cgroup", self._root), ("limit", self._limit), ("state", self._state)):
            script += f"mount --bind {source} /run/podrate/{name}\n"
        script += "mount -o remount,bind,ro /run/podrate/cgroup; mount -o remount,bind,ro /run/podrate/limit\n"
        script += f'{self.mounts}\ncd {ROOT}; exec "$@"'
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]
        capabilities = f"--bounding-set=-all,{','.join('+' + each for each in self.capabilities)}".rstrip(",")
        drop = ["setpriv", capabilities, "--inh-caps=-all", "--no-new-privs"]
        return [*enter, *drop, *self.within, sys.executable, "-m", "loader", *arguments]

    def start(self, *options: str, uid: str = UID, network: Namespace | None = None) -> subprocess.Popen[str]:
        command = self.command("sidecar", *options)
        with self._log.open("w") as log:
            environment = {**os.environ, "POD_UID": uid, **self.environment}
            command = network.command(command) if network else command
            self._started.append(subprocess.Popen(command, stderr=log, text=True, env=environment))
        return self._started[-1]

    def probe(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command("probe"), capture_output=True, text=True, timeout=20, check=False)

    def log(self) -> str:
        return self._log.read_text()

    def limit(self) -> Limit:
        """The limit in force, from the kernel."""
        attached = find_attached(str(self.cgroup))
        assert attached is not None
        limit = attached.buckets.limit()
        attached.close()
        return limit

    def await_limit(self, limit: Limit, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.limit() != limit:
            assert time.monotonic() < deadline, f"{self.limit()} after {seconds} s, not {limit}: {self.log()}"
            time.sleep(0.01)

    def await_line(self, text: str, seconds: float = 5) -> None:
        """Wait until the loader has said it."""
        deadline = time.monotonic() + seconds
        while text not in self.log():
            assert time.monotonic() < deadline, f"{text!r} was not said in {seconds} s: {self.log()}"
            time.sleep(0.01)

    def fails(self, reason: str, uid: str = UID) -> str:
        """Start the loader where it can't work; returns its one line."""
        assert self.start(uid=uid).wait(20) == EXIT_CODES[reason], self.log()
        (line,) = self.log().splitlines()
        assert line.startswith(f"podrate: {reason}: ")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            stop(process)
