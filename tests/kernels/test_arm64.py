"""The committed objects on arm64, as far as this can be known without such a machine.

What depends on the architecture in a BPF object is its byte order, and where the kernel has the fields of its own
structs. The latter the loader takes from the kernel's BTF: libbpf does that here against the BTF of Debian's arm64
kernel (by bpftool, which needs no kernel for it). Not tried: the verifier and the JIT of arm64, and packets.
"""

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.kernels.archive import Kernel, Unavailable, kernel
from tests.kernels.initramfs import ROOT

OBJECTS = sorted((ROOT / "bpf/build").glob("*.bpf.o"))
_BTF = struct.pack("<HBBI", 0xEB9F, 1, 0, 24)  # struct btf_header's magic, version, flags and length (linux/btf.h)
_EMPTY = _BTF + struct.pack("<4I", 0, 0, 0, 1) + b"\0"


@pytest.fixture(scope="module")
def arm64() -> Kernel:
    try:
        if not shutil.which("bpftool", path=f"{os.environ['PATH']}:/usr/sbin"):
            raise Unavailable("bpftool is missing: apt-get install bpftool")
        return kernel("trixie", "arm64")
    except Unavailable as reason:
        if os.environ.get("CI"):
            pytest.fail(f"no arm64 kernel: {reason}", pytrace=False)  # in CI nothing is skipped
        pytest.skip(f"no arm64 kernel: {reason}")


def btf(image: bytes) -> bytes:
    """The one BTF in an uncompressed kernel, as Debian's of arm64 is."""
    found = []
    for match in re.finditer(re.escape(_BTF), image):
        types, types_length, strings, strings_length = struct.unpack_from("<4I", image, match.end())
        end = match.start() + 24 + strings + strings_length
        if types == 0 and types_length == strings > 0 and end <= len(image):
            found.append(image[match.start() : end])
    (it,) = found
    return it


def relocations(of: Path, against: bytes, directory: Path) -> dict[str, bool]:
    """The fields that an object looks for, and whether the BTF has each: {"struct sock.sk_cgrp_data.cgroup": True}."""
    (directory / "btf").write_bytes(against)
    argv = ["bpftool", "--debug", "gen", "min_core_btf", str(directory / "btf"), str(directory / "used"), str(of)]
    path = f"{os.environ['PATH']}:/usr/sbin"
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, "PATH": path})
    asked: dict[str, str] = {}
    found = set()
    # prog 'iter/tcp': relo #14: <byte_off> [35] struct kernfs_node.id (0:0 @ offset 0)
    # prog 'iter/tcp': relo #14: matching candidate #0 <byte_off> [1239] struct kernfs_node.id (0:10 @ offset 96)
    for line in (said.stdout + said.stderr).splitlines():
        if match := re.search(r"(prog '.*': relo #\d+): (matching candidate #0 )?<\w+> \[\d+\] (\S+ \S+) ", line):
            number, candidate, field = match.groups()
            if candidate:
                found.add(number)
            else:
                asked[number] = field
    return {field: number in found for number, field in asked.items()}


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_byte_order(path: Path) -> None:
    little_endian, bpf = 1, 247  # ELFDATA2LSB, EM_BPF of elf.h
    header = path.read_bytes()[:20]
    assert (header[:4], header[5], struct.unpack_from("<H", header, 18)[0]) == (b"\x7fELF", little_endian, bpf)


@pytest.mark.parametrize("path", [path for path in OBJECTS if "shaper" in path.name], ids=lambda path: path.name)
def test_the_shaper_knows_no_kernels_structs(arm64: Kernel, path: Path, tmp_path: Path) -> None:
    """So that there is nothing to relocate: it reads __sk_buff and bpf_sock_ops, which are the same everywhere."""
    assert relocations(path, btf(arm64.image.read_bytes()), tmp_path) == {}


def test_what_adopts_finds_each_field(arm64: Kernel, tmp_path: Path) -> None:
    (adopt,) = (path for path in OBJECTS if "adopt" in path.name)
    fields = relocations(adopt, btf(arm64.image.read_bytes()), tmp_path)
    assert {"struct bpf_iter__tcp.sk_common", "struct tcp_sock.snd_una", "struct cgroup.ancestors"} <= fields.keys()
    assert fields == dict.fromkeys(fields, True)
    # And it is told where one is missing.
    assert relocations(adopt, _EMPTY, tmp_path) == dict.fromkeys(fields, False)


def test_the_kernel_has_what_the_loader_asks_for(arm64: Kernel) -> None:
    (config,) = arm64.image.parent.glob("config-*")
    options = config.read_text().splitlines()
    for option in ("BPF_SYSCALL", "BPF_JIT", "CGROUP_BPF", "DEBUG_INFO_BTF", "NET_CLS_ACT", "SOCK_CGROUP_DATA"):
        assert f"CONFIG_{option}=y" in options
    for module in ("IFB", "NET_SCH_TBF"):
        assert f"CONFIG_{module}=m" in options
