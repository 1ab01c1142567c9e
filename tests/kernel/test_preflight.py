"""Each cause for which a pod can't be limited, forced for real: one line, a reason, an exit code, and nothing attached.

Not forced here: a kernel that is really old, or charges RLIMIT_MEMLOCK, or is locked down. What this kernel itself can
be made to say is asked for (`setarch --uname-2.6`); tests/kernels has the kernels.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cgroup import Cgroup
from loader import adopt, bpf
from loader.shaper import Shaper, attached_ids
from tests.kernel.conftest import ROOT, Pod

_SECCOMP = str(Path(__file__).with_name("with_seccomp.py"))
_NO_TYPES = "mount -t tmpfs tmpfs /sys/kernel/btf"


@pytest.mark.parametrize(
    ("capabilities", "missing"),
    [
        (["bpf"], "this process lacks CAP_NET_ADMIN"),
        (["net_admin"], "this process lacks CAP_BPF"),
        ([], "this process lacks CAP_BPF and CAP_NET_ADMIN"),
    ],
)
def test_a_missing_capability_is_named(pod: Pod, capabilities: list[str], missing: str) -> None:
    pod.capabilities = capabilities
    line = pod.fails("permission")
    assert missing in line
    assert "add: [BPF, NET_ADMIN]" in line


@pytest.mark.parametrize("errno", ["EPERM", "ENOSYS"])  # containerd's and Docker's answer
def test_a_seccomp_filter(pod: Pod, errno: str) -> None:
    pod.within = [sys.executable, _SECCOMP, errno]
    assert "a seccomp filter refuses the system call bpf" in pod.fails("seccomp")
    assert not any(attached_ids(str(pod.cgroup)))


def test_a_user_namespace(pod: Pod) -> None:
    """As hostUsers: false: all capabilities, of a namespace that BPF does not ask."""
    pod.capabilities += ["setfcap"]  # to map root, since 5.12
    pod.within = ["unshare", "--user", "--map-root-user"]
    assert "hostUsers" in pod.fails("user-namespace")


def test_a_node_on_cgroup_v1(pod: Pod) -> None:
    pod.mounts = "umount /run/podrate/cgroup; mount -t cgroup -o none,name=podrate-test v1 /run/podrate/cgroup"
    assert "no cgroup v2 is mounted at or below /run/podrate/cgroup, only v1" in pod.fails("no-cgroup2")


def test_a_mount_that_is_not_the_nodes_cgroups(pod: Pod) -> None:
    pod.mounts = "umount /run/podrate/cgroup"
    line = pod.fails("no-cgroup2")
    assert "no cgroup v2 is mounted at or below /run/podrate/cgroup. " in line


@pytest.mark.parametrize(
    "uid", ["", "pod", "ffffffff-ffff-ffff-ffff-ffffffffffff", "../../../../../../etc/passwd/aaaa"]
)
def test_a_cgroup_that_is_not_found_is_not_replaced_by_another(pod: Pod, uid: str) -> None:
    line = pod.fails("no-cgroup", uid)
    assert repr(uid) in line or uid in line
    found = [path for path, _, _ in os.walk(pod._root) if any(attached_ids(path))]
    assert found == []


def test_no_annotation_no_start(pod: Pod) -> None:
    pod.annotate("")
    assert "podrate.io/limit" in pod.fails("annotation")
    assert not any(attached_ids(str(pod.cgroup)))


def test_somebody_elses_program_is_refused(pod: Pod) -> None:
    """Another loader's program that this pod's state does not know: without CAP_SYS_ADMIN it could be anybody's."""
    with Shaper() as other:
        other.attach(str(pod.cgroup), bpf.EXCLUSIVE)
        assert "has another exclusive BPF program" in pod.fails("occupied")
        assert attached_ids(str(pod.cgroup)) == tuple((each,) for each in other.program_ids)


def test_an_exclusive_program_above_is_named(pod: Pod) -> None:
    with Shaper() as other:
        other.attach(str(pod.cgroup.parent), bpf.EXCLUSIVE)
        line = pod.fails("occupied")
        above = f"/run/podrate/cgroup/kubepods/burstable (program {other.program_ids[0]}) has an exclusive program"
        assert above in line


def explained(script: str, *within: str) -> str:
    """What preflight says of what `script` does, a failing call of the binding, in a process of its own."""
    whole = f"from loader import adopt, bpf, preflight\ntry: {script}\nexcept bpf.BpfError as error:\n"
    whole += "    print(preflight.explain(error))"
    done = subprocess.run([*within, sys.executable, "-c", whole], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout


def in_mounts(script: str) -> list[str]:
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", f'{script}; exec "$@"', "sh"]


def test_a_kernel_without_its_types() -> None:
    """The shaper loads without them; what reads the kernel's own structures does not."""
    script = f"bpf.ObjectSpec({adopt.OBJECT!r}).load()"
    assert explained(script) == ""
    assert explained(script, *in_mounts(_NO_TYPES)).startswith("no-btf: load ")


def test_an_old_kernel() -> None:
    script = f"bpf.ObjectSpec({adopt.OBJECT!r}).load()"
    line = explained(script, *in_mounts(_NO_TYPES), "setarch", "--uname-2.6")
    assert line.startswith("old-kernel: load ")
    assert ": this is Linux 2.6." in line


def test_memory_that_may_not_be_locked() -> None:
    """It counts before Linux 5.11 only: here a limit of nothing is no hindrance, and no explanation."""
    no_room = ["prlimit", "--memlock=0", "setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]
    script = "from loader import preflight; print(preflight.memory_lock(), preflight.shaping())"
    now = subprocess.run([*no_room, sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert now.stdout == "None None\n"
    argv = [*no_room, "setarch", "--uname-2.6", sys.executable, "-c", script]
    before = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, check=True)
    assert before.stdout.startswith("memlock: RLIMIT_MEMLOCK is 0 bytes")


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    line = explained(f"bpf.ObjectSpec({str(tmp_path / 'none.o')!r}).load()")
    assert line.startswith("kernel: open ")
    assert "install podrate anew" in line


def test_no_room_for_another_file() -> None:
    line = explained("[bpf.ObjectSpec(adopt.OBJECT).load() for _ in range(9)]", "prlimit", "--nofile=12")
    assert line.startswith("kernel: ")
    assert "Too many open files. Remedy: raise the limit of open files" in line


def test_what_the_verifier_says_is_the_last_resort(tmp_path: Path) -> None:
    from tests.kernel.test_bpf import compiled

    bad = compiled(tmp_path, "return *(char *)(long)skb->data & 1;")
    line = explained(f"bpf.ObjectSpec({str(bad)!r}).load()")
    assert line.startswith("kernel: load ")
    assert "outside of the packet" in line
    assert line.count("\n") == 1


def test_everything_is_there(pod_cgroup: Cgroup) -> None:
    from loader.preflight import CHECKS

    assert [(check.works, failure) for check in CHECKS if (failure := check.failure())] == []
    assert not any("podrate-doctor" in name for _, names, _ in os.walk(pod_cgroup.root.parent) for name in names)
