"""The commands that look: what status, top and doctor take, with examples."""

import argparse

from bandwidth.duration import parse_duration
from loader.options import add_target
from loader.parser import Run
from loader.table import SORTS


def status(parser: argparse.ArgumentParser) -> Run:
    """podrate status."""
    parser.description = """\
Show limits and counters, and who is held back now.

With TARGET the limits that apply to it, its own first and then those above; without, every one of this machine. Looks
twice, so that it can say what passes now and for how much of the last second senders were held back.
"""
    parser.epilog = """\
examples:
  podrate status                      # every limited cgroup
  podrate status nginx.service        # or shop/web, or 4711: why is this one slow?
  podrate status --json | jq '.[] | select(.egress.sample.throttled > 0.1) | .cgroup'
"""
    add_target(parser, nargs="?")
    parser.add_argument(
        "--sample", metavar="TIME", default="1s", help="between the looks: 1ms to 10s, or 0 for one look"
    )
    parser.add_argument("--json", action="store_true", help="a list of objects: rates in bit/s, bytes on the wire")

    def work(options: argparse.Namespace) -> int:
        from loader.status import status
        from loader.target import resolve

        sample = 0.0 if options.sample == "0" else parse_duration(options.sample, "--sample") / 1e9
        return status(resolve(options.target) if options.target else None, sample=sample, as_json=options.json)

    return work


def top(parser: argparse.ArgumentParser) -> Run:
    """podrate top."""
    parser.description = """\
Watch every limited cgroup of this machine.

A table that stays up to date: what passes, the limit, how much of it is used, for how much of the time senders are held
back, and what is dropped. Keys sort it, arrows scroll, q or Ctrl-C ends it. Where the output is no terminal, lines of
fields with tabs between them.
"""
    parser.epilog = """\
examples:
  podrate top
  podrate top --sort throttled --every 5s
  podrate top --count 3 | sort -t "$(printf '\\t')" -k 7
"""
    parser.add_argument("--sort", metavar="COLUMN", choices=SORTS, default="use", help=f"by {', '.join(SORTS)}")
    parser.add_argument("--every", metavar="TIME", default="1s", help="between two looks: 1ms to 10s")
    parser.add_argument("--count", metavar="N", type=_count, help="end after N looks, and print plain lines")
    parser.add_argument("--json", action="store_true", help="a line a look: a list of objects, as of podrate status")

    def work(options: argparse.Namespace) -> int:
        from loader.top import top

        every = parse_duration(options.every, "--every") / 1e9
        return top(every=every, sort=options.sort, count=options.count, as_json=options.json)

    return work


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000_000:
        raise argparse.ArgumentTypeError(f"{text!a} is no number of looks; 1 or more, for example 10")
    return int(text)


def doctor(parser: argparse.ArgumentParser) -> Run:
    """podrate doctor."""
    parser.description = """\
Say what works on this machine and what does not.

Each thing in a line, with the remedy: ok; FAIL, and then nothing can be limited here; or less, where podrate does
without it. Nothing is left behind. The exit code is that of the first FAIL, or 0.
"""
    parser.epilog = """\
examples:
  podrate doctor
  podrate doctor --json | jq '.[] | select(.ok | not)'
  podrate doctor --log                # what to report, with uname -a, where the kernel refuses the programs
"""
    parser.add_argument(
        "--json", action="store_true", help="a list of objects: check, needed, ok, reason, what, remedy"
    )
    parser.add_argument("--log", action="store_true", help="the verifier's whole log too, where it refuses a program")

    def work(options: argparse.Namespace) -> int:
        from loader.doctor import doctor

        return doctor(as_json=options.json, with_log=options.log)

    return work
