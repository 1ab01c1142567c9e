"""One parser for every command: help, completion, the man page and docs/cli.md are all made of it.

A command is a function that is given an empty argparse parser, declares on it what the command takes (a description,
whose first line is its summary; arguments; examples, as the epilog) and returns what does the work. Ours are in
loader.commands. Another package adds its own by an entry point, named as the command, that refers to such a function:

    [project.entry-points."podrate.commands"]
    check = "webhook.check:declare"
"""

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from bandwidth.invalid import Invalid
from loader import __version__
from loader.failure import Failure
from loader.say import printable

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Run = Callable[[argparse.Namespace], int]
Declare = Callable[[argparse.ArgumentParser], Run]

ENTRY_POINTS = "podrate.commands"
DESCRIPTION = "Limit the network bandwidth of a command, a service or a pod, in the kernel."


class _Formatter(argparse.HelpFormatter):
    """Text is filled by paragraphs, and left alone where it is indented."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(
            paragraph if "\n  " in paragraph else textwrap.fill(paragraph, width, initial_indent=indent)
            for paragraph in text.strip().split("\n\n")
        )


class Parser(argparse.ArgumentParser):
    """argparse, but for what is wrong one line, like every other Failure; and the examples before the options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog=prog, formatter_class=_Formatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise Failure("usage")."""
        words = message.removeprefix("unrecognized arguments: ").split()
        known = [name for each in arguments(self) for name in each.options]
        near = get_close_matches(words[0].partition("=")[0], known, n=1) if words else []
        hint = f"; did you mean {near[0]}?" if message.startswith("unrecognized") and near else ""
        raise Failure("usage", message + hint, f"{self.prog} --help shows how")

    def format_help(self) -> str:
        """What --help prints."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        formatter.add_text(self.epilog)
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
        return formatter.format_help()


class Argument(NamedTuple):
    """An argument of a command, as declared."""

    options: tuple[str, ...]  # as --egress; none for an operand
    metavar: str  # what stands for its value: RATE, FILE, TARGET; "" where it takes none
    choices: tuple[str, ...]
    help: str

    @property
    def written(self) -> str:
        """As a manual shows it: --egress RATE."""
        return " ".join(filter(None, (", ".join(self.options), self.metavar)))


def arguments(parser: argparse.ArgumentParser) -> Iterator[Argument]:
    """What a parser takes. (argparse has no public way to ask; shtab and sphinx-argparse look here too.)"""
    for action in parser._actions:
        takes = action.nargs != 0
        choices = tuple(map(str, action.choices or ())) if takes else ()
        metavar = str(action.metavar or ("|".join(choices) or action.dest.upper())) if takes else ""
        yield Argument(tuple(action.option_strings), metavar, choices, str(action.help or ""))


class Command(NamedTuple):
    """A command, ready to parse its arguments."""

    name: str
    parser: argparse.ArgumentParser
    run: Run

    @property
    def summary(self) -> str:
        """What it does, in a line."""
        return (self.parser.description or "").partition("\n")[0]


def command(name: str) -> Command:
    """The command of this name, ours or another package's. Raises Failure("usage")."""
    from loader.commands import COMMANDS

    declare = COMMANDS.get(name)
    if declare is None:
        try:
            declare = _added()[name].load()
        except KeyError:
            near = get_close_matches(name, names(), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Failure("usage", f"there is no command {name!r}{hint}", "podrate --help shows them") from None
        except Exception as error:  # whatever an import can raise
            remedy = "install what it needs, or uninstall the package that adds it"
            raise Failure("usage", f"podrate {name} can't be loaded: {error}", remedy) from None
    parser = Parser(f"podrate {name}")
    return Command(name, parser, declare(parser))


def names() -> list[str]:
    """Every command that there is here, ours first."""
    from loader.commands import COMMANDS

    return [*COMMANDS, *sorted(_added().keys() - COMMANDS.keys())]


def commands() -> Iterator[Command]:
    """Every command that can be loaded."""
    for name in names():
        with suppress(Failure):
            yield command(name)


def _added() -> dict[str, "EntryPoint"]:
    from importlib.metadata import entry_points  # 20 ms: not for our own commands

    return {each.name: each for each in entry_points(group=ENTRY_POINTS)}


def overview() -> str:
    """What `podrate --help` prints."""
    from loader.commands import EXAMPLES

    lines = ["usage: podrate COMMAND [--help] ...", "", DESCRIPTION, "", EXAMPLES, "commands:"]
    for name in names():
        try:
            summary = command(name).summary
        except Failure as failure:
            summary = f"({failure.what})"
        lines.append(f"  {name:<11} {printable(summary)}")
    return "\n".join(
        [*lines, "", "podrate COMMAND --help explains one; podrate man is the manual, with the exit codes."]
    )


def dispatch(words: list[str]) -> int:
    """Run a command; returns its exit code. Raises Failure."""
    if sys.stdout:
        # A pod's or a directory's name must not be what ends us where the locale is not UTF-8.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if not words:
        raise Failure("usage", "no command was given", "podrate --help shows them")
    if words[0] in ("-h", "--help", "help"):
        print(overview() if len(words) == 1 else command(words[1]).parser.format_help().rstrip())
        return 0
    if words[0] == "--version":
        print(f"podrate {__version__}")
        return 0
    if words[0].startswith("-"):
        raise Failure("usage", f"the command comes first, not {words[0]}", "podrate --help shows how")
    asked = command(words[0])
    options = asked.parser.parse_args(words[1:])
    try:
        return asked.run(options)
    except Invalid as error:
        raise Failure("usage", str(error), f"{asked.parser.prog} --help shows how") from None
