"""Us in the place of the pod's node: its cgroup, its volumes, and the injected container started as it is written.

The container runs in a mount namespace of its own, where its volumes are mounted as it asks; with its command, its
environment and its capabilities; in the pod's network namespace and cgroup. What is not as it asks: its image is
this machine, writable, and neither its seccomp profile nor its resources are set. The cluster tests have all of it.
"""

import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.cgroup import Cgroup
from bench.command import LabError, last_line, require, run, stop, undisturbed
from bench.lab import Namespace

Json = dict[str, Any]

_RUN = Path("/run")  # the only directory that the container sees a file system of its own in


class Node:
    """A context manager: the node of one stored `pod`, whose network namespace is `network`.

    app:  the cgroup of the pod's application
    """

    def __init__(self, network: Namespace, pod: Json) -> None:
        require("unshare", "setpriv", "mount")
        self._network = network
        self._pod = pod
        self._container: Json = pod["spec"]["initContainers"][0]
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        with undisturbed():
            self._undo.close()

    def _build(self) -> None:
        # Burstable: it has requests that are not its limits.
        path = f"kubepods/burstable/pod{self._pod['metadata']['uid']}"
        self._cgroup: Cgroup = self._undo.enter_context(Cgroup("demo", path))
        self.app = self._cgroup.child("app")
        self._sidecar_cgroup = self._cgroup.child(self._container["name"])
        self._directory = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="podrate-demo-")))
        self._sources = {volume["name"]: self._volume(volume) for volume in self._pod["spec"]["volumes"]}

    def _volume(self, volume: Json) -> Path:
        """Make a volume, by its kind; returns the directory to mount."""
        if volume.get("hostPath", {}).get("path") == "/sys/fs/cgroup":
            return self._cgroup.root  # all of the cgroup tree that this pretended node has
        directory: Path = self._directory / volume["name"]
        directory.mkdir()
        if "downwardAPI" in volume:
            self._downward = DownwardVolume(directory, volume["downwardAPI"]["items"])
            self._downward.write(self._pod)
        elif "emptyDir" not in volume:
            raise LabError(f"demo: the volume {volume['name']} is of a kind that this node does not have")
        return directory

    def start_sidecar(self) -> float:
        """Start the injected container, wait for its startup probe; returns the seconds that both took together."""
        begun = time.monotonic()
        with (self._directory / "log").open("w") as log:
            process = self._network.popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-ec", self._entry_script()],
                self._sidecar_cgroup,
                stderr=log.fileno(),
            )
        self._undo.callback(stop, process)
        if process.stdout is None or process.stdout.readline() != "started\n":
            raise LabError(f"sidecar: it did not start: {last_line(self.log())}")
        self._probe(process)
        return time.monotonic() - begun

    def log(self) -> str:
        """What the sidecar has said so far."""
        return (self._directory / "log").read_text()

    def update(self, pod: Json) -> float:
        """Do as the kubelet does when the pod was updated; returns the time.monotonic() of the file's change."""
        self._downward.write(pod)
        return time.monotonic()

    def limit_in_force(self) -> int | None:
        """The egress limit in bits/s, read from the kernel's map by way of the program on the pod's cgroup."""
        from loader.attached import find_attached  # loads libbpf; without it, the sidecar has said so in one line

        attached = find_attached(str(self._cgroup.path))
        if attached is None:
            return None
        try:
            return attached.buckets.limit().egress
        finally:
            attached.close()

    def _entry_script(self) -> str:
        lines = [f"mount -t tmpfs -o mode=755 tmpfs {_RUN}"]
        for mount in self._container["volumeMounts"]:
            target = Path(mount["mountPath"])
            if not target.is_relative_to(_RUN):
                raise LabError(f"demo: {target} is not below {_RUN}")
            at = shlex.quote(str(target))
            lines += [f"mkdir -p {at}", f"mount --bind {shlex.quote(str(self._sources[mount['name']]))} {at}"]
            if mount.get("readOnly"):
                lines.append(f"mount -o remount,bind,ro {at}")
        return "; ".join([*lines, "echo started", f"exec {shlex.join(self._inside(self._container['command']))}"])

    def _inside(self, command: list[str]) -> list[str]:
        """`command` with the container's environment and capabilities, and none of ours."""
        # The image's PATH: where pip put `podrate`, and the system's.
        environment = {"PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"}
        for variable in self._container["env"]:
            environment[variable["name"]] = _value(variable, self._pod)
        capabilities = self._container["securityContext"]["capabilities"]["add"]
        bounding = ",".join(["-all", *(f"+{capability.lower()}" for capability in capabilities)])
        drop = ["setpriv", f"--bounding-set={bounding}", "--inh-caps=-all", "--no-new-privs"]
        return ["env", "-i", *(f"{key}={value}" for key, value in environment.items()), *drop, *command]

    def _probe(self, sidecar: subprocess.Popen[str]) -> None:
        """The kubelet's part: ask the startup probe until it succeeds or has failed often enough."""
        probe = self._container["startupProbe"]
        command = self._inside(probe["exec"]["command"])
        enter = ["nsenter", f"--mount=/proc/{sidecar.pid}/ns/mnt", f"--net=/proc/{sidecar.pid}/ns/net", "--"]
        refusal = ""
        for _ in range(probe["failureThreshold"]):
            if sidecar.poll() is not None:
                raise LabError(f"sidecar: exit {sidecar.returncode}: {last_line(self.log())}")
            try:
                run(self._sidecar_cgroup.command([*enter, *command]), timeout=probe["timeoutSeconds"])
            except LabError as error:
                refusal = str(error)
                time.sleep(probe["periodSeconds"])
            else:
                return
        raise LabError(f"sidecar: its startup probe never succeeded: {refusal}")


class DownwardVolume:
    """A directory that is laid out and changed as the kubelet does it (its AtomicWriter): files are links through
    `..data`, which is swapped for a link to a new directory, so that a reader sees the old or the new."""

    def __init__(self, directory: Path, items: list[Json]) -> None:
        self._directory = directory
        self._items = items

    def write(self, pod: Json) -> None:
        """Put the items' fields of `pod` in force."""
        fresh = self._directory / f"..{datetime.now(UTC):%Y_%m_%d_%H_%M_%S.%f}"
        fresh.mkdir()
        for item in self._items:
            (fresh / item["path"]).write_text(field(pod, item["fieldRef"]["fieldPath"]))
        data, swap = self._directory / "..data", self._directory / "..data_tmp"
        former = data.resolve() if data.is_symlink() else None
        swap.symlink_to(fresh.name)
        swap.rename(data)
        for item in self._items:
            link = self._directory / item["path"]
            if not link.is_symlink():
                link.symlink_to(Path("..data") / item["path"])
        if former:
            shutil.rmtree(former)


def field(pod: Json, path: str) -> str:
    """A field of the pod by its downward API path: `metadata.uid`, or `metadata.annotations['KEY']`."""
    name, _, key = path.removesuffix("']").partition("['")
    value: Json | str = pod
    for part in name.split("."):
        value = value[part] if isinstance(value, dict) else ""
    value = value.get(key, "") if isinstance(value, dict) else value
    return str(value)


def _value(variable: Json, pod: Json) -> str:
    """An environment variable's value, its own or a field of the pod."""
    return str(variable["value"]) if "value" in variable else field(pod, variable["valueFrom"]["fieldRef"]["fieldPath"])
