"""What every guest does, whatever is its first process: load modules, report observations, end."""

import ctypes
import json
import os
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tests.kernels.inside.place import Figures

_REPORT = Path("/dev/ttyS1")
_SYS_FINIT_MODULE = 313  # x86-64
_RB_AUTOBOOT = 0x01234567  # linux/reboot.h; qemu is told to end then

_T = TypeVar("_T")
_libc = ctypes.CDLL(None, use_errno=True)


def load_modules() -> None:
    """Those that initramfs.py has put there, in the order of their names."""
    for module in sorted(Path("/modules").glob("*")):
        with module.open() as file:
            if _libc.syscall(_SYS_FINIT_MODULE, file.fileno(), b"", 0):
                print(f"{module}: {os.strerror(ctypes.get_errno())}")


def report(place: _T, observations: Sequence[Callable[[_T], Figures]]) -> None:
    """Make the observations, and report each as soon as it is made, as a line of JSON."""
    with _REPORT.open("w") as file:

        def say(name: str, figures: Figures, seconds: float) -> None:
            print(json.dumps({"name": name, "seconds": seconds, "figures": figures}), file=file, flush=True)

        uname = os.uname()
        say("boot", {"release": uname.release, "version": uname.version}, time.clock_gettime(time.CLOCK_BOOTTIME))
        for observe in observations:
            begun = time.monotonic()
            try:
                figures = observe(place)
            except Exception:
                figures = {"failed": traceback.format_exc()}
            say(observe.__name__, figures, time.monotonic() - begun)


def end() -> None:
    """The end of the machine."""
    os.sync()
    _libc.reboot(_RB_AUTOBOOT)


def mount(kind: str, where: str) -> None:
    """Mount a file system of the kernel's own."""
    if _libc.mount(kind.encode(), where.encode(), kind.encode(), 0, None):
        print(f"mount {where}: {os.strerror(ctypes.get_errno())}")
