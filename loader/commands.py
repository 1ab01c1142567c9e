"""The commands: what each takes, with examples, and what does it. Nothing else is imported before one is run."""

import argparse

from bandwidth.duration import parse_duration
from loader.failure import RUN_EXIT_CODE, Failure
from loader.options import add_queue, add_rates, asked, limit
from loader.parser import Declare, Run
from loader.table import SORTS

EXAMPLES = """\
examples:
  podrate run --egress 10M -- curl -O http://example.com/file    # a command, limited
  podrate attach --bandwidth 50M nginx.service                   # a service, from now on
  podrate status                                                 # every limit here, and whether it holds back
  podrate detach nginx.service
"""


def _run(parser: argparse.ArgumentParser) -> Run:
    parser.usage = "podrate run [OPTION...] -- COMMAND [ARGUMENT...]"
    parser.description = f"""\
Run a command under a limit.

It runs in a cgroup of its own, limited from its first packet, with all that it starts. It keeps its descriptors, its
terminal and its signals, and its exit status is ours ({RUN_EXIT_CODE}: podrate failed; 126: not executable; 127: not
found). One run may stand inside another: each limit applies.
"""
    parser.epilog = """\
examples:
  podrate run --egress 10M -- curl -T backup.tar ftp://example.com/
  podrate run --bandwidth 2M -- bash                    # a shell, and all that is started from it
  podrate run --ingress 50M --stats -- apt-get upgrade  # and see what it uses of it
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


def _attach(parser: argparse.ArgumentParser) -> Run:
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
    _add_target(parser)

    def work(options: argparse.Namespace) -> int:
        from loader.attach import attach
        from loader.target import resolve

        return attach(resolve(options.target), limit(options))

    return work


def _set(parser: argparse.ArgumentParser) -> Run:
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
    _add_target(parser)

    def work(options: argparse.Namespace) -> int:
        from loader.attach import change
        from loader.target import resolve

        given = asked(options, none=True)
        both = {"egress": given["bandwidth"], "ingress": given["bandwidth"]} if "bandwidth" in given else {}
        changes = both | {name: value for name, value in given.items() if name != "bandwidth"}
        return change(resolve(options.target), changes)

    return work


def _detach(parser: argparse.ArgumentParser) -> Run:
    parser.description = """\
End a cgroup's limit.

Connections that outlive it are released.
"""
    parser.epilog = """\
examples:
  podrate detach nginx.service
"""
    _add_target(parser)

    def work(options: argparse.Namespace) -> int:
        from loader.attach import detach
        from loader.target import resolve

        return detach(resolve(options.target))

    return work


def _status(parser: argparse.ArgumentParser) -> Run:
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
    _add_target(parser, nargs="?")
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


def _top(parser: argparse.ArgumentParser) -> Run:
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
  ssh node1 podrate top --count 10 | sort -t "$(printf '\\t')" -k 7
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


def _doctor(parser: argparse.ArgumentParser) -> Run:
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


def _completion(parser: argparse.ArgumentParser) -> Run:
    parser.description = """\
Print the completion of a shell.

To be evaluated by the shell when it starts, or kept where it looks for completions.
"""
    parser.epilog = """\
examples:
  eval "$(podrate completion bash)"    # in ~/.bashrc
  podrate completion zsh >/usr/local/share/zsh/site-functions/_podrate
  podrate completion fish >~/.config/fish/completions/podrate.fish
"""
    what = "bash, zsh or fish; or targets: what TARGET may be on this machine, one on a line"
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish", "targets"), help=what)

    def work(options: argparse.Namespace) -> int:
        from loader.completion import script, targets

        if options.shell == "targets":
            return targets()

        print(script(options.shell), end="")
        return 0

    return work


def _man(parser: argparse.ArgumentParser) -> Run:
    parser.description = """\
Print the manual.

As a page for man(1), or as the Markdown of docs/cli.md.
"""
    parser.epilog = """\
examples:
  podrate man | man -l -
"""
    parser.add_argument("--markdown", action="store_true", help="Markdown, not a man page")

    def work(options: argparse.Namespace) -> int:
        from loader.manual import man, markdown

        print(markdown() if options.markdown else man(), end="")
        return 0

    return work


COMMANDS: dict[str, Declare] = {
    "run": _run,
    "attach": _attach,
    "set": _set,
    "detach": _detach,
    "status": _status,
    "top": _top,
    "doctor": _doctor,
    "completion": _completion,
    "man": _man,
}


def _add_target(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    forms = "its directory, a process's PID, a systemd unit (nginx.service), a pod's UID, or a pod's NAMESPACE/NAME"
    parser.add_argument("target", nargs=nargs, metavar="TARGET", help=f"a cgroup: {forms}")
