"""Debian's kernels, by apt from the machine's own mirror, verified by apt, and kept in ~/.cache/podrate-kernels."""

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "podrate-kernels"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# By series: the oldest that podrate supports, Debian's last two stable releases, and the newest that there is.
SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "newest": "sid"}

# The kernel's flavour for virtual machines: the same features as any other of Debian's, fewer drivers.
_METAPACKAGE = "linux-image-cloud-"
_PARTS = ("linux-image-", "linux-binary-", "linux-modules-")  # sid's is split into the last two


class Unavailable(Exception):
    """There can be no guest here; says what is missing and how to get it."""


class Kernel(NamedTuple):
    """A kernel that was unpacked: its `release` as uname(1) has it, and where its files are."""

    release: str
    image: Path
    modules: Path


def kernel(suite: str, architecture: str = "amd64") -> Kernel:
    """The newest kernel of a Debian suite; downloaded the first time. Raises Unavailable."""
    name = suite if architecture == "amd64" else f"{suite}-{architecture}"
    home = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            with tempfile.TemporaryDirectory(prefix=f"{name}.", dir=CACHE) as directory:
                fresh = Path(directory)
                _download(suite, architecture, fresh)
                (fresh / "root").rename(home)
    (image,) = home.glob("**/vmlinuz*")  # in boot/, and lately beside the modules
    (modules,) = home.glob("**/lib/modules/*")
    return Kernel(modules.name, image, modules)


def _download(suite: str, architecture: str, directory: Path) -> None:
    """Unpack the kernel's packages into `directory`/root, with lists of apt's and a cache of our own there."""
    if platform.machine() != "x86_64" or shutil.which("apt-get") is None:
        raise Unavailable("Debian's kernels are fetched by apt-get, for x86-64; this machine is another")
    (directory / "sources").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n")
    (directory / "status").touch()
    (directory / "lists/partial").mkdir(parents=True)
    (directory / "archives/partial").mkdir(parents=True)
    own = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Dir::Etc::sourcelist": directory / "sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": directory / "lists",
        "Dir::State::status": directory / "status",
        "Dir::Cache": directory,
        "APT::Sandbox::User": "root",  # the directory is root's
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",  # of some megabytes, about applications
        "Acquire::Retries": "3",
    }
    options = [argument for key, value in own.items() for argument in ("-o", f"{key}={value}")]
    _apt(["apt-get", *options, "--error-on=any", "update"], directory)
    metapackage = f"{_METAPACKAGE}{architecture}"
    needed = _apt(["apt-cache", *options, "depends", "--recurse", "--important", metapackage], directory)
    packages = {line for line in needed.splitlines() if line.startswith(_PARTS) and line != metapackage}
    _apt(["apt-get", *options, "download", *sorted(packages)], directory)
    for package in directory.glob("*.deb"):
        _apt(["dpkg-deb", "--extract", str(package), str(directory / "root")], directory)


def _mirror() -> str:
    """The archive that this machine's own apt fetches Debian from."""
    targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Component: main"]
    for uri in _apt(targets, Path.cwd()).splitlines():
        if uri.rstrip("/").endswith("/debian"):  # its name on every mirror
            return uri
    raise Unavailable("apt's sources name no Debian archive (a URI that ends with /debian) to fetch kernels from")


def _apt(argv: list[str], directory: Path) -> str:
    done = subprocess.run(argv, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no message"]
        raise Unavailable(f"{argv[0]} {argv[-1]} failed: {said[-1]}")
    return done.stdout
