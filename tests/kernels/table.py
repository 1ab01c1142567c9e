"""What the guests observed, as the table of docs/reliability.md."""

import re

from tests.kernels.archive import SUITES
from tests.kernels.qemu import Observed
from tests.table import Table

TABLE = Table(
    "make test-kernels",
    "| Linux | Debian's | compare-and-exchange | pacing | round trips | windows | older connections"
    " | TCP sent | TCP received | UDP sent | UDP received | in a pod |\n"
    + "|---|---|"
    + "---|" * 5
    + "---:|" * 5
    + "\n",
    SUITES,
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
