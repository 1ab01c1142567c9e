"""A node whose disk has no room for the loader's image."""

import contextlib
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.conftest import Fault
from webhook.sidecar import Settings

from . import injected
from .conftest import Figures, pod
from .images import Images, save
from .kubectl import Cluster, eventually
from .machine import Machine
from .node import Node
from .provision import SCRIPT

PORT = 5005  # of the registry, on the node's 127.0.0.1
CONTENT = "/var/lib/containerd/io.containerd.content.v1.content"  # where containerd puts what it downloads
FULL = "/run/full"


@contextlib.contextmanager
def registry(machine: Machine, directory: Path) -> Iterator[str]:
    """A registry on the node with the loader's image and one layer more, of 2 MiB; its reference there."""
    name = "localhost/podrate-loader:larger"
    (directory / "more").write_bytes(os.urandom(2 << 20))
    (directory / "Dockerfile").write_text("FROM localhost/podrate-loader:latest\nCOPY more /more\n")
    build = ["buildah", "build", "--isolation", "chroot", "--pull=false", "-t", name, str(directory)]
    subprocess.run(build, check=True, capture_output=True)
    # The layers are those that the node was given, byte by byte: it asks for the new one only.
    save(name, name, directory / "larger.tar")
    subprocess.run(["buildah", "rmi", name], check=True, capture_output=True)
    with tarfile.open(directory / "larger.tar") as archive:
        archive.extractall(directory / "larger", filter="data")
    serve = [str(SCRIPT), "exec", sys.executable, str(Path(__file__).with_name("registry.py")), f"{directory}/larger"]
    with subprocess.Popen([*serve, str(PORT)], env=machine.environment, stdin=subprocess.PIPE) as server:
        try:
            yield f"127.0.0.1:{PORT}/podrate-loader:larger"
        finally:
            assert server.stdin is not None
            server.stdin.close()


@contextlib.contextmanager
def full_disk(machine: Machine) -> Iterator[Callable[[], object]]:
    """Until the end of the block containerd has 1 MiB left, in memory; what is given makes room.

    Over what it has already, which is only read. What it downloads meanwhile goes to the disk at the end.
    """
    layers = f"lowerdir={CONTENT},upperdir={FULL}/upper,workdir={FULL}/work"
    machine.run("mkdir", FULL)
    machine.run("mount", "-t", "tmpfs", "-o", "size=1m", "full", FULL)
    machine.run("mkdir", f"{FULL}/upper", f"{FULL}/work")
    machine.run("mount", "-t", "overlay", "-o", layers, "full", CONTENT)
    try:
        yield lambda: machine.run("mount", "-o", "remount,size=64m", FULL)
    finally:
        machine.run("umount", CONTENT)
        machine.run("cp", "--archive", f"{FULL}/upper/.", CONTENT)
        machine.run("umount", FULL)
        machine.run("rmdir", FULL)


def test_no_room_for_the_loaders_image(
    cluster: Cluster,
    node: Node,
    machine: Machine,
    images: Images,
    tmp_path: Path,
    figures: Figures,
    fault: Fault,
) -> None:
    with registry(machine, tmp_path) as reference, full_disk(machine) as make_room:
        injected.create(cluster, node, images, "no-room", Settings(reference))
        said = eventually("an event", lambda: _failed(cluster, "no-room", reference), 30)
        assert "no space left on device" in said[0]
        (app,) = cluster.get("pod", "no-room")["status"]["containerStatuses"]
        assert app["state"]["waiting"]["reason"] == "PodInitializing"
        assert node.programs_of(pod(cluster, "no-room").uid) == []
        make_room()
        began = time.monotonic()
        cluster.wait_ready("no-room")
        took = time.monotonic() - began
    assert {each.hook for each in node.programs_of(pod(cluster, "no-room").uid)} >= {"cgroup_inet_egress"}
    cluster.delete("no-room")
    figures["room for the image again to Ready, s"] = took
    fault(
        "the node's disk has no room for the loader's image",
        'the application does not start; an event says "no space left on device"; with room it starts, limited',
        f"{took:.0f} s after there was room",
    )


def _failed(cluster: Cluster, name: str, reference: str) -> list[str]:
    """What events say of an image that could not be pulled."""
    events = cluster.get("events", f"--field-selector=involvedObject.name={name},reason=Failed")["items"]
    return [each["message"] for each in events if reference in each["message"]]
