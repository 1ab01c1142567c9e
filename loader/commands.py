"""The commands for people, parsed: run, attach, detach, status."""

import argparse
import sys
from typing import NoReturn

from bandwidth.invalid import Invalid
from bandwidth.limit import Limit
from bandwidth.rate import format_rate, parse_rate
from loader.failure import EXIT_CODES, RUN_EXIT_CODE, Failure

_EXAMPLES = """\
examples:
  podrate run --egress 10M -- curl -O http://example.com/file    a command, limited
  podrate attach --bandwidth 50M /sys/fs/cgroup/system.slice/nginx.service
  podrate status                                                 every limited cgroup
  podrate detach /sys/fs/cgroup/system.slice/nginx.service

RATE is bits per second: 10M, 1.5G, 500k, 64Mi; from 1k to 1T.
"""


class _Parser(argparse.ArgumentParser):
    """argparse prints a usage block and exits; ours says one line, like every other Failure."""

    def error(self, message: str) -> NoReturn:
        raise Failure("usage", message, f"{self.prog} --help shows how")


def dispatch(arguments: list[str]) -> int:
    """Run a command; returns its exit code. Raises Failure."""
    options = _parser().parse_args(arguments)
    if options.command == "run":
        from loader.run import run

        if options.argv[:1] == ["--"]:
            options.argv.pop(0)
        if not options.argv:
            raise Failure("usage", "run needs a COMMAND", "podrate run --egress 10M -- curl http://example.com")
        return run(options.argv, _limit(options), ingress_queue=options.ingress_queue)
    if options.command == "attach":
        return _attach(options.cgroup, _limit(options), ingress_queue=options.ingress_queue)
    if options.command == "detach":
        return _detach(options.cgroup)
    from loader.cgroup import resolve
    from loader.status import status

    return status(resolve(options.cgroup) if options.cgroup else None, options.json)


def _attach(path: str, limit: Limit, *, ingress_queue: bool) -> int:
    from loader import bpf, queue
    from loader.adopt import Adopter
    from loader.cgroup import resolve
    from loader.shaper import Shaper

    cgroup = resolve(path)
    with Shaper() as shaper, Adopter() as adopter:
        shaper.buckets.set(limit)
        with queue.changed_for(cgroup, limit.ingress if ingress_queue else None):
            shaper.attach(cgroup, bpf.EXCLUSIVE)
        adopted = adopter.adopt(cgroup, shaper)
    if adopted.mode == "fixed" and adopted.connections > 0 and limit.egress is not None:
        what = f"{adopted.connections} older TCP connection(s) are paced at {format_rate(adopted.pace * 8)}bit/s each"
        print(f"podrate: {what} until they close; a pace that adapts needs Linux 6.13 and root", file=sys.stderr)
    return 0


def _detach(path: str) -> int:
    from loader import queue
    from loader.adopt import Adopter
    from loader.cgroup import resolve
    from loader.shaper import find_attached

    cgroup = resolve(path)
    attached = find_attached(cgroup)
    if attached is None:
        raise Failure("not-limited", f"{path} has no limit of podrate's", "podrate status lists what has")
    attached.detach()
    attached.close()
    queue.put_for(cgroup, None)
    with Adopter() as adopter:
        adopter.release(cgroup)
    return 0


def _limit(options: argparse.Namespace) -> Limit:
    try:
        both, egress, ingress = (
            parse_rate(text, f"--{name}") if (text := getattr(options, name)) is not None else None
            for name in ("bandwidth", "egress", "ingress")
        )
    except Invalid as error:
        raise Failure("usage", str(error), f"podrate {options.command} --help shows how") from None
    if both is egress is ingress is None:
        raise Failure("usage", "no rate was given", "give --egress, --ingress or --bandwidth, for example --egress 10M")
    if options.ingress_queue and both is ingress is None:
        what = "--ingress-queue without an ingress limit, so there is nothing to queue"
        raise Failure("usage", what, "give --ingress or --bandwidth, for example --ingress 10M")
    return Limit(egress=both if egress is None else egress, ingress=both if ingress is None else ingress)


def _parser() -> argparse.ArgumentParser:
    codes = ", ".join(f"{code} {reason}" for reason, code in EXIT_CODES.items())
    epilog = (
        f"{_EXAMPLES}\nexit codes: 0 done, {codes}.\n"
        f"run exits with COMMAND's own status; {RUN_EXIT_CODE} podrate failed, 126 not executable, 127 not found.\n"
    )
    parser = _Parser(
        prog="podrate",
        description="Limit the network bandwidth of a command or a cgroup, in the kernel.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    run = commands.add_parser(
        "run", help="run a command under a limit", epilog=epilog, formatter_class=parser.formatter_class
    )
    _add_rates(run)
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND...", help="the command and its arguments")

    attach = commands.add_parser("attach", help="limit a cgroup, or change its limit")
    _add_rates(attach)
    attach.add_argument("cgroup", metavar="CGROUP", help="a directory of the cgroup2 mount")

    detach = commands.add_parser("detach", help="end a cgroup's limit")
    detach.add_argument("cgroup", metavar="CGROUP", help="a directory of the cgroup2 mount")

    status = commands.add_parser("status", help="show limits and counters")
    status.add_argument("cgroup", nargs="?", metavar="CGROUP", help="only this one")
    status.add_argument("--json", action="store_true", help="a list of objects: rates in bit/s, bytes on the wire")
    return parser


def _add_rates(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bandwidth", metavar="RATE", help="both directions")
    parser.add_argument("--egress", metavar="RATE", help="what it sends; wins over --bandwidth")
    parser.add_argument("--ingress", metavar="RATE", help="what it receives; wins over --bandwidth")
    queue = "let TCP that arrives above the limit wait, in a queue in the network namespace, rather than drop it"
    parser.add_argument("--ingress-queue", action="store_true", help=queue)
