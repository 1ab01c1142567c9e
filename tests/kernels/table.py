"""What the guests observed, as the table of docs/reliability.md."""

import re
from pathlib import Path

from tests.kernels.archive import SUITES
from tests.kernels.qemu import Observed

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"

_BEGIN, _END = "<!-- make test-kernels writes this table -->\n", "<!-- end of the table -->\n"
HEADER = (
    "| Linux | Debian's | compare-and-exchange | pacing | round trips | windows | older connections"
    " | TCP sent | TCP received | UDP sent | UDP received | in a pod |\n"
    + "|---|---|"
    + "---|" * 5
    + "---:|" * 5
    + "\n"
)
OBSERVED: dict[str, str] = {}  # lines by series, of this run

_PARTS = ("exchange", "pacing", "rtt", "window")
_MEASURED = ("tcp_egress", "tcp_ingress", "udp_egress", "udp_ingress", "sidecar")


def row(series: str, suite: str, guest: Observed) -> str:
    """A kernel's line: its parts by `podrate status`, and what went through, in per cent of the limit."""
    figures = guest.figures
    parts = figures["tcp_ingress"]["status"]["parts"]
    version = re.search(r"Debian (\S+)", figures["boot"]["version"])
    cells = [
        f"{series} ({version[1] if version else figures['boot']['release']})",
        suite,
        *("yes" if parts[part] == "active" else "no" for part in _PARTS),
        "a fixed pace" if figures["older_connection"]["error"] else "as any other",
        *(f"{figures[name]['ratio'] * 100:.0f} %" for name in _MEASURED),
    ]
    return f"| {' | '.join(cells)} |\n"


def without_figures(line: str) -> str:
    """A line less what differs by the run: the exact release, and what was measured."""
    return re.sub(r"\(.*?\)|\d+ %", "*", line)


def documented(series: str) -> str:
    """A kernel's line in the document; "" if it is not there."""
    return _rows().get(series, "")


def write(series: str, line: str) -> None:
    """Put a kernel's line into the document; those of the others stay."""
    text, rows = DOCUMENT.read_text(), {**_rows(), series: line}
    in_order = [rows[each] for each in SUITES if each in rows]
    before, after = text.partition(_BEGIN)[0], text.partition(_END)[2]
    DOCUMENT.write_text(before + _BEGIN + HEADER + "".join(in_order) + _END + after)


def _rows() -> dict[str, str]:
    inside = DOCUMENT.read_text().partition(_BEGIN)[2].partition(_END)[0]
    return {line[2:].partition(" ")[0]: line for line in inside.splitlines(keepends=True)[2:]}
