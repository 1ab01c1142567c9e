"""podrate doctor: everything here works, and what does not is found, each forced for real."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cgroup import cgroup2_mount
from loader.failure import EXIT_CODES
from loader.shaper import OBJECT
from tests.kernel.conftest import Podrate, in_a_mount_namespace
from tests.kernel.test_bpf import compiled

SECCOMP = str(Path(__file__).with_name("with_seccomp.py"))


def test_this_machine_has_it_all_and_nothing_is_left(podrate: Podrate) -> None:
    done = podrate("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}, done.stdout
    assert "a cgroup can be limited" in done.stdout
    assert "podrate-doctor" not in Path("/proc/net/dev").read_text()
    assert not list(cgroup2_mount().glob("podrate-doctor-*"))


def without_libbpf() -> tuple[str, ...]:
    caches = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    libraries = {line.split("=> ")[1] for line in caches.splitlines() if line.strip().startswith("libbpf.so.1 ")}
    return in_a_mount_namespace("; ".join(f"mount --bind /dev/null $(readlink -f {path})" for path in libraries))


@pytest.mark.parametrize(
    ("reason", "prefix"),
    [
        ("libbpf", without_libbpf()),
        ("no-cgroup2", in_a_mount_namespace(f"umount -l {cgroup2_mount()}")),
        ("permission", ("setpriv", "--bounding-set=-all", "--inh-caps=-all")),
        ("user-namespace", ("unshare", "--user", "--map-root-user")),
        ("seccomp", (sys.executable, SECCOMP, "EPERM")),
        ("old-kernel", ("setarch", "--uname-2.6")),
        ("no-btf", in_a_mount_namespace("mount -t tmpfs tmpfs /sys/kernel/btf")),
    ],
)
def test_what_is_missing_is_found(podrate: Podrate, reason: str, prefix: tuple[str, ...]) -> None:
    done = podrate("doctor", prefix=prefix)
    assert done.returncode == EXIT_CODES[reason], done.stdout
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL ")]
    assert failed[0].startswith(f"FAIL {reason}: "), failed
    assert "Remedy: " in failed[0]
    assert done.stderr == ""
    found = json.loads(podrate("doctor", "--json", prefix=prefix).stdout)
    first = next(each for each in found if not each["ok"])
    assert (first["reason"], first["needed"]) == (reason, True)
    assert first["remedy"]


def test_what_the_verifier_says_is_there_in_full(podrate: Podrate, tmp_path: Path) -> None:
    bad = compiled(tmp_path, "return *(char *)(long)skb->data & 1;")
    prefix = in_a_mount_namespace(f"mount --bind {bad} {OBJECT}")
    done = podrate("doctor", "--log", prefix=prefix)
    assert done.returncode == EXIT_CODES["kernel"]
    failed, *log = done.stdout.partition("FAIL ")[2].splitlines()
    assert failed.endswith("podrate doctor --log")
    assert "outside of the packet" in failed
    assert all(line.startswith("     ") for line in log)
    assert any("processed" in line and "insns" in line for line in log)
    found = json.loads(podrate("doctor", "--log", "--json", prefix=prefix).stdout)
    assert found[-1]["log"].splitlines() == [line.removeprefix("     ") for line in log]
    assert "insns" not in podrate("doctor", prefix=prefix).stdout


def test_what_podrate_does_without_is_no_failure(podrate: Podrate) -> None:
    libraries = Path("/usr/lib").glob("*/libnl-route-3.so.200*")
    prefix = in_a_mount_namespace(
        "; ".join(f"mount --bind /dev/null {path}" for path in libraries if not path.is_symlink())
    )
    done = podrate("doctor", prefix=prefix)
    assert done.returncode == 0
    (less,) = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
    assert less.startswith("less queue: ")
