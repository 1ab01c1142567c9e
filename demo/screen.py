"""What the terminal shows: the patch as a diff, the rejection, the traffic while it runs, the table."""

import difflib
import math
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import yaml
from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from demo.node import Json
from demo.traffic import Phase

_CONTEXT = 1  # unchanged lines around a change
_COLUMNS = 30  # of a bar graph
_LINE = 80  # characters of an object shown in one line
_BARS = " ▁▂▃▄▅▆▇█"


def rate_text(bits: float) -> str:
    """A rate for people: three digits and a unit."""
    bits = float(f"{bits:.3g}")  # before the unit: 999.9 k is 1 M
    power = min(3, int(math.log10(max(bits, 1)) // 3))
    return f"{bits / 1000**power:g} {('', 'k', 'M', 'G')[power]}bit/s"


def heading(console: Console, text: str) -> None:
    """Begin a part of the story."""
    console.print(f"\n[bold cyan]{text}[/]")


def show_patch(console: Console, before: Json, after: Json) -> None:
    """Print what changed from one object to another, as YAML."""
    lines = difflib.unified_diff(_yaml(before), _yaml(after), n=_CONTEXT, lineterm="")
    for line in list(lines)[2:]:  # without the files' names
        style = {"+": "green", "-": "red"}.get(line[0], "dim")
        shown = "  ..." if line.startswith("@@") else line
        console.print(Text(f"  {shown}", style), soft_wrap=True)


def show_rejection(console: Console, code: int, line: str) -> None:
    """Print the webhook's line for a bad value as kubectl would."""
    console.print(Text.assemble((f"  {code} ", "bold red"), (line, "red")), soft_wrap=True)


class Gauge:
    """A context manager: one line a phase, the last of them moving.

    Each line has the name, a bar graph of the last seconds, the present rate.
    """

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=10)
        self._rows: list[tuple[str, deque[float], int | None]] = []

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.stop()
        if not self._live.console.is_terminal:
            self._live.console.print()  # rich ends the last line in a terminal only

    def begin(self, name: str, limit: int | None) -> None:
        """A new phase."""
        self._rows.append((name, deque(maxlen=_COLUMNS), limit))

    def show(self, rate: float) -> None:
        """The rate of the present phase, in bits/s."""
        self._rows[-1][1].append(rate)
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=24)
        table.add_column(min_width=_COLUMNS, no_wrap=True)
        table.add_column(min_width=11, justify="right")
        for name, rates, limit in self._rows:
            top = limit * 1.25 if limit else max(rates)
            bars = "".join(_BARS[min(8, math.ceil(8 * rate / top))] if top else " " for rate in rates)
            table.add_row(f"  {name}", Text(bars, "yellow" if limit is None else "green"), rate_text(rates[-1]))
        self._live.update(table)


def show_table(console: Console, phases: Sequence[Phase]) -> None:
    """Print the phases with their limits and what was measured."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("phase")
    for column in ("limit", "goodput", "ratio", ""):
        table.add_column(column, justify="right")
    for phase in phases:
        limited = phase.limit is not None and phase.ratio is not None
        table.add_row(
            phase.name,
            rate_text(phase.limit) if phase.limit is not None else "-",
            rate_text(phase.goodput),
            f"{phase.ratio:.3f}" if phase.ratio is not None else "-",
            "" if not limited else "[green]kept[/]" if phase.kept else "[red]missed[/]",
        )
    console.print(Padding(table, (0, 0, 0, 2)))


class _Dumper(yaml.SafeDumper):
    """YAML as people write it: a mapping of plain values in one line if it fits."""


def _mapping(dumper: yaml.SafeDumper, value: Json) -> yaml.Node:
    node = dumper.represent_dict(value)
    node.flow_style = node.flow_style and sum(len(key.value + item.value) + 4 for key, item in node.value) < _LINE
    return node


_Dumper.add_representer(dict, _mapping)


def _yaml(value: Json) -> list[str]:
    return yaml.dump(value, Dumper=_Dumper, default_flow_style=None, sort_keys=False, width=1000).splitlines()
