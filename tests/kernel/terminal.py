"""A real terminal (a pty) with somebody before it: what a command draws there, and keys for it."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import pyte

from tests.kernel.conftest import ROOT


class Terminal:
    """A context manager: `argv` in a session of its own on a terminal of this size."""

    def __init__(self, argv: list[str], columns: int = 100, lines: int = 24, **environment: str) -> None:
        self.raw = b""
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        self._size(columns, lines)
        self.modes = termios.tcgetattr(slave)
        self._slave = slave
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color", **environment},
            preexec_fn=_own_session,
        )

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without the blanks at the ends."""
        return [line.rstrip() for line in self._screen.display]

    def until(self, text: str, seconds: float = 30) -> str:
        """Read until this is on the screen; the screen."""
        self.holds(repr(text), lambda: text in "\n".join(self.lines), seconds)
        return "\n".join(self.lines)

    def holds(self, what: str, condition: Callable[[], bool], seconds: float = 5) -> None:
        """Read until it does: a screen comes in pieces of 4 kB, its title first."""
        deadline = time.monotonic() + seconds
        while not condition():
            shown = "\n".join(self.lines)
            assert time.monotonic() < deadline, f"no {what} within {seconds} s on:\n{shown}"
            self.read(0.1)

    def read(self, seconds: float) -> None:
        """Show what comes within some time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._master], [], [], left)[0]:
                return
            try:
                data = os.read(self._master, 65536)
            except OSError:  # EIO: nobody has it open
                return
            self.raw += data
            self._stream.feed(data)

    def press(self, keys: str) -> None:
        """Type, as a person would."""
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """The window takes another size; the terminal tells its foreground processes."""
        self._screen.resize(lines, columns)
        self._size(columns, lines)

    def wait(self, seconds: float = 30) -> int:
        """The exit status, and all that was still printed."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            self.read(0.05)
        self.read(0.1)
        return self.process.returncode

    def hang_up(self) -> None:
        """The person goes away, or the network in between."""
        os.close(self._master)
        self._master = os.open(os.devnull, os.O_RDWR)

    def modes_now(self) -> list[object]:
        """The terminal's modes, to be compared with `modes`, those before."""
        return termios.tcgetattr(self._slave)

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._slave)
        os.close(self._master)


def _own_session() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
