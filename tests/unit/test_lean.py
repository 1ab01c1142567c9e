"""What the resident process imports, and what stands in for what it does not."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from loader import lean

_ROOT = Path(__file__).parents[2]

# Each with all that it imports, in MB: typing 1.9, json 1.3, re 1.2, signal .9, enum .9, collections .5.
_DEAR = {"argparse", "collections", "contextlib", "dataclasses", "enum", "functools", "json", "re", "signal", "typing"}


def test_the_sidecar_imports_nothing_dear() -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1]); import loader.cli, loader.sidecar; print(*sys.modules)"
    argv = [sys.executable, "-I", "-S", "-c", script, str(_ROOT)]
    imported = set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())
    assert "loader.sidecar" in imported
    assert imported & _DEAR == set()
    # Nor what only some pods need, or none.
    others = {"adopt", "commands", "ifb", "libnl", "metrics", "namespace", "preflight", "queue", "status"}
    assert {name for name in imported if name.removeprefix("loader.") in others} == set()


class Ours(lean.NamedTuple):
    left: int
    right: str

    @property
    def both(self) -> str:
        return f"{self.left}{self.right}"


class Typings(NamedTuple):
    left: int
    right: str


def test_records_are_as_typings() -> None:
    ours, typings = Ours(1, right="x"), Typings(1, right="x")
    assert tuple(ours) == tuple(typings) == (1, "x") == ours
    assert (ours.left, ours.right, ours.both) == (1, "x", "1x")
    assert ours._asdict() == typings._asdict()
    assert tuple(ours._asdict()) == Ours._fields == Typings._fields
    assert tuple(ours._replace(left=2)) == tuple(typings._replace(left=2)) == (2, "x")
    assert repr(ours) == repr(typings).replace("Typings", "Ours")
    assert hash(ours) == hash(typings)


@pytest.mark.parametrize("record", [Ours, Typings])
def test_records_take_each_field_once(record: type[Ours] | type[Typings]) -> None:
    for values, named in (((1,), {}), ((1, "x", 2), {}), ((1, "x"), {"left": 2}), ((1, "x"), {"middle": 2})):
        with pytest.raises(TypeError):
            record(*values, **named)  # type: ignore[arg-type]
