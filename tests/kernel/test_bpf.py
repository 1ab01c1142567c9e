"""The binding against the real library and kernel, failures included."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cgroup import Cgroup
from loader import bpf
from loader.shaper import OBJECT
from tests.kernel.conftest import ROOT

ENTER = bpf.CGROUP_INET_EGRESS


@pytest.fixture
def fd(pod_cgroup: Cgroup) -> int:
    return os.open(pod_cgroup.path, os.O_RDONLY)


def compiled(directory: Path, body: str) -> Path:
    """An object with one program, `tried`, on the egress hook."""
    source, built = directory / "tried.bpf.c", directory / "tried.o"
    source.write_text(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
        f'SEC("cgroup_skb/egress") int tried(struct __sk_buff *skb) {{ {body} }}\n'
        'char LICENSE[] SEC("license") = "GPL";\n'
    )
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    subprocess.run(["clang-14", "--target=bpf", "-O2", "-g", include, "-c", "-o", built, source], check=True)
    return built


def test_an_object_that_is_not_there() -> None:
    with pytest.raises(bpf.BpfError, match="open /nowhere.o: No such file") as caught:
        bpf.ObjectSpec("/nowhere.o").load()
    assert caught.value.errno == 2


def test_an_object_that_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "bad.o").write_bytes(b"\x7fELF, or so it says" * 100)
    with pytest.raises(bpf.BpfError, match="open .*bad.o: "):
        bpf.ObjectSpec(str(tmp_path / "bad.o")).load()


def test_the_verifier_says_why(tmp_path: Path) -> None:
    """A program that reads past the packet it was given."""
    bad = compiled(tmp_path, "return *(char *)(long)skb->data & 1;")
    with pytest.raises(bpf.VerifierError) as caught:
        bpf.ObjectSpec(str(bad)).load()
    assert "outside of the packet" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.log.count("\n") > 3
    assert caught.value.errno == 13


def test_a_program_that_is_too_large_is_said_to_be_with_all_of_a_log_that_overflows(tmp_path: Path) -> None:
    """The verifier walks a million instructions; what it writes on the way is more than any log holds."""
    large = compiled(
        tmp_path,
        'volatile int sum = 0;\n_Pragma("nounroll")\nfor (int i = 0; i < 1000000; i++) sum += i;\nreturn 1;',
    )
    with pytest.raises(bpf.VerifierError) as caught:
        bpf.ObjectSpec(str(large)).load()
    assert caught.value.errno == errno.E2BIG
    assert "BPF program is too large" in str(caught.value)
    assert len(caught.value.log) > 1 << 20


def test_nothing_stays_open(tmp_path: Path) -> None:
    """Whatever is closed, or failed."""
    bad = compiled(tmp_path, "return *(char *)(long)skb->data & 1;")
    before = [each.name for each in Path("/proc/self/fd").iterdir()]
    for path in ("/nowhere.o", str(bad)):
        with pytest.raises(bpf.BpfError):
            bpf.ObjectSpec(path).load()
    with bpf.ObjectSpec(OBJECT).load() as loaded, bpf.Program.by_id(loaded.program("podrate_egress").id) as program:
        for each in program.maps().values():
            with each:
                assert each.fd not in (loaded.map(each.name).fd, program.fd)
    assert [each.name for each in Path("/proc/self/fd").iterdir()] == before


def test_names_that_an_object_lacks() -> None:
    with bpf.ObjectSpec(OBJECT).load() as loaded:
        with pytest.raises(KeyError, match="nothing"):
            loaded.map("nothing")
        with pytest.raises(KeyError, match="nothing"):
            loaded.program("nothing")


def test_maps_take_values_of_their_size_at_their_indices() -> None:
    with bpf.ObjectSpec(OBJECT).load() as loaded:
        active = loaded.map("active")
        active[1] = b"\1\0\0\0"
        assert (active[0], active[1]) == (b"\0\0\0\0", b"\1\0\0\0")
        with pytest.raises(ValueError, match="takes 4 bytes, not 8"):
            active[0] = bytes(8)
        with pytest.raises(bpf.BpfError, match=r"write map active\[2\]: Argument list too long"):
            active[2] = bytes(4)
        with pytest.raises(bpf.BpfError, match=r"read map active\[2\]: No such file"):
            active[2]
        cpus = len(os.sched_getaffinity(0))
        assert len(loaded.map("counters")[0]) >= cpus * 48


def test_an_attachment_outlives_its_descriptors_and_is_replaced_in_place(fd: int) -> None:
    with bpf.ObjectSpec(OBJECT).load() as loaded:
        first = loaded.program("podrate_egress")
        bpf.attach(first, fd, ENTER, bpf.EXCLUSIVE)
    assert bpf.attachments(fd, ENTER) == (bpf.EXCLUSIVE, (first.id,))
    with bpf.ObjectSpec(OBJECT).load() as loaded:
        second = loaded.program("podrate_egress")
        bpf.attach(second, fd, ENTER, bpf.EXCLUSIVE)
        assert bpf.attachments(fd, ENTER) == (bpf.EXCLUSIVE, (second.id,))
        bpf.detach(second, fd, ENTER)
    assert bpf.attachments(fd, ENTER) == (bpf.EXCLUSIVE, ())


def test_a_program_of_the_wrong_kind(fd: int) -> None:
    with bpf.ObjectSpec(OBJECT).load() as loaded, pytest.raises(bpf.BpfError, match="Invalid argument"):
        bpf.attach(loaded.program("podrate_egress"), fd, bpf.CGROUP_INET_INGRESS, bpf.EXCLUSIVE)


def test_a_child_cannot_override_an_exclusive_program(pod_cgroup: Cgroup, fd: int) -> None:
    parent = os.open(pod_cgroup.path.parent, os.O_RDONLY)
    with bpf.ObjectSpec(OBJECT).load() as loaded:
        program = loaded.program("podrate_egress")
        bpf.attach(program, parent, ENTER, bpf.EXCLUSIVE)
        with pytest.raises(bpf.BpfError, match="attach podrate_egress: Operation not permitted") as caught:
            bpf.attach(program, fd, ENTER, bpf.EXCLUSIVE)
    assert caught.value.errno == 1


def test_without_capabilities_the_kernel_refuses() -> None:
    script = f"from loader import bpf; bpf.ObjectSpec({OBJECT!r}).load()"
    argv = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, check=False)
    assert "BpfError" in done.stderr.splitlines()[-1]
    assert "Operation not permitted" in done.stderr.splitlines()[-1]
