"""The manual, as a page for man(1) and as docs/cli.md: both made of the commands' parsers."""

import textwrap

from loader.failure import EXIT_CODES, RUN_EXIT_CODE
from loader.parser import DESCRIPTION, Command, arguments, commands

# Why a command fails, by reason. docs/troubleshooting.md has more of each.
MEANINGS = {
    "usage": "an option or a value is wrong; the line says which",
    "libbpf": "`libbpf.so.1` is missing or too old",
    "permission": "not root: CAP_BPF or CAP_NET_ADMIN is missing (most commands need CAP_SYS_ADMIN too)",
    "no-cgroup2": "no cgroup v2 is mounted",
    "no-cgroup": "the cgroup (in a pod: the pod's) was not found, or none can be made",
    "kernel": "the kernel refused the programs",
    "occupied": "another BPF program is attached there, above or below, and the limit would not hold",
    "annotation": "the pod's `podrate.io/limit` can't be read",
    "not-limited": "there is no limit to show, change or detach",
    "version": "the cgroup is limited by another version of podrate, whose maps this one can't read",
    "queue": "the ingress queue can't be had here; the line says why",
    "user-namespace": "the process is in a user namespace (`hostUsers: false`, a rootless container)",
    "seccomp": "a seccomp filter refuses the system call `bpf`",
    "no-btf": "the kernel was built without BTF",
    "old-kernel": "the kernel is older than 5.10",
    "memlock": "RLIMIT_MEMLOCK is too low for BPF (before Linux 5.11)",
    "lockdown": "the kernel is locked down and refuses the system call `bpf`",
}
_RUN = (
    f"podrate run exits with COMMAND's own status, or dies of its signal; with {RUN_EXIT_CODE} when podrate itself"
    " failed (the line names the reason), 126 and 127 when COMMAND can't be executed or is not there."
)
_SYSTEM = "the system refused a file; the line says which"


def _codes() -> list[tuple[int, str, str]]:
    """Exit code, reason, meaning."""
    return [(1, "", _SYSTEM), *((code, reason, MEANINGS[reason]) for reason, code in EXIT_CODES.items())]


def markdown() -> str:
    """docs/cli.md."""
    lines = ["# The command line", "", "<!-- made by `make docs` from the commands' parsers -->", "", DESCRIPTION, ""]
    for each in commands():
        lines += [f"## podrate {each.name}", "", "```text", _usage(each), "```", ""]
        for paragraph in _paragraphs(each):
            lines += [*textwrap.wrap(paragraph.replace("<", "\\<"), 120), ""]
        for argument in arguments(each.parser):
            if "--help" not in argument.options:
                text = f"- `{argument.written}`: {argument.help}"
                lines += textwrap.wrap(text, 120, subsequent_indent="  ", break_on_hyphens=False)
        # tests/docs reads the comment, and runs the examples.
        lines += ["", "<!-- run: machine -->", "```sh", *_examples(each), "```", ""]
    lines += ["## Exit codes", "", "| exit code | reason | meaning |", "|---|---|---|"]
    lines += [f"| {code} | {reason} | {meaning} |" for code, reason, meaning in _codes()]
    return "\n".join([*lines, "", *textwrap.wrap(_RUN, 120), ""])


def man() -> str:
    """podrate.1, in the macros of man(7)."""
    lines = [".TH PODRATE 1", ".SH NAME", r"podrate \- limit network bandwidth", ".SH SYNOPSIS"]
    for each in commands():
        lines += [".B " + _roff(_usage(each)), ".br"]
    lines += [".SH DESCRIPTION", _roff(DESCRIPTION), ".SH COMMANDS"]
    for each in commands():
        lines += [f".SS podrate {each.name}"]
        for paragraph in _paragraphs(each):
            lines += [".PP", _roff(paragraph)]
        for argument in arguments(each.parser):
            lines += [".TP", ".B " + _roff(argument.written), _roff(argument.help)]
        lines += [".PP", "Examples:", ".PP", ".nf", *map(_roff, _examples(each)), ".fi"]
    lines += [".SH EXIT STATUS", ".TP", "0", "done"]
    for code, reason, meaning in _codes():
        lines += [".TP", f"{code} {reason}".rstrip(), _roff(meaning.replace("`", ""))]
    return "\n".join([*lines, ".PP", _roff(_RUN), ""])


def _usage(each: Command) -> str:
    return " ".join(each.parser.format_usage().removeprefix("usage: ").replace(" [-h]", "").split())


def _paragraphs(each: Command) -> list[str]:
    return [" ".join(text.split()) for text in (each.parser.description or "").split("\n\n")]


def _examples(each: Command) -> list[str]:
    """The epilog's lines without their heading."""
    return [line.removeprefix("  ") for line in (each.parser.epilog or "").rstrip().splitlines()[1:]]


def _roff(text: str) -> str:
    """Text as roff takes it: no line is a request, no hyphen typographic."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{text}" if text.startswith((".", "'")) else text
