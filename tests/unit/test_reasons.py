"""The reason codes and the page that explains them."""

import re
from pathlib import Path

from loader.failure import EXIT_CODES

_PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"


def test_every_reason_is_explained_with_its_exit_code() -> None:
    explained = re.findall(r"^### (\S+), (\d+)$", _PAGE.read_text(), re.MULTILINE)
    assert [(reason, int(code)) for reason, code in explained] == list(EXIT_CODES.items())


def test_every_reason_is_raised_somewhere() -> None:
    loader = Path(__file__).parents[2] / "loader"
    source = "".join(path.read_text() for path in loader.glob("*.py") if path.name != "failure.py")
    assert [reason for reason in EXIT_CODES if f'"{reason}"' not in source] == []
