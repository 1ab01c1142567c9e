"""The root of an image that has Python and what its program needs, and nothing else of Debian: no shell, no apt.

    rootfs.py DIRECTORY WHAT...

WHAT is a file, a directory, or a library by its name (libbpf.so.1). They are copied below DIRECTORY to where they are
here, with the Python that runs this, its standard library, and the libraries that all of it is linked with. Each
Debian package that a file is of leaves its entry in var/lib/dpkg/status.d, by which scanners know what is in the image,
and its copyright.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from sysconfig import get_path

# Of Python's library: what tests it, teaches it, installs with it, or is linked with a database's or a terminal's
# library that nothing of ours uses.
_LEFT_OUT = re.compile(
    r"/(__pycache__/[^/]*\.opt-[12]\.pyc|config-[^/]*|dist-packages|distutils|ensurepip|idlelib|lib2to3|pydoc_data"
    r"|sitecustomize\.py|test|tkinter|turtledemo|unittest|venv"
    r"|(_test|_ctypes_test|_xxtest|xxlimited|_curses|_dbm|_sqlite3|_tkinter|nis|ossaudiodev|readline)[^/]*\.so)(/|$)"
)
_ALWAYS = ("/etc/debian_version", "/etc/nsswitch.conf", "/etc/os-release", "/etc/ssl/openssl.cnf")
_MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")  # links into usr/, where Debian has merged them


def main(directory: str, *what: str) -> None:
    """Fill the directory."""
    root = Path(directory)
    files = {path for each in (sys.executable, get_path("stdlib"), *_ALWAYS, *what) for path in _files(each)}
    files |= {path for library in _linked(files) for path in _files(library)}
    for path in sorted(files):
        there = root / path.relative_to("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, there, follow_symlinks=False)
    for name in _MERGED:
        if (link := Path("/", name)).is_symlink():
            (root / name).symlink_to(link.readlink())
    for name in ("dev", "etc", "proc", "sys", "tmp"):  # what a runtime mounts
        (root / name).mkdir(exist_ok=True)
    for package in _packages(files):
        _declare(package, root)


def _files(what: str) -> set[Path]:
    """The files by their real directories, and what links among them lead to. One that is not here is a KeyError's."""
    path = Path(what if what.startswith("/") else _libraries()[what])
    if path.is_dir() and not path.is_symlink():
        found = (each for each in path.rglob("*") if not _LEFT_OUT.search(str(each)))
        return {file for each in found if each.is_symlink() or each.is_file() for file in _files(str(each))}
    path = path.parent.resolve() / path.name
    if path.is_symlink():
        return {path} | _files(str(path.parent / path.readlink()))
    return {path} if path.exists() else set()


def _libraries() -> dict[str, str]:
    said = _said("/sbin/ldconfig", "-p")
    return {line.split()[0]: line.rpartition(" => ")[2] for line in said.splitlines() if " => " in line}


def _linked(files: set[Path]) -> set[str]:
    """What the linker loads for those that are programs or libraries, itself among it."""
    elf = [str(path) for path in files if path.is_file() and path.open("rb").read(4) == b"\x7fELF"]
    said = subprocess.run(["ldd", *elf], capture_output=True, text=True, check=False).stdout
    if "not found" in said:
        raise SystemExit(f"rootfs.py: a library is missing:\n{said}")
    return set(re.findall(r"(?:=>|^)\s+(/\S+) \(0x", said, re.MULTILINE))


def _packages(files: set[Path]) -> set[str]:
    """Whose they are; dpkg knows some by where they were before /lib was merged into /usr/lib."""
    names = [name for path in files for name in (str(path), str(path).removeprefix("/usr"))]
    said = subprocess.run(["dpkg-query", "--search", *names], capture_output=True, text=True, check=False).stdout
    return {owner for line in said.splitlines() for owner in line.rpartition(": ")[0].split(", ")}


def _declare(package: str, root: Path) -> None:
    name = package.partition(":")[0]
    entry = root / "var/lib/dpkg/status.d" / name
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.write_text(_said("dpkg-query", "--status", package))
    copyright_ = root / "usr/share/doc" / name / "copyright"
    copyright_.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(f"/usr/share/doc/{name}/copyright", copyright_)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
