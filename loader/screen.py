"""The screen of podrate top, by curses: it knows terminals, their sizes, and the shell's job control."""

import curses
import os
import select
import signal
import sys
import time
from contextlib import suppress
from types import FrameType

from loader.table import SORTS, Row, sort_rows, table
from loader.top import rows
from loader.watch import Watch

_FIRST = 0.3  # seconds until there are rates to see; then as often as asked
_ESCAPE = 25  # ms that a lone Esc waits for the rest of a key; curses' own second is from the days of modems
_MOVES = {"KEY_UP": -1, "KEY_DOWN": 1, "KEY_PPAGE": -10, "KEY_NPAGE": 10, "k": -1, "j": 1}
_KEYS = {sort[0]: sort for sort in SORTS}
_HELP = "q quit   sort by " + " ".join(f"[{sort[0]}]{sort[1:]}" for sort in SORTS)


def usable() -> bool:
    """Whether curses knows this terminal, and it can be drawn on."""
    try:
        curses.setupterm(fd=sys.__stdout__.fileno() if sys.__stdout__ else -1)
    except curses.error:
        return False
    return bool(curses.tigetstr("cup"))


class Screen:
    """The table on a terminal. What is drawn last is gone when it ends."""

    def __init__(self, every: float, sort: str) -> None:
        self._every = every
        self._sort = sort
        self._first_row = 0
        self._rows: list[Row] = []
        self._said = ""

    def run(self) -> int:
        """Show until q or Ctrl-C; 0. Raises Failure, with the terminal as it was."""
        os.environ.setdefault("ESCDELAY", str(_ESCAPE))
        signal.signal(signal.SIGTERM, _leave)  # not without giving the terminal back
        try:
            curses.wrapper(self._show)
        except KeyboardInterrupt:  # Ctrl-C is how one leaves it
            pass
        except curses.error:  # nor can what is gone be given back
            if not _is_gone():
                raise
        return 0

    def _show(self, window: curses.window) -> None:
        with suppress(curses.error):  # a terminal that can't hide its cursor
            curses.curs_set(0)
        with Watch(report=self._report) as watch:
            due = time.monotonic()
            interval = _FIRST
            while True:
                now = time.monotonic()
                if now >= due:
                    self._rows = rows(watch.look())
                    due, interval = now + interval, self._every
                self._draw(window)
                window.timeout(max(1, int((due - time.monotonic()) * 1000)))
                try:
                    key = window.getkey()
                except curses.error:  # no key in time
                    if _is_gone():
                        return
                    continue
                if key in ("q", "Q", "\x1b"):
                    return
                self._sort = _KEYS.get(key, self._sort)
                self._first_row += _MOVES.get(key, 0)

    def _draw(self, window: curses.window) -> None:
        height, width = window.getmaxyx()
        room = max(1, height - 3)
        self._first_row = max(0, min(self._first_row, len(self._rows) - room))
        shown = sort_rows(self._rows, self._sort)
        lines = table(shown, width)
        body = lines[1 + self._first_row : 1 + self._first_row + room]
        window.erase()
        more = f", from {self._first_row + 1}" if len(shown) > room else ""
        title = f"podrate: {len(shown)} limits{more}, by {self._sort}, every {self._every:g} s   {self._said}"
        _put(window, 0, title, curses.A_BOLD)
        if shown:
            _put(window, 1, lines[0].ljust(width), curses.A_REVERSE)
        else:
            _put(window, 1, "no cgroup on this machine is limited by podrate", 0)
        for number, line in enumerate(body):
            throttled = shown[self._first_row + number].throttled >= 0.5
            _put(window, 2 + number, line, curses.A_BOLD if throttled else 0)
        _put(window, height - 1, _HELP, curses.A_DIM)
        window.refresh()

    def _report(self, line: str) -> None:
        self._said = line


def _put(window: curses.window, row: int, text: str, look: int) -> None:
    """A line, cut at the window's edges."""
    height, width = window.getmaxyx()
    if row < height:
        with suppress(curses.error):  # it complains of the last column of the last line, after that was drawn
            window.addnstr(row, 0, text, width, look)


def _is_gone() -> bool:
    """Whether the terminal was hung up: who ignores SIGHUP (nohup) is told by nothing else."""
    terminal = select.poll()
    terminal.register(0, 0)
    return any(events & select.POLLHUP for _, events in terminal.poll(0))


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
