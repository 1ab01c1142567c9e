"""What was measured as tables of text, for a terminal and for a document."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table

from bandwidth.rate import format_rate
from bench.point import Measured, Point
from bench.resident import Resident

Row = Mapping[str, Any]  # one object of `point --json`


class Column(NamedTuple):
    """A field of Measured: its heading, how it is written, and what it means in one line."""

    field: str
    heading: str
    write: Callable[[float], str]
    meaning: str


def _fraction(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.0f}"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _count(value: float) -> str:
    return f"{value:.0f}"


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


GOODPUT = Column(
    "goodput_ratio", "goodput", _fraction, "payload received, to the limit; the headers leave TCP .957, UDP .971"
)
WORST = Column(
    "worst_window_ratio",
    "worst 0.1 s",
    _ratio,
    "the most that arrived in 0.1 s after the first 0.2 s, to the limit; egress in any 0.1 s, by bytes on the wire "
    "counted in the peer's kernel; ingress by the receiver's report of its payload",
)
RESENT = Column("retransmits", "resent", _count, "TCP segments sent again")
JAIN = Column("jain", "Jain", _fraction, "fairness among the flows: 1 is equal shares")
RR50 = Column(
    "rr_p50_ms", "RR p50", _ms, "ms, 64 bytes to the peer and back, asked in the pod beside the traffic; median"
)
RR99 = Column("rr_p99_ms", "RR p99", _ms, "ms, the same: 99th percentile, of a run of some hundred answers")
OUTSIDE = Column("rr_outside_p99_ms", "outside p99", _ms, "ms, the same through the same device, by a process outside")
DROPPED = Column("dropped", "dropped", _count, "packets that the shaper dropped")
COLUMNS = (GOODPUT, WORST, RESENT, JAIN, RR50, RR99, OUTSIDE, DROPPED)
UDP_COLUMNS = (GOODPUT, WORST, RR50, RR99, OUTSIDE, DROPPED)


class Group(NamedTuple):
    """Points that go into one table: its name, title, columns and points."""

    name: str
    title: str
    columns: Sequence[Column]
    points: list[dict[str, Row]]  # for each point, its shapers


_GROUPS = {
    "egress": ("Egress, TCP", COLUMNS, lambda row: row["protocol"] == "tcp" and row["direction"] == "egress"),
    "ingress": ("Ingress, TCP", COLUMNS, lambda row: row["protocol"] == "tcp" and row["direction"] == "ingress"),
    "udp": ("UDP at twice the limit", UDP_COLUMNS, lambda row: row["protocol"] == "udp"),
}


def groups(rows: Iterable[Row]) -> list[Group]:
    """The rows by table and by point, in the order in which they were measured."""
    listed = list(rows)
    found = []
    for name, (title, columns, belongs) in _GROUPS.items():
        points: dict[str, dict[str, Row]] = {}
        for row in filter(belongs, listed):
            points.setdefault(point_of(row).name, {})[row["shaper"]] = row
        if points:
            found.append(Group(name, title, columns, list(points.values())))
    return found


def point_of(row: Row) -> Point:
    """The point that a row belongs to."""
    return Point(**{field: row[field] for field in Point.__dataclass_fields__})


def label(point: Point, group: str) -> tuple[str, str, str, str]:
    """Limit, flows, round-trip time, and what else tells a point from its table's others."""
    what = point.direction if group == "udp" else point.congestion
    return format_rate(point.rate), str(point.flows), f"{point.rtt * 1e3:g} ms", what


LABEL = ("limit", "flows", "RTT", "")


def cells(point: Mapping[str, Row], columns: Sequence[Column], shapers: Sequence[str]) -> list[str]:
    """A point's figures: "0.957 / 0.961" for two shapers."""
    return [" / ".join(column.write(point[s][column.field]) for s in shapers if s in point) for column in columns]


def of_group(group: Group, shapers: Sequence[str]) -> Table:
    """A group for a terminal."""
    table = Table(title=f"{group.title}: {' / '.join(shapers)}", box=None)
    for heading in (*LABEL, *(column.heading for column in group.columns)):
        table.add_column(heading, justify="right", no_wrap=True)
    for point in group.points:
        first = point_of(next(iter(point.values())))
        table.add_row(*label(first, group.name), *cells(point, group.columns, shapers))
    return table


def of_point(point: Point, measured: Mapping[str, Measured]) -> Table:
    """One point, a line for each shaper, for a terminal."""
    table = Table(title=point.name, box=None)
    table.add_column("")
    for column in COLUMNS:
        table.add_column(column.heading, justify="right")
    for shaper, each in measured.items():
        table.add_row(shaper, *(column.write(getattr(each, column.field)) for column in COLUMNS))
    return table


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, all columns but the first to the right."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def of_resident(measured: Resident) -> Table:
    """A sidecar's cost."""
    table = Table("what a limited pod pays", "", title="one sidecar", title_justify="left")
    for what, figure in (
        ("its start until the limit is in force", f"{measured.start * 1e3:.0f} ms"),
        ("a change of the annotation's file until it is in force", f"{measured.follow * 1e3:.0f} ms"),
        ("memory (PSS), alone on its node", f"{measured.alone / 1e6:.2f} MB"),
        ("  of that its own, which can't be shared or dropped", f"{measured.anonymous / 1e6:.2f} MB"),
        ("memory (PSS), one of ten", f"{measured.shared / 1e6:.2f} MB"),
        ("wakeups while it waits", f"{measured.wakeups:.2f} a second"),
        ("CPU while it waits", f"{measured.cpu * 100:.3f} %"),
    ):
        table.add_row(what, figure)
    return table
