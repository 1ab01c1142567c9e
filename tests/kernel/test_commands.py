"""attach, detach, status; and every way in which a command can't be done: one line and a documented exit code."""

import fcntl
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from bench.cgroup import Cgroup, cgroup2_mount
from bench.lab import Lab
from loader import bpf
from loader.failure import EXIT_CODES, RUN_EXIT_CODE
from loader.shaper import Shaper, attached_ids
from tests.kernel.conftest import ROOT, Podrate, in_a_mount_namespace

NO_RIGHTS = ("setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")


def test_attach_change_status_detach(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    cgroup = str(pod_cgroup.path)
    assert podrate("attach", "--egress", "10M", cgroup).returncode == 0
    (status,) = json.loads(podrate("status", "--sample", "0", "--json", cgroup).stdout)
    assert status["attachment"] == "multi"
    assert (status["egress"]["limit"], status["ingress"]["limit"]) == (10_000_000, None)

    podrate("attach", "--bandwidth", "5M", "--ingress", "7M", cgroup)
    (status,) = json.loads(podrate("status", "--sample", "0", "--json", cgroup).stdout)
    assert (status["egress"]["limit"], status["ingress"]["limit"]) == (5_000_000, 7_000_000)
    assert "egress  5Mbit/s" in podrate("status", cgroup).stdout
    assert cgroup in podrate("status").stdout

    assert podrate("detach", cgroup).returncode == 0
    assert podrate("status", "--sample", "0", "--json", cgroup).stdout.strip() == "[]"
    assert podrate.error("detach", cgroup)[0] == EXIT_CODES["not-limited"]


def test_set_changes_what_it_names_and_nothing_else(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    cgroup = str(pod_cgroup.path)
    assert podrate.error("set", "--egress", "1M", cgroup)[0] == EXIT_CODES["not-limited"]
    podrate("attach", "--bandwidth", "10M", cgroup)

    def state() -> tuple[list[int], int | None, int | None]:
        (status,) = json.loads(podrate("status", "--sample", "0", "--json", cgroup).stdout)
        return status["programs"], status["egress"]["limit"], status["ingress"]["limit"]

    programs, *_ = state()
    assert podrate("set", "--egress", "20M", cgroup).returncode == 0
    assert state() == (programs, 20_000_000, 10_000_000)
    assert podrate("set", "--ingress", "none", cgroup).returncode == 0
    assert state() == (programs, 20_000_000, None)
    assert podrate("set", "--bandwidth", "none", "--ingress", "1M", cgroup).returncode == 0
    assert state() == (programs, None, 1_000_000)
    assert podrate("set", "--burst", "20ms", "--ingress", "2M", cgroup).returncode == 0
    (status,) = json.loads(podrate("status", "--sample", "0", "--json", cgroup).stdout)
    assert (status["burst_ns"], status["ingress"]["limit"]) == (20_000_000, 2_000_000)
    assert "burst   20ms" in podrate("status", "--sample", "0", cgroup).stdout
    code, line = podrate.error("set", "--ingress", "100k", cgroup)
    assert (code, 'burst: "20ms": a full packet takes' in line) == (EXIT_CODES["usage"], True)
    assert podrate("set", "--burst", "none", "--ingress", "1M", cgroup).returncode == 0
    (status,) = json.loads(podrate("status", "--sample", "0", "--json", cgroup).stdout)
    assert status["burst_ns"] is None
    code, line = podrate.error("set", cgroup)
    assert (code, "no rate was given" in line) == (EXIT_CODES["usage"], True)
    code, line = podrate.error("set", "--egress", "None", cgroup)
    assert code == EXIT_CODES["usage"]
    assert state() == (programs, None, 1_000_000)


def test_a_pod_of_a_sidecar_keeps_the_sidecars_programs(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    """Also where it has no sidecar any more (`--once`)."""
    pod = str(pod_cgroup.path.parent)
    with Shaper() as shaper:
        shaper.attach(pod, bpf.EXCLUSIVE)
        programs = attached_ids(pod)
    assert podrate("attach", "--egress", "3M", pod).returncode == 0
    (status,) = json.loads(podrate("status", "--sample", "0", "--json", pod).stdout)
    assert (status["attachment"], status["egress"]["limit"]) == ("exclusive", 3_000_000)
    assert attached_ids(pod) == programs
    done = podrate("set", "--egress", "4M", pod)
    assert (done.returncode, "until pod 0f0e0d0c-0b0a-4908-8706-050403020100's label is changed" in done.stderr) == (
        0,
        True,
    )


def test_an_exclusive_limit_that_would_not_bind_what_is_below_is_refused(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    pod, container = str(pod_cgroup.path.parent), str(pod_cgroup.path)
    assert podrate("attach", "--egress", "1M", container).returncode == 0
    with Shaper() as shaper:
        shaper.attach(pod, bpf.EXCLUSIVE)
    before = attached_by_podrate(pod_cgroup.root)
    code, line = podrate.error("attach", "--egress", "2M", pod)
    assert (code, f"{container} has BPF programs of its own" in line) == (EXIT_CODES["occupied"], True)
    assert attached_by_podrate(pod_cgroup.root) == before


def test_of_two_at_once_one_waits_for_the_other(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    """Else both attach, or one detaches what the other has just replaced."""
    cgroup = str(pod_cgroup.path)
    assert podrate("attach", "--egress", "3M", cgroup).returncode == 0
    programs = attached_ids(cgroup)
    with Path("/run/podrate.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = [
            subprocess.Popen([*podrate.argv, *words, cgroup], cwd=ROOT)
            for words in (("attach", "--egress", "4M"), ("attach", "--egress", "5M"))
        ]
        with pytest.raises(subprocess.TimeoutExpired):
            waiting[0].wait(1.5)
        assert (waiting[1].poll(), attached_ids(cgroup)) == (None, programs)
    assert [each.wait(20) for each in waiting] == [0, 0]
    assert all(len(each) == 1 for each in attached_ids(cgroup))


@pytest.mark.parametrize("inner_first", [False, True])
def test_limits_nest_in_whatever_order_they_come(podrate: Podrate, inner_first: bool) -> None:
    """The limit above binds a cgroup that has its own: UDP through both is held to the lower one."""
    with Lab() as lab, Cgroup("test", "above/below") as cgroup:
        below, above = str(cgroup.path), str(cgroup.path.parent)
        attach = [("--egress", "2M", above), ("--egress", "1G", below)]
        for words in reversed(attach) if inner_first else attach:
            done = podrate("attach", *words)
            assert (done.returncode, done.stderr) == (0, "")
        server = lab.peer.popen(["iperf3", "-s", "-1"])
        time.sleep(0.3)
        report = json.loads(lab.pod.run(["iperf3", "-c", lab.peer.v4, "-u", "-b", "20M", "-t", "2", "-J"], cgroup))
        assert server.wait(5) == 0
    received = report["end"]["sum"]["bits_per_second"] * (1 - report["end"]["sum"]["lost_percent"] / 100)
    assert 1e6 < received < 2.3e6


def test_a_run_in_an_attached_cgroup(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    podrate("attach", "--egress", "10M", str(pod_cgroup.path))
    argv = pod_cgroup.command([*podrate.argv, "run", "--egress", "1M", "--", "echo", "in"])
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout, done.stderr) == ("in\n", "")


@pytest.mark.parametrize("flags", [bpf.ALLOW_MULTI, bpf.EXCLUSIVE])
def test_detach_knows_a_shaper_of_another_version(
    podrate: Podrate, pod_cgroup: Cgroup, tmp_path: Path, flags: int
) -> None:
    """Programs of our names with other maps: they can be ended and replaced, if not read."""
    compile_bpf(
        tmp_path,
        'SEC("cgroup_skb/egress") int podrate_egress(struct __sk_buff *skb) { return 1; }',
    )
    cgroup = str(pod_cgroup.path)
    fd = os.open(cgroup, os.O_RDONLY)
    for then, code in (("detach", 0), ("attach", 0), ("set", EXIT_CODES["version"]), ("status", EXIT_CODES["version"])):
        with bpf.ObjectSpec(str(tmp_path / "other.o")).load() as loaded:
            bpf.attach(loaded.program("podrate_egress"), fd, bpf.CGROUP_INET_EGRESS, flags)
        rates = ("--egress", "1M") if then in ("attach", "set") else ()
        assert podrate(then, *rates, cgroup).returncode == code, then
        if then == "attach":
            (status,) = json.loads(podrate("status", "--sample", "0", "--json", cgroup).stdout)
            assert status["egress"]["limit"] == 1_000_000
        podrate("detach", cgroup)
        assert bpf.attachments(fd, bpf.CGROUP_INET_EGRESS).programs == ()
    os.close(fd)


def test_a_reader_that_has_seen_enough_is_no_error(podrate: Podrate) -> None:
    script = '"$@" | true; exit ${PIPESTATUS[0]}'
    done = podrate("status", "--sample", "0", "--json", prefix=("bash", "-c", script, "bash"))
    assert (done.returncode in (0, 141), done.stderr) == (True, "")


def attached_by_podrate(below: Path) -> dict[str, list[str]]:
    """Names of our programs by cgroup, as bpftool sees them."""
    tree = subprocess.run(["bpftool", "-j", "cgroup", "tree", below], capture_output=True, check=True)
    found = {each["cgroup"]: [program["name"] for program in each["programs"]] for each in json.loads(tree.stdout)}
    return {
        cgroup: names
        for cgroup, names in found.items()
        if any(name.startswith("podrate") for name in names)
        # On a shared machine other tests come and go.
        and (f"-{os.getpid()}-" in cgroup or "/podrate-" not in cgroup)
    }


def test_the_attachment_is_where_it_was_asked_for_and_nowhere_else(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    before = attached_by_podrate(cgroup2_mount())
    podrate("attach", "--egress", "10M", str(pod_cgroup.path))
    cgroup, names = str(pod_cgroup.path), ["podrate_ingress", "podrate_egress", "podrate_sockops"]
    added = {path: found for path, found in attached_by_podrate(cgroup2_mount()).items() if path not in before}
    assert added == {cgroup: names}


@pytest.mark.parametrize("command", ["run", "attach"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--egress", "10m"], '--egress: "10m": m means milli; did you mean 10M?'),
        (["--egress", ""], "--egress"),
        (["--ingress", "0"], "--ingress"),
        ([], "no rate was given"),
        (["--burst", "20ms"], "no rate was given"),
        (["--egress", "10M", "--burst", "20"], '--burst: "20": the unit is missing; did you mean 20ms?'),
        (["--egress", "1M", "--burst", "5ms"], "a full packet takes 13ms at 1M"),
        (["--egres", "10M"], "did you mean --egress?"),
    ],
)
def test_bad_values(podrate: Podrate, pod_cgroup: Cgroup, command: str, options: list[str], words: str) -> None:
    rest = ["--", "true"] if command == "run" else [str(pod_cgroup.path)]
    code, line = podrate.error(command, *options, *rest)
    assert code == (RUN_EXIT_CODE if command == "run" else EXIT_CODES["usage"])
    assert words in line
    assert podrate("status", "--sample", "0", "--json", str(pod_cgroup.path)).stdout.strip() == "[]", (
        "nothing was half-applied"
    )


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
    compile_bpf(tmp_path, 'SEC("cgroup_skb/egress") int other(struct __sk_buff *skb) { return 1; }')
    fd = os.open(pod_cgroup.path, os.O_RDONLY)
    with bpf.ObjectSpec(str(tmp_path / "other.o")).load() as loaded:
        bpf.attach(loaded.program("other"), fd, bpf.CGROUP_INET_EGRESS, bpf.EXCLUSIVE)
        code, line = podrate.error("attach", "--egress", "10M", str(pod_cgroup.path))
        assert (code, "other" in line) == (EXIT_CODES["occupied"], True)
        assert bpf.attachments(fd, bpf.CGROUP_INET_EGRESS).programs == (loaded.program("other").id,)
        assert bpf.attachments(fd, bpf.CGROUP_INET_INGRESS).programs == (), "nothing was half-applied"
    os.close(fd)


def test_somebody_elses_shared_program_stays_beside_ours(podrate: Podrate, pod_cgroup: Cgroup, tmp_path: Path) -> None:
    """As systemd's, of a unit with IPAccounting."""
    compile_bpf(tmp_path, 'SEC("cgroup_skb/egress") int sd_fw_egress(struct __sk_buff *skb) { return 1; }')
    fd = os.open(pod_cgroup.path, os.O_RDONLY)
    with bpf.ObjectSpec(str(tmp_path / "other.o")).load() as loaded:
        theirs = loaded.program("sd_fw_egress").id
        bpf.attach(loaded.program("sd_fw_egress"), fd, bpf.CGROUP_INET_EGRESS, bpf.ALLOW_MULTI)
        for _ in range(2):
            assert podrate("attach", "--egress", "10M", str(pod_cgroup.path)).returncode == 0
            attached = bpf.attachments(fd, bpf.CGROUP_INET_EGRESS).programs
            assert (len(attached), theirs in attached) == (2, True)
        assert podrate("detach", str(pod_cgroup.path)).returncode == 0
        assert bpf.attachments(fd, bpf.CGROUP_INET_EGRESS).programs == (theirs,)
    os.close(fd)


def compile_bpf(directory: Path, program: str) -> None:
    """Compile a program to other.o in `directory`."""
    text = f'#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n{program}\nchar LICENSE[] SEC("license") = "GPL";\n'
    (directory / "other.bpf.c").write_text(text)
    (include,) = Path("/usr/include").glob("*-linux-gnu")
    argv = ["clang-14", "--target=bpf", "-O2", "-g", f"-I{include}", "-c", "-o", "other.o", "other.bpf.c"]
    subprocess.run(argv, check=True, cwd=directory)
