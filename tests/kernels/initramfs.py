"""The guest's whole file system: this machine's Python, libraries and tools, our tree, and the kernel's modules."""

import lzma
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.kernels.archive import Kernel, Unavailable

ROOT = Path(__file__).parents[2]
TREE = "podrate"  # where our tree is in the guest
_OURS = ("bandwidth", "bench", "bpf/build", "demo", "loader", "tests/kernels/inside")

# What the laboratory, the node of the demo, and the loader start or load.
_TOOLS = ("ip", "nsenter", "unshare", "setpriv", "mount", "iperf3", "sh", "env", "mkdir", "sleep")
_LIBRARIES = ("libbpf.so.1", "libnl-3.so.200", "libnl-route-3.so.200")
# Of Python's library, what is large and nothing here imports.
_LEFT_OUT = re.compile(
    r"/(config-|distutils|ensurepip|idlelib|lib2to3|pydoc_data|site-packages|dist-packages|tests?/|tkinter|unittest"
    r"|_tkinter|_sqlite3|_curses|_test)|\.opt-[12]\.pyc"
)

# In the order in which they are loaded; a kernel may have any of them built in.
MODULES = ("veth", "ifb", "sch_ingress", "cls_u32", "act_mirred", "sch_tbf", "sch_fq")


def system(extra: Iterable[Path] = ()) -> bytes:
    """The archive of this machine's files: Python, the tools, and `extra`, each with the libraries that it needs."""
    programs = [Path(sys.executable).resolve(), *map(_found, _TOOLS)]
    libraries = [_library(name) for name in _LIBRARIES]
    python = [path for path in Path(sysconfig.get_path("stdlib")).rglob("*") if not _LEFT_OUT.search(f"{path}/")]
    files = [*programs, *libraries, *python, *extra]
    return _cpio(Path("/"), _with_links(_with_libraries(files)))


def tree(kernel: Kernel, directory: Path, files: dict[str, str]) -> bytes:
    """The archive of what is not this machine's: our tree, the kernel's modules, `files` by their paths, and /init.

    directory: an empty one, to lay it out in
    """
    for each in _OURS:
        shutil.copytree(ROOT / each, directory / TREE / each, ignore=shutil.ignore_patterns("__pycache__"))
    for number, name in enumerate(MODULES):
        for packed in kernel.modules.rglob(f"{name}.ko*"):
            module = directory / "modules" / f"{number}-{name}.ko"
            module.parent.mkdir(exist_ok=True)
            module.write_bytes(lzma.decompress(packed.read_bytes()) if packed.suffix == ".xz" else packed.read_bytes())
    files = {
        "init": script("tests.kernels.inside.init"),
        "usr/bin/podrate": script("loader.cli"),  # as in the loader's image, where pip puts it
        **files,
    }
    for path, text in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)
        (directory / path).chmod(0o755)
    for mount_point in ("dev", "proc", "run", "sys", "tmp"):
        (directory / mount_point).mkdir()
    return _cpio(directory, [path.relative_to(directory) for path in sorted(directory.rglob("*"))])


def script(module: str) -> str:
    """An executable of the guest that runs a module's main()."""
    python = Path(sys.executable).resolve()
    return f"#!{python} -B\nimport sys\nsys.path.insert(0, '/{TREE}')\nfrom {module} import main\nsys.exit(main())\n"


def _cpio(root: Path, paths: Iterable[Path]) -> bytes:
    """An archive as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    names = b"".join(os.fsencode(path) + b"\0" for path in paths)
    argv = ["cpio", "--create", "--null", "--format=newc", "--owner=0:0", "--quiet"]
    return subprocess.run(argv, input=names, cwd=root, stdout=subprocess.PIPE, check=True).stdout


def _found(tool: str) -> Path:
    path = shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        raise Unavailable(f"the guest needs {tool}, which is not here")
    return Path(path)


def _library(name: str) -> Path:
    """Where the dynamic linker finds a library."""
    cache = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    for line in cache.splitlines():
        if line.split()[:1] == [name]:
            return Path(line.split("=> ")[1])
    raise Unavailable(f"the guest needs {name}, which is not here")


def _with_libraries(files: list[Path]) -> Iterator[Path]:
    """The files, and the libraries that the linker loads for those of them that are ELF."""
    yield from files
    elf = [path for path in files if path.is_file() and _is_elf(path)]
    said = subprocess.run(["ldd", *elf], capture_output=True, text=True, check=False).stdout
    # libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...); the linker itself stands alone.
    yield from {Path(path) for path in re.findall(r"(?:=>|^)\s+(/\S+) \(0x", said, re.MULTILINE)}


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _with_links(paths: Iterable[Path]) -> list[Path]:
    """Relative to /, each path with the directories above it, and what symbolic links among them lead to."""
    found: set[Path] = set()

    def add(path: Path) -> None:
        current = Path("/")
        for part in path.parts[1:]:
            current /= part
            found.add(current)
            if current.is_symlink():
                add(Path(os.path.normpath(current.parent / current.readlink())))
                current = current.resolve()

    for path in paths:
        add(path)
    return sorted(path.relative_to("/") for path in found if os.path.lexists(path))  # some links lead nowhere
