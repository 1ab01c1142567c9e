"""A guest: an emulated machine that boots a kernel, reports what it observed, and ends."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A processor that is emulated, with /dev/kvm or without: the same everywhere. Its clock counts its instructions, 4 ns
# each, and leaps over the time in which it has nothing to do: so what is measured does not depend on what else this
# machine does, nor on how fast it is. One runs; per-CPU maps have room for a second, that could be plugged in.
_MACHINE = (
    "-nodefaults -no-user-config -display none -no-reboot -m 768 -smp 1,maxcpus=2"
    " -cpu max -accel tcg,thread=single -icount shift=2,sleep=off"
)
_COMMAND_LINE = "console=ttyS0 panic=-1 tsc=reliable quiet"

_NEEDS = {"qemu-system-x86_64": "qemu-system-x86", "cpio": "cpio"}

PATIENCE = 900  # seconds; a guest takes about 60 when it has a processor of its own


@dataclass(frozen=True)
class Observed:
    """What a guest reported.

    figures:  by observation, in the order in which they were made
    seconds:  what each took, by the guest's clock
    console:  what the kernel and its first process printed
    """

    figures: Mapping[str, dict[str, Any]]
    seconds: Mapping[str, float]
    console: str

    def look(self, name: str) -> dict[str, Any]:
        """One observation's figures. AssertionError, with the guest's own words, if it failed or was not made."""
        assert name in self.figures, f"the guest ended before {name}: {self.console[-3000:]}"
        figures = self.figures[name]
        assert "failed" not in figures, figures["failed"]
        return figures


def boot(image: Path, initramfs: bytes, arguments: str = "") -> Observed:
    """Boot a guest and wait for its end. Observations that are missing then were not made; the console says why."""
    with tempfile.TemporaryDirectory(prefix="podrate-guest-") as directory:
        packed, console = Path(directory, "initramfs"), Path(directory, "console")
        packed.write_bytes(initramfs)
        argv = ["qemu-system-x86_64", *_MACHINE.split(), "-kernel", str(image), "-initrd", str(packed)]
        argv += ["-append", f"{_COMMAND_LINE} {arguments}", "-serial", f"file:{console}", "-serial", "stdio"]
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
            out, complaint = done.stdout, done.stderr
        except subprocess.TimeoutExpired as late:
            out, complaint = (late.stdout or b"").decode(), f"not done after {PATIENCE} s"
        said = console.read_text(errors="replace") if console.exists() else ""
    reports = [json.loads(line) for line in out.splitlines() if line.startswith("{") and line.endswith("}")]
    return Observed(
        {each["name"]: each["figures"] for each in reports},
        {each["name"]: each["seconds"] for each in reports},
        said + complaint,
    )


def missing() -> str | None:
    """What there is not here that a guest needs, and where it is to be had; None if all is there."""
    absent = [f"{tool} (apt-get install {package})" for tool, package in _NEEDS.items() if not shutil.which(tool)]
    return f"{' and '.join(absent)} missing" if absent else None
