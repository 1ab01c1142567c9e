"""The table of podrate top: rows, sorted, as lines of a width."""

from typing import NamedTuple

from bandwidth.rate import format_rate
from loader.figures import percent, scaled


class Row(NamedTuple):
    """One limited direction of one cgroup. The names are the columns' and the sort keys'."""

    name: str
    direction: str
    rate: float  # bit/s that passes, on the wire
    limit: int  # bit/s
    use: float  # rate / limit
    throttled: float  # 0 to 1
    drops: float  # packets a second
    connections: int


SORTS = ("name", "rate", "limit", "use", "throttled", "drops", "connections")
HEAD = ("CGROUP", "DIRECTION", "RATE", "LIMIT", "USE", "THROTTLED", "DROPS/s", "CONNECTIONS")


def sort_rows(unsorted: list[Row], sort: str) -> list[Row]:
    """By a column: names upwards, figures from the greatest; what is equal by name, so that rows don't dance."""
    by_name = sorted(unsorted, key=lambda row: (row.name, row.direction))
    return by_name if sort == "name" else sorted(by_name, key=lambda row: -getattr(row, sort))


def table(shown: list[Row], width: int) -> list[str]:
    """Lines of `width` columns at most, the heading first; a name gives way at its beginning, where paths are alike."""
    lines = [HEAD, *map(cells, shown)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    figures = sum(widths[1:]) + 2 * len(widths[1:])
    widths[0] = max(8, min(widths[0], width - figures))
    return [_columns(line, widths)[:width] for line in lines]


def _columns(line: tuple[str, ...], widths: list[int]) -> str:
    name = line[0] if len(line[0]) <= widths[0] else "<" + line[0][1 - widths[0] :]
    figures = (f"{cell:>{width}}" for cell, width in zip(line[2:], widths[2:], strict=True))
    return "  ".join((f"{name:<{widths[0]}}", f"{line[1]:<{widths[1]}}", *figures))


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, by column."""
    return (
        row.name,
        row.direction,
        scaled(row.rate),
        format_rate(row.limit),
        percent(row.use),
        percent(row.throttled),
        scaled(row.drops),
        str(row.connections),
    )
