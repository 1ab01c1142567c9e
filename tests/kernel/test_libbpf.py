"""The binding with other distributions' libbpf, and their Python: Debian's packages, unpacked beside this system.

They are downloaded once, by apt from the mirror that this machine uses, into a cache of ours. The oldest, libbpf 1.0,
is in none of its suites: it is built of the sources in the crate libbpf-sys.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cgroup import Cgroup
from loader.failure import EXIT_CODES
from tests.kernel.conftest import ROOT
from tests.kernel.test_bpf import compiled

_CACHE = Path.home() / ".cache" / "podrate-libbpf"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PACKAGES = ("libpython3-stdlib", "python3-minimal", "libbpf1", "libnl-route-3-200")


def distribution(suite: str) -> Path:
    """The root file system of a suite's Python and libbpf. Skips where it can't be had."""
    root = _CACHE / suite
    if root.exists():
        return root
    if not shutil.which("apt-get") or not Path(_KEYRING).exists():
        pytest.skip("needs Debian's apt-get")
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    mirror = next((uri for uri in targets if uri.startswith("http") and uri.rstrip("/").endswith("/debian")), None)
    if mirror is None:
        pytest.skip("needs a mirror of Debian in apt's sources")
    work = _CACHE / f"{suite}.new"
    shutil.rmtree(work, ignore_errors=True)
    for name in ("lists/partial", "archives/partial", "root"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources").write_text(f"deb [signed-by={_KEYRING}] {mirror} {suite} main\n")
    options = {
        "Dir::Etc::sourcelist": work / "sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work,
        "APT::Sandbox::User": "root",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "--quiet", "--yes", *[f"--option={key}={value}" for key, value in options.items()]]
    for command in (["update"], ["install", "--download-only", "--no-install-recommends", *_PACKAGES]):
        got = subprocess.run([*apt, *command], capture_output=True, text=True, check=False)
        if got.returncode:
            pytest.skip(f"apt can't get {suite}: {got.stderr.splitlines()[-1]}")
    for package in (work / "archives").glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, work / "root"], check=True)
    for name in ("proc", "sys"):
        (work / "root" / name).mkdir()
    for name in ("lib", "lib64"):  # a file system whose /usr is merged; before it was, packages brought their own
        if not (work / "root" / name).exists():
            (work / "root" / name).symlink_to(f"usr/{name}")
    (work / "root").rename(root)
    shutil.rmtree(work)
    return root


_CRATE = """\
[package]
name = "sources"
version = "0.0.0"
[lib]
path = "none.rs"
[dependencies]
libbpf-sys = "~1.0"
"""


def oldest() -> Path:
    """The directory of a libbpf.so.1 that is libbpf 1.0. Skips where it can't be had."""
    directory = _CACHE / "1.0"
    if directory.exists():
        return directory
    if missing := [tool for tool in ("cargo", "make", "cc") if not shutil.which(tool)]:
        pytest.skip(f"libbpf 1.0 is built with {' and '.join(missing)}")
    work = _CACHE / "1.0.new"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "Cargo.toml").write_text(_CRATE)
    (work / "none.rs").touch()
    for argv in (
        ["cargo", "vendor", "--quiet", "crates"],
        [
            "make",
            "--quiet",
            "-C",
            "crates/libbpf-sys/libbpf/src",
            "NO_PKG_CONFIG=1",
            f"OBJDIR={work}/built",
            f"{work}/built/libbpf.so.1",
        ],
    ):
        done = subprocess.run(argv, cwd=work, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{argv[0]} can't make libbpf 1.0: {done.stderr.splitlines()[-1]}")
    (work / "built").rename(directory)
    shutil.rmtree(work)
    return directory


@pytest.mark.parametrize(
    ("complete", "line"),
    [
        (False, "libbpf: this libbpf.so.1 has no function libbpf_major_version."),
        (True, "libbpf: this is libbpf 2.3, and not 1.x."),
    ],
)
def test_a_library_that_is_not_the_one(complete: bool, line: str, tmp_path: Path) -> None:
    """By the right name, and loaded: one without our functions, and one of another major version."""
    names = re.findall(r'^    "(\w+)": \(', (ROOT / "loader/libbpf.py").read_text(), re.MULTILINE)
    assert len(names) > 20
    results = {"libbpf_major_version": 2, "libbpf_minor_version": 3}
    source = "".join(f"int {name}(void) {{ return {results.get(name, 0)}; }}\n" for name in names if complete)
    (tmp_path / "other.c").write_text(source)
    library = ["-shared", "-fPIC", "-Wl,-soname,libbpf.so.1", "-o", "libbpf.so.1", "other.c"]
    subprocess.run(["cc", *library], cwd=tmp_path, check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    argv = [sys.executable, "-m", "loader", "attach", "--egress", "10M", "/sys/fs/cgroup"]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_CODES["libbpf"]
    assert done.stderr.startswith(f"podrate: {line} Remedy: install libbpf 1.0 or newer")


@pytest.mark.parametrize(("suite", "least"), [("bookworm", (1, 1)), ("trixie", (1, 5)), ("sid", (1, 7))])
def test_the_binding_with(suite: str, least: tuple[int, int], pod_cgroup: Cgroup, tmp_path: Path) -> None:
    root = distribution(suite)
    bad = compiled(tmp_path, "return *(char *)(long)skb->data & 1;")
    script = "mount -t proc proc $0/proc; mount --rbind /sys $0/sys\n"
    for path in (ROOT, tmp_path):
        script += f"mkdir -p $0{path}; mount --bind {path} $0{path}\n"
    script += 'python=$(ls $0/usr/bin | grep -m1 -x "python3[.][0-9]*"); exec chroot $0 $python -IS "$@"'
    argv: list[str | Path] = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, root]
    argv += [ROOT / "tests/kernel/binding.py", pod_cgroup.path, bad]
    assert bound(argv, {"PATH": os.environ["PATH"]}) >= least


def test_the_binding_with_the_oldest(pod_cgroup: Cgroup, tmp_path: Path) -> None:
    """And this machine's Python."""
    bad = compiled(tmp_path, "return *(char *)(long)skb->data & 1;")
    argv: list[str | Path] = [sys.executable, "-IS", ROOT / "tests/kernel/binding.py", pod_cgroup.path, bad]
    assert bound(argv, {"LD_LIBRARY_PATH": str(oldest())}) == (1, 0)


def bound(argv: list[str | Path], environment: dict[str, str]) -> tuple[int, ...]:
    """Run binding.py and look at what it did; the version of its libbpf."""
    ran = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    done = json.loads(ran.stdout)
    assert (done["attached"], done["verdict"]) == (True, 1)
    assert done["limit"] == '{"v":1,"egress":10000000,"ingress":20000000}'
    assert (done["missing"]["errno"], done["missing"]["log"]) == (2, 0)
    assert done["bad"]["errno"] == 13
    assert "outside of the packet" in done["bad"]["line"]
    assert done["bad"]["log"] > 3
    return tuple(map(int, done["libbpf"].split(".")))
