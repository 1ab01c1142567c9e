"""The committed objects are what their source makes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernel.conftest import ROOT


def test_the_pinned_compiler_makes_the_same_bytes(tmp_path: Path) -> None:
    missing = [tool for tool in ("clang-14", "llvm-strip-14") if not shutil.which(tool)]
    if not Path("/usr/include/bpf/bpf_helpers.h").exists():
        missing.append("libbpf-dev")
    if missing and not os.environ.get("CI"):
        pytest.skip(f"{', '.join(missing)} missing: apt-get install clang-14 llvm-14 libbpf-dev (Debian 12)")
    shutil.copytree(ROOT / "bpf/src", tmp_path / "src")
    (tmp_path / "build").mkdir()
    subprocess.run(["make", "-C", tmp_path / "src"], check=True, capture_output=True)
    built = {path.name: path.read_bytes() for path in (tmp_path / "build").iterdir()}
    committed = {path.name: path.read_bytes() for path in (ROOT / "bpf/build").glob("*.o")}
    assert built.keys() == committed.keys()
    assert built == committed, "run `make bpf` and commit bpf/build"
