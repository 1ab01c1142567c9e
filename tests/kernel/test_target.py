"""What a person calls a cgroup, on real ones: a directory, a PID, a unit, a pod's UID, a pod's name."""

import json
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cgroup import Cgroup, cgroup2_mount
from loader import bpf
from loader.failure import EXIT_CODES, Failure
from loader.shaper import OpenCgroup
from loader.target import resolve
from tests.kernel.conftest import Podrate, in_a_mount_namespace

UID = str(uuid.uuid4())  # nobody else's on this machine
STATIC = uuid.uuid4().hex  # a static pod's UID is a hash
USER = "user.slice/user-1000.slice/user@1000.service/app.slice"


@pytest.fixture
def tree() -> Iterator[Cgroup]:
    """What a node has: services, a user's own, and pods of both drivers."""
    with Cgroup("test") as tree:
        below = [
            "system.slice/podrate-test.service",
            "system.slice/system-podrate\\x2dtest.slice/podrate-test@a.service",
            f"{USER}/podrate-test.service",
            f"{USER}/podrate-mine.service",
            "a/podrate-twice.service",
            "b/podrate-twice.service",
            f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice/cri-1.scope",
            f"kubepods/besteffort/pod{STATIC}/1",
        ]
        for each in below:
            (tree.path / each).mkdir(parents=True)
        yield tree


def test_a_directory_however_it_is_written(tree: Cgroup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    service = tree.path / "system.slice/podrate-test.service"
    (tmp_path / "link").symlink_to(service)
    assert resolve(str(service)) == resolve(f"{service}/") == resolve(str(tmp_path / "link")) == str(service)
    monkeypatch.chdir(service.parent)
    assert resolve("./podrate-test.service") == resolve("podrate-test.service/../podrate-test.service") == str(service)


def test_a_unit_is_the_machines_before_a_users(tree: Cgroup) -> None:
    assert resolve("podrate-test.service") == str(tree.path / "system.slice/podrate-test.service")
    assert resolve("podrate-test") == str(tree.path / "system.slice/podrate-test.service")
    assert resolve("podrate-test@a.service").endswith("/podrate-test@a.service")
    assert resolve("podrate-mine.service") == str(tree.path / USER / "podrate-mine.service")


def test_what_is_there_twice_is_nobodys(tree: Cgroup) -> None:
    with pytest.raises(Failure, match="is there 2 times: .*/[ab]/podrate-twice") as failure:
        resolve("podrate-twice.service")
    assert failure.value.reason == "no-cgroup"
    assert str(tree.path) in str(failure.value)


def test_a_process(tree: Cgroup) -> None:
    container = next(tree.path.glob("kubepods.slice/*/*/cri-1.scope"))
    process = subprocess.Popen(["sh", "-c", f"echo $$ >'{container}/cgroup.procs'; echo in; exec sleep 60"], stdout=-1)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        assert resolve(str(process.pid)) == str(container)
    finally:
        process.kill()
        process.communicate()
    with pytest.raises(Failure, match=f"there is no process {process.pid}"):
        resolve(str(process.pid))


def test_a_process_of_the_root_is_refused() -> None:
    with pytest.raises(Failure, match=r"the cgroup of process 2 is the root cgroup, the whole machine"):
        resolve("2")  # kthreadd


def test_a_pod_by_its_uid(tree: Cgroup) -> None:
    assert resolve(UID) == str(next(tree.path.glob("kubepods.slice/*/*.slice")))
    assert resolve(STATIC) == str(tree.path / f"kubepods/besteffort/pod{STATIC}")
    with pytest.raises(Failure, match="is nowhere below"):
        resolve(str(uuid.uuid4()))


@pytest.fixture
def named(podrate: Podrate, tree: Cgroup) -> Iterator[tuple[str, ...]]:
    """The prefix of a command that sees the kubelet's log directories, as a node has them."""
    assert tree.path.exists()
    gone = "11111111-0b0a-4908-8706-050403020100"  # the pod of the same name before it
    logs = " ".join(
        f"/var/log/pods/{each}" for each in (f"shop_web_{UID}", f"shop_web_{gone}", f"kube-system_etcd_{STATIC}")
    )
    yield in_a_mount_namespace(f"mount -t tmpfs tmpfs /var/log; mkdir -p {logs}")
    podrate("detach", UID)


def test_a_pod_by_its_name(podrate: Podrate, tree: Cgroup, named: tuple[str, ...]) -> None:
    done = podrate("attach", "--egress", "10M", "shop/web", prefix=named)
    assert (done.returncode, done.stderr) == (0, "")
    (status,) = json.loads(podrate("status", "--sample", "0", "--json", UID).stdout)
    assert status["cgroup"] == str(next(tree.path.glob("kubepods.slice/*/*.slice")))
    code, line = podrate.error("attach", "--egress", "10M", "shop/other", prefix=named)
    assert code == EXIT_CODES["no-cgroup"]
    assert "shop/other is neither a directory here nor a pod that has logs in /var/log/pods" in line


def test_completion_offers_units_and_pods_by_name(podrate: Podrate, named: tuple[str, ...]) -> None:
    offered = podrate("completion", "targets", prefix=named).stdout.split()
    assert {"shop/web", "kube-system/etcd", "podrate-test.service", "system.slice"} <= set(offered)
    assert "podrate-mine.service" not in offered


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("", "'' is no cgroup"),
        ("a/b/c", "'a/b/c' is no cgroup"),
        ("/no/such", "/no/such is not there"),
        ("/proc", "/proc is not a cgroup"),
        ("/etc/passwd", "/etc/passwd is not a cgroup"),
        ("no-such", "no unit no-such.service runs here"),
        ("4194305", "there is no process 4194305"),
        ("99999999999999999999", "there is no process"),
        ("\N{ARABIC-INDIC DIGIT ONE}", "no unit"),
        ("..", ".. is not a cgroup"),
        ("x" * 5000, "no unit x"),
        ("/" + "x" * 5000, "is not there"),
        (str(cgroup2_mount()), "the whole machine"),
        (str(cgroup2_mount()) + "/../" + cgroup2_mount().name, "the whole machine"),
    ],
)
def test_what_is_no_cgroup(podrate: Podrate, target: str, said: str) -> None:
    code, line = podrate.error("attach", "--egress", "10M", target)
    assert code == EXIT_CODES["no-cgroup"]
    assert said in line


@pytest.mark.parametrize(
    "name", [b"\x1b]0;owned\x07", b"two\nlines", b"\xff\xfe", "\N{RIGHT-TO-LEFT OVERRIDE}txt".encode()]
)
def test_a_name_does_nothing_to_a_terminal(podrate: Podrate, name: bytes, pod_cgroup: Cgroup) -> None:
    cgroup = os.fsencode(pod_cgroup.path) + b"/" + name
    Path(os.fsdecode(cgroup)).mkdir() if b"\n" not in name else None  # the kernel refuses that one
    argv = [os.fsencode(each) for each in podrate.argv]
    for words in (
        [b"detach", cgroup],
        [b"attach", b"--egress", b"1M", name],
        [b"run", b"--egress", b"1M", b"--", name],
    ):
        done = subprocess.run([*argv, *words], capture_output=True, check=False)
        assert done.returncode != 0
        assert done.stderr.decode().rstrip("\n").isprintable(), done.stderr


def test_a_cgroup_that_goes_while_we_look(podrate: Podrate, tree: Cgroup) -> None:
    """Made and removed all the time, in the way of every walk."""
    script = "while :; do mkdir -p $0/x/y/z; rmdir $0/x/y/z $0/x/y $0/x; done"
    churn = subprocess.Popen(["sh", "-c", script, str(tree.path)], stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(5):
            assert resolve("podrate-test.service")
            done = podrate("status", "--sample", "0", "--json")
            assert (done.returncode, done.stderr) == (0, "")
    finally:
        os.killpg(churn.pid, signal.SIGKILL)
        churn.wait()


def test_a_cgroup_that_was_made_anew_while_it_was_open_is_gone() -> None:
    """Its path leads to another by then."""
    removed = pytest.raises(Failure, match="has been removed")
    with Cgroup("test", "again") as cgroup, removed, OpenCgroup(str(cgroup.path)) as fd:
        cgroup.path.rmdir()
        cgroup.path.mkdir()
        bpf.attachments(fd, bpf.CGROUP_INET_EGRESS)
