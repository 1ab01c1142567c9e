"""Each claim of docs/security.md names the test that tries it; the test is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)))
TABLES = re.findall(r"^\| .* \| tested by \|\n\|[-|]+\|\n((?:\|.*\n)+)", DOCUMENT, re.MULTILINE)


@cache
def written_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_named_test_is_there(path: str, name: str) -> None:
    assert name in written_in(path)


def test_nothing_else_looks_like_a_test() -> None:
    assert DOCUMENT.count("::") == len(re.findall(r"`tests/[\w/]+\.py::test_\w+`", DOCUMENT)) > 20


def test_each_claim_names_a_test_or_says_that_there_is_none() -> None:
    rows = [row for table in TABLES for row in table.splitlines()]
    assert len(rows) > 15
    for row in rows:
        last = row.rstrip("| ").rpartition(" | ")[2]
        assert last.startswith("not tested") or re.fullmatch(r"(`tests/\S+::test_\w+`(, )?)+", last), row


def test_each_test_on_the_cluster_is_named() -> None:
    named = {name for path, name in NAMED if path == "tests/cluster/test_security.py"}
    assert named == written_in("tests/cluster/test_security.py")
