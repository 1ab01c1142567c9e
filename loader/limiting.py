"""The commands that limit: what run, attach, set and detach take, with examples."""

import argparse

from loader.failure import RUN_EXIT_CODE, Failure
from loader.options import add_queue, add_rates, add_target, asked, limit
from loader.parser import Run


def run(parser: argparse.ArgumentParser) -> Run:
    """podrate run."""
    parser.usage = "podrate run [OPTION...] -- COMMAND [ARGUMENT...]"
    parser.description = f"""\
Run a command under a limit.

It runs in a cgroup of its own, limited from its first packet, with all that it starts. It keeps its descriptors, its
terminal and its signals, and its exit status is ours ({RUN_EXIT_CODE}: podrate failed; 126: not executable; 127: not
found). One run may stand inside another: each limit applies.
"""
    parser.epilog = """\
examples:
  podrate run --egress 10M -- curl -T backup.tar http://example.com/
  podrate run --bandwidth 2M -- bash        # a shell, and all that is started from it
  podrate run --ingress 50M --stats -- curl -O http://example.com/file    # and see what it uses of it
"""
    add_rates(parser)
    add_queue(parser)
    stats = "show on stderr what passes, each second on a terminal, and a summary when the command has ended"
    parser.add_argument("--stats", action="store_true", help=stats)
    parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command and its arguments")

    def work(options: argparse.Namespace) -> int:
        from loader.run import run

        if options.argv[:1] == ["--"]:
            options.argv.pop(0)
        if not options.argv or not options.argv[0]:
            raise Failure("usage", "run needs a COMMAND", "podrate run --egress 10M -- curl http://example.com")
        return run(options.argv, limit(options), stats=options.stats)

    return work


def attach(parser: argparse.ArgumentParser) -> Run:
    """podrate attach."""
    parser.description = """\
Limit a cgroup: a service, a pod, whatever runs in it and below.

The limit is the kernel's: it stays until it is detached or the cgroup is removed. Connections that are open already
share it. A limit that is there is replaced without a gap.
"""
    parser.epilog = """\
examples:
  podrate attach --bandwidth 50M nginx.service
  podrate attach --egress 10M --ingress 100M /sys/fs/cgroup/system.slice/backup.service
"""
    add_rates(parser)
    add_queue(parser)
    add_target(parser)

    def work(options: argparse.Namespace) -> int:
        from loader.attach import attach
        from loader.target import resolve

        return attach(resolve(options.target), limit(options))

    return work


def set_(parser: argparse.ArgumentParser) -> Run:
    """podrate set."""
    parser.description = """\
Change the limit of a cgroup, live.

Only what is named changes. Nothing is attached anew: counters go on, and open connections take their new share at once.
"""
    parser.epilog = """\
examples:
  podrate set --egress 20M nginx.service
  podrate set --ingress none shop/web           # no limit in that direction
"""
    add_rates(parser, "; none: no limit")
    add_target(parser)

    def work(options: argparse.Namespace) -> int:
        from loader.attach import change
        from loader.target import resolve

        given = asked(options, none=True)
        both = {"egress": given["bandwidth"], "ingress": given["bandwidth"]} if "bandwidth" in given else {}
        changes = both | {name: value for name, value in given.items() if name != "bandwidth"}
        return change(resolve(options.target), changes)

    return work


def detach(parser: argparse.ArgumentParser) -> Run:
    """podrate detach."""
    parser.description = """\
End a cgroup's limit.

Connections that outlive it are released.
"""
    parser.epilog = """\
examples:
  podrate detach nginx.service
"""
    add_target(parser)

    def work(options: argparse.Namespace) -> int:
        from loader.attach import detach
        from loader.target import resolve

        return detach(resolve(options.target))

    return work
