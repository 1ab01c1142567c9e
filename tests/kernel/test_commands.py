"""attach, detach, status; and every way in which a command can't be done: one line and a documented exit code."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from bench.cgroup import Cgroup, cgroup2_mount
from loader import bpf
from loader.failure import EXIT_CODES, RUN_EXIT_CODE
from tests.kernel.conftest import ROOT, Podrate, in_a_mount_namespace

NO_RIGHTS = ("setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")


def test_attach_change_status_detach(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    cgroup = str(pod_cgroup.path)
    assert podrate("attach", "--egress", "10M", cgroup).returncode == 0
    (status,) = json.loads(podrate("status", "--json", cgroup).stdout)
    assert status["attachment"] == "exclusive"
    assert (status["egress"]["limit"], status["ingress"]["limit"]) == (10_000_000, None)

    podrate("attach", "--bandwidth", "5M", "--ingress", "7M", cgroup)
    (status,) = json.loads(podrate("status", "--json", cgroup).stdout)
    assert (status["egress"]["limit"], status["ingress"]["limit"]) == (5_000_000, 7_000_000)
    assert "egress  5Mbit/s" in podrate("status", cgroup).stdout
    assert cgroup in podrate("status").stdout

    assert podrate("detach", cgroup).returncode == 0
    assert podrate("status", "--json", cgroup).stdout.strip() == "[]"
    assert podrate.error("detach", cgroup)[0] == EXIT_CODES["not-limited"]


def test_a_reader_that_has_seen_enough_is_no_error(podrate: Podrate) -> None:
    script = '"$@" | true; exit ${PIPESTATUS[0]}'
    done = podrate("status", "--json", prefix=("bash", "-c", script, "bash"))
    assert (done.returncode in (0, 141), done.stderr) == (True, "")


def attached_by_podrate() -> dict[str, list[str]]:
    """Names of our programs by cgroup, as bpftool sees them on the whole machine."""
    tree = subprocess.run(["bpftool", "-j", "cgroup", "tree", cgroup2_mount()], capture_output=True, check=True)
    found = {each["cgroup"]: [program["name"] for program in each["programs"]] for each in json.loads(tree.stdout)}
    return {cgroup: names for cgroup, names in found.items() if any(name.startswith("podrate") for name in names)}


def test_the_attachment_is_where_it_was_asked_for_and_nowhere_else(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    before = attached_by_podrate()
    podrate("attach", "--egress", "10M", str(pod_cgroup.path))
    cgroup, names = str(pod_cgroup.path), ["podrate_ingress", "podrate_egress", "podrate_sockops"]
    added = {path: found for path, found in attached_by_podrate().items() if path not in before}
    assert added == {cgroup: names}


@pytest.mark.parametrize("command", ["run", "attach"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--egress", "10m"], '--egress: "10m": m means milli; did you mean 10M?'),
        (["--egress", ""], "--egress"),
        (["--ingress", "0"], "--ingress"),
        ([], "no rate was given"),
        (["--egres", "10M"], "did you mean --egress?"),
    ],
)
def test_bad_values(podrate: Podrate, pod_cgroup: Cgroup, command: str, options: list[str], words: str) -> None:
    rest = ["--", "true"] if command == "run" else [str(pod_cgroup.path)]
    code, line = podrate.error(command, *options, *rest)
    assert code == (RUN_EXIT_CODE if command == "run" else EXIT_CODES["usage"])
    assert words in line
    assert podrate("status", "--json", str(pod_cgroup.path)).stdout.strip() == "[]", "nothing was half-applied"


def test_without_rights(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    if not _readable_by_others(ROOT):
        pytest.skip(f"others may not read {ROOT}: clone to another place, for example /tmp")
    code, line = podrate.error("run", "--egress", "10M", "--", "true", prefix=NO_RIGHTS)
    assert (code, "run as root" in line) == (RUN_EXIT_CODE, True)
    code, line = podrate.error("attach", "--egress", "10M", str(pod_cgroup.path), prefix=NO_RIGHTS)
    assert (code, "CAP_BPF and CAP_NET_ADMIN" in line) == (EXIT_CODES["permission"], True)
    code, line = podrate.error("status", prefix=NO_RIGHTS)
    assert (code, "run as root" in line) == (EXIT_CODES["permission"], True)


def _readable_by_others(path: Path) -> bool:
    return subprocess.run([*NO_RIGHTS, "ls", path], capture_output=True, check=False).returncode == 0


def test_without_cgroup_v2(podrate: Podrate) -> None:
    prefix = in_a_mount_namespace(f"umount -l {cgroup2_mount()}")
    code, line = podrate.error("status", prefix=prefix)
    assert (code, "no cgroup v2 is mounted" in line) == (EXIT_CODES["no-cgroup2"], True)
    assert podrate.error("run", "--egress", "10M", "--", "true", prefix=prefix)[0] == RUN_EXIT_CODE


def test_without_libbpf(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    caches = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    libraries = {line.split("=> ")[1] for line in caches.splitlines() if line.strip().startswith("libbpf.so.1 ")}
    prefix = in_a_mount_namespace("; ".join(f"mount --bind /dev/null $(readlink -f {path})" for path in libraries))
    code, line = podrate.error("attach", "--egress", "10M", str(pod_cgroup.path), prefix=prefix)
    assert (code, "apt-get install libbpf1" in line) == (EXIT_CODES["libbpf"], True)
    assert podrate.error("run", "--egress", "10M", "--", "true", prefix=prefix)[0] == RUN_EXIT_CODE
    assert podrate("--help", prefix=prefix).returncode == 0, "help needs no library"


def test_somebody_elses_exclusive_program_is_left_alone(podrate: Podrate, pod_cgroup: Cgroup, tmp_path: Path) -> None:
    (tmp_path / "other.bpf.c").write_text(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
        'SEC("cgroup_skb/egress") int other(struct __sk_buff *skb) { return 1; }\n'
        'char LICENSE[] SEC("license") = "GPL";\n'
    )
    (include,) = Path("/usr/include").glob("*-linux-gnu")
    argv = ["clang-14", "--target=bpf", "-O2", "-g", f"-I{include}", "-c", "-o", "other.o", "other.bpf.c"]
    subprocess.run(argv, check=True, cwd=tmp_path)
    fd = os.open(pod_cgroup.path, os.O_RDONLY)
    with bpf.ObjectSpec(str(tmp_path / "other.o")).load() as loaded:
        bpf.attach(loaded.program("other"), fd, bpf.CGROUP_INET_EGRESS, bpf.EXCLUSIVE)
        code, line = podrate.error("attach", "--egress", "10M", str(pod_cgroup.path))
        assert (code, "other" in line) == (EXIT_CODES["occupied"], True)
        assert bpf.attachments(fd, bpf.CGROUP_INET_EGRESS).programs == (loaded.program("other").id,)
        assert bpf.attachments(fd, bpf.CGROUP_INET_INGRESS).programs == (), "nothing was half-applied"
    os.close(fd)
