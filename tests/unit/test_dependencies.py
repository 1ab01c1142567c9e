"""docs/dependencies.md says what constraints.txt pins, and pyproject.toml why."""

import re
import tomllib
from importlib.metadata import distribution
from importlib.util import find_spec

from tests import dependencies

ROWS = re.findall(r"^\| ([\w.-]+)==(\S+) \| .+ \| .+ \| .+ \|$", dependencies.DOCUMENT.read_text(), re.MULTILINE)


def test_each_pin_has_its_row_and_each_row_its_pin() -> None:
    assert dict(ROWS) == dependencies.pins()
    assert len(ROWS) == len(dependencies.pins()) > 50


def test_what_podrate_asks_for_itself_has_its_reason() -> None:
    project = tomllib.loads((dependencies.ROOT / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == []
    wishes = {wish for extra in project["optional-dependencies"].values() for wish in extra}
    names = {re.split(r"[\[>=]", wish)[0].lower() for wish in wishes}
    assert names - {"podrate"} == dependencies.reasons().keys()


def test_the_page_is_as_it_is_made() -> None:
    """As far as it can be made here: what only `make lint` installs may be absent."""
    has_lint = all(map(find_spec, ("mypy", "importlinter")))
    made = dependencies.rows() if has_lint else dependencies.rows(dependencies.EXTRAS[:-1])
    page = dependencies.DOCUMENT.read_text()
    assert [row for row in made.values() if row not in page] == [], "run `make docs`"
    assert not has_lint or page == dependencies.document()


def test_what_is_installed_is_what_is_pinned() -> None:
    assert {name: distribution(name).version for name in dependencies.rows(("test",))}.items() <= dict(ROWS).items()
