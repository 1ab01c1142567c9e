"""That no command of the documentation escapes its test, and that its links lead somewhere."""

import json
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from tests.docs.blocks import COMMANDS, ROOT, Block, Command, blocks, check, documents, matches

PLACES = ("cluster", "machine", "checkout")
OTHERS = ("yaml", "promql", "text")  # languages of blocks that are no commands

# What no test runs, and why. Each is one more thing that may be wrong without anybody's knowing: keep it short.
NOT_RUN = {
    ("README.md", "the second is what runs this; tests/docs/test_machine.py makes the demo"),
    ("CONTRIBUTING.md", "one of them is what runs this, others take minutes; that make knows them is tested"),
    ("docs/install.md", "it takes a registry; the tests build the same images by the same recipes"),
    ("tests/cluster/README.md", "it takes a registry, and another cluster"),
}


def test_the_documents_have_commands_to_run() -> None:
    """Or the tests that are made of them would be none, and pass."""
    assert {each.run for each in blocks()} == {*PLACES, ""}


def test_every_block_of_commands_is_run_or_says_why_not() -> None:
    for block in blocks():
        assert block.language in (*COMMANDS, *OTHERS), f"{block}: no language, or one that no test knows"
        if block.language in COMMANDS:
            assert block.run in PLACES or block.reason, f"{block}: the line above says neither run: nor not run:"
        else:
            assert not block.run, f"{block}: {block.language} can't be run"
            said = re.search(r"^(\$ |kubectl |helm |make |docker |pip |git |curl |sudo )", block.text, re.MULTILINE)
            assert said is None, f"{block}: commands, but not sh or console"


def test_what_is_not_run_is_known() -> None:
    assert {(each.path, each.reason) for each in blocks() if each.reason} == NOT_RUN


def test_make_knows_every_target() -> None:
    commands = [
        each.text.partition("#")[0] for block in blocks() if block.language == "sh" for each in block.commands()
    ]
    targets = {word for each in commands if each.startswith("make ") for word in each.split()[1:2]}
    assert {"demo", "test"} <= targets
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, check=True)


YAML = [each for each in blocks() if each.language == "yaml"]


@pytest.mark.parametrize("block", YAML, ids=str)
def test_labels_that_are_shown_are_accepted(block: Block) -> None:
    """Others are values of the chart, which tests/cluster/test_walkthrough.py gives to helm."""
    shown = yaml.safe_load(block.text)
    if "metadata" not in shown:
        assert shown.keys() <= {"webhook", "loader"}, block
        return
    capped = any("/max-" in key for key in shown["metadata"]["labels"])
    manifest = {"apiVersion": "v1", "kind": "Namespace" if capped else "Pod", "spec": {}, **shown}
    manifest["metadata"]["name"] = "shown"
    check = [sys.executable, "-m", "loader", "check", "-"]
    done = subprocess.run(check, cwd=ROOT, input=json.dumps(manifest), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), block


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in _links(path):
        if target.startswith(("https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), f"{path}: {target}"
        assert not anchor or anchor in _anchors(linked), f"{path}: {target}: there is no such heading"


def _links(path: Path) -> list[str]:
    tokens = [child for token in MarkdownIt().enable("table").parse(path.read_text()) for child in token.children or ()]
    found = [token.attrGet("href") if token.type == "link_open" else token.attrGet("src") for token in tokens]
    return [str(each) for each in found if each]


def _anchors(path: Path) -> set[str]:
    """The headings' anchors, as GitHub makes them."""
    tokens = MarkdownIt().parse(path.read_text())
    headings = [tokens[n + 1].content for n, token in enumerate(tokens) if token.type == "heading_open"]
    kept = ("".join(c for c in text.lower() if c in " -_" or unicodedata.category(c)[0] in "LN") for text in headings)
    return {each.replace(" ", "-") for each in kept}


def test_what_is_shown_is_compared() -> None:
    """The comparison itself."""
    assert matches("a 1 b\n...\nend", "a 1 b\nmore\nmore\nend\n")
    assert matches("limit {...} on ...", "limit {1} on pod\n")
    assert not matches("a", "a\nb\n")
    assert not matches("a\n...\nend", "a\n")
    assert not matches("", "said\n")
    block = Block("a.md", 1, "console", "$ echo 1 \\\n  2\n1 2\n$ false\n")
    assert list(block.commands()) == [Command("echo 1 \\\n  2", "1 2"), Command("false", "")]

    def start(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)

    with pytest.raises(AssertionError, match="a.md:1: false\nexit status 1"):
        check(block, start)
    with pytest.raises(AssertionError, match="exit status 0"):
        check(Block("a.md", 1, "console", "$ echo Error: no\nError: no\n"), start)
    check(Block("a.md", 1, "console", "$ podrate-no\nError: ...\n"), lambda _: start("echo Error: no; exit 6"))
    assert Command("podrate top", "podrate: usage: ...").fails
    assert not Command("kubectl logs web", "podrate: usage: ...").fails
    with pytest.raises(AssertionError, match="printed:\n2"):
        check(Block("a.md", 1, "console", "$ echo 2\n1\n"), start)
