"""One parser, and what is made of it: help, completion, the man page, docs/cli.md."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loader.completion import script
from loader.failure import EXIT_CODES, Failure
from loader.manual import MEANINGS, man, markdown
from loader.parser import arguments, command, names, overview
from tests.kernel.terminal import Terminal

ROOT = Path(__file__).parents[2]


def needs(tool: str) -> pytest.MarkDecorator:
    """CI has it: there nothing is skipped."""
    absent = not shutil.which(tool) and not os.environ.get("CI")
    return pytest.mark.skipif(absent, reason=f"needs {tool}: make test installs it")


def test_help_names_every_command_and_begins_with_examples() -> None:
    text = overview()
    assert text.index("examples:") < text.index("commands:")
    for name in names():
        assert f"\n  {name} " in text


@pytest.mark.parametrize("name", names())
def test_each_command_explains_itself(name: str) -> None:
    text = command(name).parser.format_help()
    assert re.search(rf"\n  .*podrate {name}\b", text), "an example"
    for argument in arguments(command(name).parser):
        assert argument.help, argument
        assert (argument.options or (argument.metavar,))[0] in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no command was given"),
        (("atach",), "did you mean attach?"),
        (("--egress", "10M"), "the command comes first, not --egress"),
        (("attach", "--egres", "10M", "x"), "did you mean --egress?"),
        (("attach", "--egress"), "expected one argument"),
        (("completion", "csh"), "invalid choice"),
        (("a\x1b[31m\nb",), r"a\x1b[31m\nb"),
    ],
)
def test_bad_usage_is_one_line(words: tuple[str, ...], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loader", *words], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout) == (EXIT_CODES["usage"], "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("podrate: usage: ")
    assert said in line


def test_every_reason_has_a_meaning() -> None:
    assert MEANINGS.keys() >= EXIT_CODES.keys()


@pytest.mark.parametrize(("path", "made"), [("docs/cli.md", markdown), ("docs/podrate.1", man)])
def test_the_manuals_are_those_of_these_parsers(path: str, made: Callable[[], str]) -> None:
    assert (ROOT / path).read_text() == made(), "make docs, and commit them"


@needs("groff")
def test_the_manual_has_no_line_that_roff_would_take_for_another() -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-z"], input=man(), text=True, capture_output=True, check=True
    )
    assert done.stderr == ""


@pytest.fixture
def added(tmp_path: Path) -> dict[str, str]:
    """The environment of a process where another package has added two commands, one of them broken."""
    (tmp_path / "other.py").write_text(
        "def declare(parser):\n"
        "    parser.description = 'Look at files.\\n\\nAll of them.'\n"
        "    parser.epilog = 'examples:\\n  podrate look a.yaml'\n"
        "    parser.add_argument('files', nargs='+', metavar='FILE', help='what to look at')\n"
        "    return lambda options: print(options.files) or 7\n"
    )
    metadata = tmp_path / "other-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[podrate.commands]\nlook = other:declare\nbroken = other:missing\n")
    return {**os.environ, "PYTHONPATH": f"{tmp_path}"}


def test_another_package_adds_a_command(added: dict[str, str]) -> None:
    def podrate(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "loader", *words]
        return subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, env=added, check=False)

    assert "\n  look        Look at files.\n" in podrate("--help").stdout
    assert (podrate("look", "a", "b").stdout, podrate("look", "a").returncode) == ("['a', 'b']\n", 7)
    assert podrate("look").stderr.startswith("podrate: usage: the following arguments are required: FILE.")
    assert podrate("look", "--help").stdout.index("podrate look a.yaml") < podrate("look", "--help").stdout.index(
        "FILE  "
    )
    assert "compgen -f" in podrate("completion", "bash").stdout
    broken = podrate("broken")
    assert broken.returncode == EXIT_CODES["usage"]
    assert "podrate broken can't be loaded" in broken.stderr
    assert "can't be loaded" in podrate("--help").stdout, "and the others still work"


def test_there_is_no_such_command() -> None:
    with pytest.raises(Failure, match="did you mean status"):
        command("stats")


@pytest.mark.parametrize("shell", ["bash", *(pytest.param(each, marks=needs(each)) for each in ("zsh", "fish"))])
def test_completion_is_a_script_of_its_shell(shell: str) -> None:
    done = subprocess.run([shell, "-n"], input=script(shell), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def completed(line: str) -> set[str]:
    """What bash offers at the end of a line."""
    words = line.split(" ")
    argv = [
        "bash",
        "-c",
        'eval "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _podrate; printf "%s\\n" "${COMPREPLY[@]}"',
        "bash",
        script("bash"),
        *words,
    ]
    return set(subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split())


def test_bash_offers_commands_options_and_choices() -> None:
    assert completed("podrate ") == {*names(), "--help"}
    assert completed("podrate at") == {"attach"}
    assert {"--egress", "--ingress", "--ingress-queue"} <= completed("podrate attach --")
    assert completed("podrate completion z") == {"zsh"}
    assert completed("podrate help s") == {"set", "status"}
    assert completed("podrate attach --egress ") == set(), "a rate can't be completed"
    assert "loader" in completed("podrate run --egress 10M -- cat lo")
    assert "bash" in completed("podrate run --egress 10M -- bas")


@needs("zsh")
@pytest.mark.parametrize("installed", [True, False])
def test_zsh_offers_them_at_the_first_tab(installed: bool, tmp_path: Path) -> None:
    """From a file of $fpath, and evaluated by ~/.zshrc. On a terminal, for zsh completes nowhere else."""
    (tmp_path / "_podrate").write_text(script("zsh"))
    start = f"PS1='READY '; fpath=({tmp_path} $fpath); autoload -U compinit; compinit -u -D; "
    start += "" if installed else f"unfunction _podrate; source {tmp_path}/_podrate; "
    with Terminal(["zsh", "-f", "-i"], HOME=str(tmp_path)) as terminal:
        terminal.press(f"{start}clear\r")
        terminal.until("READY", 20)
        terminal.press("podrate sta\t")
        terminal.until("podrate status", 20)
        terminal.press("--js\t")
        terminal.until("podrate status --json", 20)


@needs("fish")
def test_fish_offers_them_too() -> None:
    program = script("fish") + "\ncomplete -C 'podrate at'\ncomplete -C 'podrate attach --eg'"
    done = subprocess.run(["fish", "-c", program], capture_output=True, text=True, check=True)
    offered = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert offered == ["attach", "--egress"]
