"""Running a tool, and leaving in order whatever signal comes."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

Argv = Sequence[str | Path]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class LabError(RuntimeError):
    """The laboratory can't be built here, or a tool failed in it. `str()` of it is one line for a person."""


def require(*tools: str) -> None:
    """Raise LabError unless we are root and every one of `tools` can be started."""
    if os.geteuid() != 0:
        raise LabError("network namespaces and cgroups need root; run it with sudo")
    if absent := [tool for tool in tools if shutil.which(tool) is None]:
        raise LabError(f"not installed: {', '.join(absent)} (on Debian: apt-get install iproute2 iperf3 util-linux)")


def run(argv: Argv, *, timeout: float = 30) -> str:
    """Start `argv`, wait for it, return what it printed. Raises LabError when it fails or takes over `timeout` s."""
    line = " ".join(map(str, argv))
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise LabError(f"not installed: {argv[0]}") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{line}: not done after {timeout:g} s") from None
    if done.returncode:
        raise LabError(f"{line}: exit {done.returncode}: {last_line(done.stderr or done.stdout)}")
    return done.stdout


def stop(process: subprocess.Popen[str], patience: float = 2) -> None:
    """End a process that we started: SIGTERM, and SIGKILL after `patience` seconds. One that has ended is reaped."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def last_line(text: str) -> str:
    """The last line of a tool's output that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that every context manager cleans up.

    Does nothing off the main thread, where Python has no signal handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    former = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold back Ctrl-C, SIGTERM and SIGHUP until the block is done: an interrupted cleanup is none."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
