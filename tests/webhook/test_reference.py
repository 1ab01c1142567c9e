"""docs/labels.md says what the code says, and leaves nothing out."""

import ast

import pytest

from bandwidth import duration, rate
from bandwidth.keys import CAPS, KEYS
from tests.webhook.conftest import ROOT
from tests.webhook.reference import BAD_BURSTS, BAD_RATES, REJECTED, document, warned
from webhook.decision import Reason, Result

ACCEPTING = {Reason.NOT_OURS, Reason.NO_LIMIT, Reason.OPTED_OUT, Reason.AS_BEFORE, Reason.LIMITED}
ROWS = [(what, decision) for section in REJECTED for what, decision in section()]


def test_the_file_is_what_the_code_says() -> None:
    assert (ROOT / "docs/labels.md").read_text() == document(), "make docs, and read what has changed"


def test_every_rejection_rejects_and_every_reason_is_there() -> None:
    assert [what for what, decision in ROWS if decision.result is not Result.REJECTED] == []
    assert {decision.reason for _, decision in ROWS} == set(Reason) - ACCEPTING


def test_every_warning_is_one() -> None:
    assert [what for what, decision in warned() if decision.result is Result.REJECTED or not decision.warnings] == []
    # Longer ones may be cut off by the API server (extensible admission controllers, "Response").
    assert max(len(line) for _, decision in warned() for line in decision.warnings) <= 256


def test_every_key_is_there() -> None:
    text = document()
    assert [key for key in (*KEYS, *CAPS) if f"| `{key}` |" not in text] == []


@pytest.mark.parametrize(
    ("mistakes", "examples"), [(rate._MISTAKES, BAD_RATES), (duration._MISTAKES, BAD_BURSTS)], ids=["rates", "bursts"]
)
def test_every_hint_is_there(mistakes: tuple[tuple[object, str], ...], examples: tuple[str, ...]) -> None:
    unused = [hint for pattern, hint in mistakes if not any(pattern.fullmatch(text) for text in examples)]  # type: ignore[attr-defined]
    assert unused == []


def test_no_text_of_the_policy_is_missing() -> None:
    """What stands in the source of whoever rejects is in the document, word for word."""
    text = document()
    for module in ("bandwidth/policy.py", "webhook/obstacles.py", "webhook/patch.py"):
        tree = ast.parse((ROOT / module).read_text())
        docstrings = {
            ast.get_docstring(node, clean=False)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        }
        said = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docstrings
        ]
        assert [part for part in said if part.count(" ") > 2 and part.strip() not in text] == []
