"""A table of a document, made by the tests whose results it shows: one row a test, the others stay."""

import re
from collections.abc import Iterable
from pathlib import Path

RELIABILITY = Path(__file__).parents[1] / "docs" / "reliability.md"

_END = "<!-- end of the table -->\n"


class Table:
    """The rows between a marker and the end, each known by what its first cell begins with.

    command:  what writes it, as the marker says
    header:   the columns
    order:    of the rows: what each begins with
    """

    def __init__(self, command: str, header: str, order: Iterable[str]) -> None:
        self._begin = f"<!-- {command} writes this table -->\n"
        self.header = header
        self.order = tuple(order)

    def documented(self, row: str) -> str:
        """A row as the document has it; "" if it is not there."""
        lines = self._parts()[1].splitlines(keepends=True)
        return next((line for line in lines if line.startswith((f"| {row} |", f"| {row} ("))), "")

    def write(self, row: str, line: str) -> None:
        """Put a row into the document; the others stay."""
        before, _, after = self._parts()
        rows = [line if each == row else self.documented(each) for each in self.order]
        RELIABILITY.write_text(before + self._begin + self.header + "".join(rows) + _END + after)

    def _parts(self) -> tuple[str, str, str]:
        before, begin, rest = RELIABILITY.read_text().partition(self._begin)
        assert begin, f"{RELIABILITY.name} has no {self._begin}"
        inside, _, after = rest.partition(_END)
        return before, inside, after


def without_figures(line: str) -> str:
    """A row less what differs by the run: what is in parentheses, and numbers that were measured."""
    return re.sub(r"\(.*?\)|\d+(\.\d+)?", "*", line)
