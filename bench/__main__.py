"""The command line: `python -m bench point --rate 100M --flows 16 --shapers podrate,tbf --json`."""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bandwidth.invalid import Invalid
from bandwidth.rate import format_rate, parse_rate
from bench.command import LabError, require, terminable
from bench.point import Measured, Point, as_json, measure
from bench.shapers import SHAPERS
from loader.failure import Failure

_CONGESTION = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line; argparse would print the usage before it."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def main() -> int:
    """Run the command in sys.argv; returns the exit code: 0 measured, 2 a bad option or a machine that can't."""
    options = _parser().parse_args()
    point = Point(
        rate=options.rate,
        flows=options.flows,
        rtt=options.rtt,
        direction=options.direction,
        protocol=options.protocol,
        congestion=options.congestion,
        seconds=options.seconds,
    )
    try:
        require("ip", "tc", "nsenter", "iperf3")
        with terminable():
            measured = _measure(point, options.shapers, options.runs)
    except (LabError, Failure) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(as_json(point, measured), indent=2))
    else:
        Console().print(_table(point, measured))
    return 0


def _measure(point: Point, shapers: list[str], runs: int) -> dict[str, Measured]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("runs", total=runs * len(shapers))
        return measure(point, shapers, runs, lambda shaper: progress.update(task, advance=1, description=shaper))


def _table(point: Point, measured: Mapping[str, Measured]) -> Table:
    traffic = f"{point.flows} {point.protocol if point.protocol == 'udp' else point.congestion}"
    table = Table(title=f"{format_rate(point.rate)} {point.direction}, {traffic}, RTT {point.rtt * 1e3:g} ms", box=None)
    table.add_column("")
    for column in ("goodput", "worst 0.1 s", "resent", "Jain", "RR p50 ms", "RR p99 ms", "outside p99 ms", "dropped"):
        table.add_column(column, justify="right")
    for shaper, each in measured.items():
        table.add_row(
            shaper,
            f"{each.goodput_ratio:.3f}",
            f"{each.worst_window_ratio:.2f}",
            f"{each.retransmits:g}",
            f"{each.jain:.3f}",
            *(f"{value:.2f}" for value in (each.rr_p50_ms, each.rr_p99_ms, each.rr_outside_p99_ms)),
            f"{each.dropped:g}",
        )
    return table


def _parser() -> _Parser:
    parser = _Parser(prog="python -m bench", description="podrate beside tc, in the same minutes on the same machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    point = commands.add_parser(
        "point", help="measure one point", formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    point.add_argument("--rate", type=_rate, required=True, help="the limit in bits/s, for example 100M")
    point.add_argument("--flows", type=_count(1, 128), default=1, help="of iperf3, 1 to 128")
    point.add_argument("--rtt", type=_rtt, default=0.0, help="of the path: 0, 500us, 20ms, up to 2s")
    point.add_argument("--direction", choices=("egress", "ingress"), default="egress", help="as the pod sees it")
    point.add_argument("--protocol", choices=("tcp", "udp"), default="tcp", help="UDP is sent at twice the limit")
    point.add_argument("--congestion", type=_congestion, default="cubic", help="TCP congestion control")
    point.add_argument("--shapers", type=_shapers, default="podrate,tbf,htb,none", help="some of the default")
    point.add_argument("--seconds", type=_count(1, 600), default=5, help="of each run")
    point.add_argument("--runs", type=_count(1, 100), default=5, help="of each shaper; the median counts")
    point.add_argument("--json", action="store_true", help="a list of objects instead of a table")
    return parser


def _rate(text: str) -> int:
    try:
        return parse_rate(text, "--rate")
    except Invalid as error:
        raise argparse.ArgumentTypeError(f"{error.reason}; allowed: {error.allowed}") from None


def _rtt(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s)|0", text)
    seconds = float(match[1]) * _UNITS[match[2]] if match and match[1] else 0.0
    if not match or seconds > 2:
        raise argparse.ArgumentTypeError(f"{text!a} is not a time from 0 to 2s, for example 20ms")
    return seconds


def _count(least: int, most: int) -> "argparse._ActionType":
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,6}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!a} is not a whole number from {least} to {most}")
        return int(text)

    return parse


def _congestion(text: str) -> str:
    available = _CONGESTION.read_text().split()
    if text not in available:
        raise argparse.ArgumentTypeError(f"{text!a} is not in this kernel, which has {', '.join(available)}")
    return text


def _shapers(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in SHAPERS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!a} is not a shaper; there are {', '.join(SHAPERS)}")
    return list(dict.fromkeys(names))


if __name__ == "__main__":
    sys.exit(main())
