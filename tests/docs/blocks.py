"""The fenced blocks of the documentation, and what becomes of each.

The line above a block of commands says where a test runs it, or why none does:

    <!-- run: cluster -->      on the tests' cluster, by tests/cluster/test_walkthrough.py
    <!-- run: machine -->      as root on a machine of its own, by tests/docs/test_machine.py
    <!-- run: checkout -->     in a copy of the repository, by tests/docs/test_machine.py
    <!-- not run: REASON -->   test_blocks.py lists these, and knows no others

In a block of the language `sh` every command succeeds. In one of `console` a command stands after "$ ", and what it
prints below it, where "..." is anything: a line of it any number of lines, otherwise a part of the line. A command that
is shown to fail must: by a line that begins as kubectl's errors do, or with "podrate: REASON: " where it is podrate.

Each command is a shell of its own: a reader may start anywhere.
"""

import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
COMMANDS = ("sh", "console")
_MARK = re.compile(r"<!-- (run|not run): (.+) -->")
_ERROR = re.compile(r"^(Error|The request is invalid)", re.MULTILINE)
_REASON = re.compile(r"^podrate: [a-z0-9-]+: ", re.MULTILINE)


class Command(NamedTuple):
    """One command of a block.

    text:   as bash takes it
    shown:  what it prints, by the document; None where the document does not say
    """

    text: str
    shown: str | None

    @property
    def fails(self) -> bool:
        """Whether it is shown to fail."""
        shown = self.shown or ""
        return bool(_ERROR.search(shown) or (self.text.startswith("podrate ") and _REASON.search(shown)))


class Block(NamedTuple):
    """A fenced block.

    path, line:  of its first line within the fence, from the repository's root
    language:    the fence's, or "" for none, or "indented" for a block without a fence
    run:         where it is run: cluster, machine or checkout; "" for nowhere
    reason:      why it is run nowhere, or ""
    """

    path: str
    line: int
    language: str
    text: str
    run: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"

    def commands(self) -> Iterator[Command]:
        """The block's commands; lines that end in a backslash go on."""
        lines = self.text.replace("\\\n", "\0").splitlines()
        if self.language == "sh":
            yield from (Command(line.replace("\0", "\\\n"), None) for line in lines if line.strip("\0 "))
            return
        assert lines[0].startswith("$ "), f"{self}: the first line of a console is a command after '$ '"
        starts = [n for n, line in enumerate(lines) if line.startswith("$ ")]
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            shown = "\n".join(lines[start + 1 : end])
            yield Command(lines[start].removeprefix("$ ").replace("\0", "\\\n"), shown)


def tracked(*patterns: str) -> list[str]:
    """The files that git knows, from the repository's root."""
    listing = ["git", "-c", "safe.directory=*", "ls-files", "-z", *patterns]  # also as root in somebody's clone
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(each for each in listed.split("\0") if (ROOT / each).is_file())


def documents() -> list[Path]:
    """Every Markdown file that is in the repository."""
    return [ROOT / each for each in tracked("*.md")]


def blocks(run: str | None = None) -> list[Block]:
    """Every block of every document, or those that are run in one place, in the order in which they stand."""
    return [each for path in documents() for each in _blocks(path) if run in (None, each.run)]


def _blocks(path: Path) -> Iterator[Block]:
    name = str(path.relative_to(ROOT))
    mark = ""
    for token in MarkdownIt().enable("table").parse(path.read_text()):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            fenced = token.type == "fence"
            found = _MARK.fullmatch(mark)
            what, detail = found.groups() if found else ("", "")
            yield Block(
                name,
                token.map[0] + 1 + fenced,
                token.info if fenced else "indented",
                token.content,
                run=detail if what == "run" else "",
                reason=detail if what == "not run" else "",
            )
        mark = token.content.strip() if token.type == "html_block" else ""


Start = Callable[[str], subprocess.CompletedProcess[str]]


def typed(
    text: str, environment: Mapping[str, str], timeout: float, *, before: Sequence[str] = (), cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as a reader types it, who sees both of its outputs as one and has nothing to say to it.

    before: what starts the shell
    """
    return subprocess.run(
        [*before, "bash", "-o", "pipefail", "-c", text],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def check(block: Block, start: Start, patience: float = 0) -> None:
    """Run a block's commands as `start` does, and compare with what is shown.

    patience: for how many seconds a command that only looks is asked again, until it prints what is shown
    """
    for command in block.commands():
        looks = re.match(r"(kubectl|podrate) .*\b(get|logs|describe|status)\b", command.text)
        deadline = time.monotonic() + (patience if looks else 0)
        while problem := _problem(command, start(command.text)):
            assert time.monotonic() < deadline, f"{block}: {command.text}\n{problem}"
            time.sleep(0.3)


def _problem(command: Command, done: subprocess.CompletedProcess[str]) -> str | None:
    """What is wrong with how a command ended, or None."""
    printed = done.stdout
    if (done.returncode != 0) != command.fails:
        return f"exit status {done.returncode}\n{printed}"
    if command.shown is not None and not matches(command.shown, printed):
        return f"shown:\n{command.shown}\nprinted:\n{printed}"
    return None


def matches(shown: str, printed: str) -> bool:
    """Whether a command printed what is shown; spaces at the ends of lines don't count."""
    pattern = ""
    for line in shown.splitlines():
        anything = line.strip() == "..."
        pattern += r"(?:.*\n)*?" if anything else ".*?".join(map(re.escape, line.rstrip().split("..."))) + r"\n"
    lines = "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines())
    return re.fullmatch(pattern, lines) is not None
