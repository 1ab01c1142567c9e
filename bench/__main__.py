"""The command line.

python -m bench point --rate 100M --flows 16 --shapers podrate,tbf --json
python -m bench sweep --quick && python -m bench report
python -m bench resident
"""

import argparse
import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bandwidth.invalid import Invalid
from bandwidth.rate import parse_rate
from bench import sweep, tables
from bench.command import LabError, require, terminable
from bench.point import Point, as_json, measure
from bench.shapers import SHAPERS
from loader.failure import Failure

_CONGESTION = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_RESULTS = Path("build/bench/results.json")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line; argparse would print the usage before it."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def main() -> int:
    """Run the command in sys.argv; returns the exit code: 0 measured, 2 a bad option or a machine that can't."""
    options = _parser().parse_args()
    try:
        if options.command != "report":
            require("ip", "tc", "nsenter", "iperf3", "cc", "clang-14")
        with terminable():
            return int(options.run(options))
    except (LabError, Failure, OSError) as error:  # an OSError is the kernel's word on a BPF program, or a file
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130


def _run_point(options: argparse.Namespace) -> int:
    point = Point(
        rate=options.rate,
        flows=options.flows,
        rtt=options.rtt,
        direction=options.direction,
        protocol=options.protocol,
        congestion=options.congestion,
        seconds=options.seconds,
    )
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("runs", total=options.runs * len(options.shapers))
        step = partial(progress.update, task, advance=1)
        measured = measure(point, options.shapers, options.runs, lambda shaper: step(description=shaper))
    if options.json:
        print(json.dumps(as_json(point, measured), indent=2))
    else:
        Console().print(tables.of_point(point, measured))
    return 0


def _run_sweep(options: argparse.Namespace) -> int:
    seconds, runs = (2, 1) if options.quick else (3, 3)
    seconds, runs = options.seconds or seconds, options.runs or runs
    chosen = sweep.stages(options.quick, seconds, runs, options.points)
    if not chosen:
        raise LabError(f"--points: {options.points!a} is in no name, such as {sweep.CLOSEUP.name!a} or 'cost'")
    results = sweep.Results(options.results, sweep.machine(seconds=seconds, runs=runs, quick=options.quick))
    console = Console(width=None if sys.stdout.isatty() else 150)  # a log has no edge
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=120) as progress:
            task = progress.add_task(chosen[0].name, total=sum(stage.seconds for stage in chosen))

            def step(stage: sweep.Stage) -> None:
                following = chosen[chosen.index(stage) + 1 :]
                progress.update(task, advance=stage.seconds, description=following[0].name if following else "done")

            sweep.sweep(chosen, results, step)
    finally:
        # Also when it was interrupted: what there is, is shown.
        for group in tables.groups(results.data["points"]):
            console.print(tables.of_group(group, sweep.PAIR), "")
        for failed in results.data["failed"]:
            console.print(f"not measured: {failed}", style="red", highlight=False)
        print(f"bench: {options.results}", file=sys.stderr)
    return 0


def _run_resident(options: argparse.Namespace) -> int:
    from bench import resident

    measured = resident.measure(options.seconds)
    if options.json:
        print(json.dumps(measured._asdict(), indent=2))
    else:
        Console().print(tables.of_resident(measured))
    return 0


def _run_report(options: argparse.Namespace) -> int:
    from bench import report  # draws, which the other commands need no library for

    print(report.write(options.results, options.docs))
    return 0


def _parser() -> _Parser:
    parser = _Parser(prog="python -m bench", description="podrate beside tc, in the same minutes on the same machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    defaults = argparse.ArgumentDefaultsHelpFormatter

    point = commands.add_parser("point", help="measure one point", formatter_class=defaults, allow_abbrev=False)
    point.set_defaults(run=_run_point)
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

    many = commands.add_parser("sweep", help="measure many points, and more: 15 minutes", allow_abbrev=False)
    many.set_defaults(run=_run_sweep)
    many.add_argument("--quick", action="store_true", help="some of the points, one short run each: 2 minutes")
    many.add_argument("--points", default="", metavar="TEXT", help="only what has this in its name, such as 'bbr 10M'")
    many.add_argument("--seconds", type=_count(1, 600), help="of each run (default: 3, --quick: 2)")
    many.add_argument("--runs", type=_count(1, 100), help="of each shaper; the median counts (default: 3, --quick: 1)")
    many.add_argument("--results", type=Path, default=_RESULTS, help="the file that is written after each point")

    waiting = commands.add_parser("resident", help="what a sidecar costs its pod", formatter_class=defaults)
    waiting.set_defaults(run=_run_resident)
    waiting.add_argument("--seconds", type=_count(1, 600), default=10, help="to watch them wait")
    waiting.add_argument("--json", action="store_true", help="an object instead of a table: seconds and bytes")

    written = commands.add_parser("report", help="make a document of a sweep", formatter_class=defaults)
    written.set_defaults(run=_run_report)
    written.add_argument("--results", type=Path, default=_RESULTS, help="of the sweep")
    written.add_argument("--docs", type=Path, default=Path("docs"), help="where benchmarks.md and its pictures go")
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
