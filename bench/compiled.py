"""Our programs in C, compiled into build/bench when they are older there than their source."""

import os
import platform
from pathlib import Path

from bench.command import Argv, run

BUILD = Path(__file__).parent.parent / "build" / "bench"


def program(name: str) -> Path:
    """The executable of bench/<name>.c. Raises LabError when there is no compiler, or it refuses."""
    return _compiled(f"{name}.c", name, ["cc", "-O2", "-Wall", "-Wextra", "-Werror"])


def bpf_object(name: str) -> Path:
    """The BPF object of bench/<name>.bpf.c, by the compiler that makes podrate's own."""
    include = f"-I/usr/include/{platform.machine()}-linux-gnu"
    argv = ["clang-14", "--target=bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror", include, "-c"]
    return _compiled(f"{name}.bpf.c", f"{name}.bpf.o", argv)


def _compiled(source: str, target: str, argv: Argv) -> Path:
    path, made = Path(__file__).with_name(source), BUILD / target
    if not made.exists() or made.stat().st_mtime < path.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        fresh = made.with_name(f"{target}.{os.getpid()}")
        run([*argv, "-o", fresh, path])
        fresh.replace(made)  # another lab may be compiling it too
    return made
