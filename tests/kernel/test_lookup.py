"""A pod's cgroup is found by the pod's UID in every shape of tree that kubelets and runtimes build, on the real one."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cgroup import Cgroup
from loader.cgroup import find_pod, mount_point
from loader.failure import Failure
from tests.kernel.conftest import ROOT, in_a_mount_namespace

UID, OTHER = str(uuid.uuid4()), str(uuid.uuid4())
STATIC = uuid.uuid4().hex  # of a static pod the UID is a hash
CONTAINER = uuid.uuid4().hex * 2

# {0} is the UID, {1} the same as the systemd driver writes it: a dash would mean a slice within a slice.
SHAPES = {
    "cgroupfs driver, guaranteed": "kubepods/pod{0}",
    "cgroupfs driver, burstable": "kubepods/burstable/pod{0}",
    "cgroupfs driver, besteffort": "kubepods/besteffort/pod{0}",
    "systemd driver, guaranteed": "kubepods.slice/kubepods-pod{1}.slice",
    "systemd driver, burstable": "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{1}.slice",
    "systemd driver, besteffort": "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{1}.slice",
    "kind, systemd driver": "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"
    "kubelet-kubepods-burstable-pod{1}.slice",
    "kind, cgroupfs driver": "kubelet/kubepods/burstable/pod{0}",
    "kind, from the host that runs it": f"docker/{CONTAINER}/kubelet.slice/kubelet-kubepods.slice/"
    "kubelet-kubepods-pod{1}.slice",
    "k3s, below its own service": "system.slice/k3s.service/kubepods/burstable/pod{0}",
    "k3d, from the host that runs it": f"system.slice/docker-{CONTAINER}.scope/kubepods/besteffort/pod{{0}}",
    "minikube, in a libpod container": f"machine.slice/libpod-{CONTAINER}.scope/kubepods.slice/kubepods-pod{{1}}.slice",
}


def path(shape: str, uid: str) -> str:
    return SHAPES[shape].format(uid, uid.replace("-", "_"))


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tree(shape: str) -> Iterator[Cgroup]:
    """A node's tree with this pod, its neighbour, both with containers, and what is called nearly so."""
    with Cgroup("lookup") as tree:
        for uid in (UID, OTHER, STATIC):
            for container in (f"cri-containerd-{CONTAINER}.scope", f"crio-{CONTAINER}.scope/container", CONTAINER):
                (tree.root / path(shape, uid) / container).mkdir(parents=True)
        near = UID[:-1] + ("0" if UID[-1] != "0" else "1")
        for name in (path(shape, near), f"system.slice/var-lib-kubelet-pods-{UID}-volumes.mount", f"pods/{UID}"):
            (tree.root / name).mkdir(parents=True)
        yield tree


@pytest.mark.parametrize("uid", [UID, OTHER, STATIC])
def test_the_pods_own_cgroup_is_found(tree: Cgroup, shape: str, uid: str) -> None:
    """Its own, neither a container's nor a neighbour's; from the node's root, or from anywhere above it."""
    assert find_pod(str(tree.root), uid) == str(tree.root / path(shape, uid))
    assert find_pod(mount_point(), uid) == str(tree.root / path(shape, uid))


def test_a_uid_that_is_there_twice_is_refused(tree: Cgroup, shape: str) -> None:
    """A cluster within a node of another, say. Either could be the wrong one."""
    (tree.root / "within" / path(shape, UID)).mkdir(parents=True)
    with pytest.raises(Failure, match="is twice: "):
        find_pod(str(tree.root), UID)


def test_a_pod_that_is_gone_is_nowhere(tree: Cgroup) -> None:
    with pytest.raises(Failure, match="is nowhere below"):
        find_pod(str(tree.root), str(uuid.uuid4()))


def look(script: str, directory: Path, *, within: Cgroup | None = None, namespaces: tuple[str, ...] = ()) -> str:
    """What a loader prints that looks for the pod below `directory`, in mounts of its own, changed by `script`."""
    program = "import sys; from loader.cgroup import *; from loader.failure import Failure\n"
    program += "try: print(find_pod(mount_point(sys.argv[1]), sys.argv[2]))\n"
    program += "except Failure as failure: print(failure)"
    argv = [*in_a_mount_namespace(script), sys.executable, "-c", program, str(directory), UID]
    argv = ["unshare", *namespaces, *argv] if namespaces else argv
    command = within.command(argv) if within else argv
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("shape", ["cgroupfs driver, burstable"], indirect=True)
class TestMounts:
    """Where the hierarchy is mounted, each in a mount namespace of the test's own."""

    def test_unified(self, tree: Cgroup, shape: str, tmp_path: Path) -> None:
        found = look(f"mount -t cgroup2 cgroup2 {tmp_path}", tmp_path)
        assert found == f"{tmp_path}/{tree.root.name}/{path(shape, UID)}"

    def test_hybrid(self, tree: Cgroup, shape: str, tmp_path: Path) -> None:
        """systemd's: version 1 beside it."""
        script = f"mount -t tmpfs tmpfs {tmp_path}; mkdir {tmp_path}/systemd {tmp_path}/unified\n"
        script += f"mount -t cgroup -o none,name=podrate-test cgroup {tmp_path}/systemd\n"
        script += f"mount -t cgroup2 cgroup2 {tmp_path}/unified"
        found = look(script, tmp_path)
        assert found == f"{tmp_path}/unified/{tree.root.name}/{path(shape, UID)}"

    def test_what_is_mounted_over_is_not_there(self, tree: Cgroup, shape: str, tmp_path: Path) -> None:
        """mountinfo shows it all the same, as in a node that has its machine's root and a /sys of its own."""
        hidden, seen = tmp_path / "unified", tmp_path / "seen"
        script = f"mkdir {hidden}; mount -t cgroup2 cgroup2 {hidden}; mount -t tmpfs tmpfs {tmp_path}\n"
        script += f"mkdir {seen}; mount -t cgroup2 cgroup2 {seen}"
        assert look(script, tmp_path) == f"{seen}/{tree.root.name}/{path(shape, UID)}"

    def test_version_1_alone(self, tmp_path: Path) -> None:
        script = f"mount -t cgroup -o none,name=podrate-test cgroup {tmp_path}"
        assert "no cgroup v2 is mounted" in (said := look(script, tmp_path))
        assert "only v1" in said

    def test_a_part_of_it_bound_elsewhere(self, tree: Cgroup, shape: str, tmp_path: Path) -> None:
        """A path with a space, which stands as an escape in mountinfo."""
        bound = tmp_path / "the node's cgroups"
        bound.mkdir()
        script = f'mount --bind {tree.root} "{bound}"; mount -o remount,bind,ro "{bound}"'
        assert look(script, bound) == f"{bound}/{path(shape, UID)}"

    def test_in_a_cgroup_namespace(self, tree: Cgroup, shape: str, tmp_path: Path) -> None:
        """As in a node of kind or k3d: what is mounted there begins at the node's own cgroup."""
        found = look(f"mount -t cgroup2 cgroup2 {tmp_path}", tmp_path, within=tree, namespaces=("--cgroup",))
        assert found == f"{tmp_path}/{path(shape, UID)}"

    def test_the_hosts_mount_seen_from_a_cgroup_namespace(self, tree: Cgroup, shape: str, tmp_path: Path) -> None:
        """As a hostPath is seen from a pod: mountinfo then shows a root of /../.."""
        inside = tree.child("pod-of-the-loader")
        script = f"mount --bind {mount_point()} {tmp_path}"
        found = look(script, tmp_path, within=inside, namespaces=("--cgroup",))
        assert found == f"{tmp_path}/{tree.root.name}/{path(shape, UID)}"
