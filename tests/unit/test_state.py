"""What a loader finds of the one before it, however that ended; and the annotation's file, however it is missing."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader.state import Announced, State

ROOT = Path(__file__).parents[2]


def test_programs_are_added_to_those_before(tmp_path: Path) -> None:
    assert State(str(tmp_path)).own((1, 2)) == {1, 2}
    assert State(str(tmp_path)).own((3,)) == {1, 2, 3}


def test_a_line_that_was_cut_short_is_no_program_and_spoils_no_other(tmp_path: Path) -> None:
    (tmp_path / "programs").write_text("77\n12")
    assert State(str(tmp_path)).own((345,)) == {77, 345}
    assert State(str(tmp_path)).own(()) == {77, 345}


@given(st.binary(max_size=60))
def test_whatever_is_in_the_files_the_new_programs_are_ours(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    directory = tmp_path_factory.mktemp("state")
    (directory / "programs").write_bytes(data)
    (directory / "announced").write_bytes(data)
    state = State(str(directory))
    assert {8, 9} <= state.own((8, 9))
    state.announced()
    state.announce(Announced("/c", (8, 9), "{}"))
    announced = State(str(directory)).announced()
    assert announced is not None
    assert (announced.cgroup, announced.programs, announced.limit) == ("/c", (8, 9), "{}")


# In a process of its own: it blocks signals for good.
FIRST = """
import sys
from loader.annotation import Annotation
from loader.failure import Failure
try:
    Annotation(sys.argv[1], "limit").first()
except Failure as failure:
    print(failure)
"""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "can't be read: No such file or directory."),
        (b"\xff{}", "is not UTF-8."),
        (b"{", "not JSON."),
        (b"", "empty."),
    ],
)
def test_an_annotation_that_can_not_be_had_says_why(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "limit").write_bytes(content)
    argv = [sys.executable, "-c", FIRST, str(tmp_path)]
    (line,) = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT).stdout.splitlines()
    assert line.startswith("annotation: ")
    assert said in line
