"""The metrics, and the document that lists them."""

import re
from pathlib import Path

from webhook.metrics import Metrics

DOCUMENT = Path(__file__).parents[2] / "docs" / "webhook-serving.md"
MAIN = Path(__file__).parents[2] / "webhook" / "__main__.py"


def test_the_document_lists_what_there_is() -> None:
    listed = set(re.findall(r"^\| `(podrate_\w+)`", DOCUMENT.read_text(), re.M))
    counted = set(re.findall(r"^# TYPE (podrate_\w+) ", Metrics().text(), re.M))
    shown = {f"podrate_{name}" for name in re.findall(r'\.gauge\(\s*"(\w+)"', MAIN.read_text())}
    assert listed == {name for name in counted | shown if not name.endswith("_created")}
