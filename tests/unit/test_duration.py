"""The burst's grammar: every form it takes, every mistake it explains, and what holds for any text."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth.duration import format_duration, parse_duration
from bandwidth.invalid import Invalid
from bandwidth.limit import MAX_BURST, MIN_BURST

ACCEPTED = {
    "20ms": 20_000_000,
    "1ms": 1_000_000,
    "10s": 10_000_000_000,
    "1.5s": 1_500_000_000,
    "0.001s": 1_000_000,
    "1000us": 1_000_000,
    "1000000ns": 1_000_000,
    "1s500ms": 1_500_000_000,
    "1.9999ms": 1_999_900,
    "1000000.9ns": 1_000_000,  # a part of a ns is rounded down
    "020ms": 20_000_000,
}

# Text, and the words that its rejection must have.
REJECTED = {
    "20": "did you mean 20ms?",
    "20m": "did you mean 20ms?",
    "20MS": "did you mean 20ms?",
    "1S": "did you mean 1s?",
    "20\u00b5s": "did you mean 20us?",
    "20msec": "did you mean 20ms?",
    "2seconds": "did you mean 2s?",
    "1h": "above the most",
    "11s": "above the most",
    "999us": "below the least",
    "0s": "below the least",
    "64k": "not a size",
    "64KB": "not a size",
    "10Mbit": "not a size",
    "-5ms": "negative",
    "20 ms": "space",
    " 20ms": "space",
    "": "empty",
    ".5s": "not a duration",
    "1e3ms": "not a duration",
    "ms": "not a duration",
    "\u0661ms": "not a duration",
    "20ms\n": "space",
    "1" * 62 + "ms": "longer",
}


@pytest.mark.parametrize(("text", "ns"), ACCEPTED.items())
def test_accepted(text: str, ns: int) -> None:
    assert parse_duration(text, "podrate.io/burst") == ns


@pytest.mark.parametrize(("text", "words"), REJECTED.items())
def test_rejected_in_one_line_that_says_where_what_and_how(text: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_duration(text, "podrate.io/burst")
    line = str(caught.value)
    assert words in line
    assert line.startswith('podrate.io/burst: "')
    assert line.endswith("Example: 20ms")
    assert line.isascii()
    assert line.isprintable()
    for suggestion in re.findall(r"did you mean ([^ ?]+)", line):
        if words.startswith("did you mean 20us"):
            continue  # the right unit, and then too short
        parse_duration(suggestion, "x")


@pytest.mark.parametrize("value", [None, 20, 0.02, True, ["20ms"]])
def test_a_value_that_is_no_string(value: object) -> None:
    with pytest.raises(Invalid, match="must be a string"):
        parse_duration(value, "x")


UNITS = {"ns": Decimal(1), "us": Decimal(1_000), "ms": Decimal(1_000_000), "s": Decimal(1_000_000_000)}
parts = st.tuples(st.from_regex(r"\A[0-9]{1,8}(\.[0-9]{1,6})?\Z"), st.sampled_from(sorted(UNITS)))


@given(st.lists(parts, min_size=1, max_size=3))
def test_agrees_with_decimal_arithmetic(written: list[tuple[str, str]]) -> None:
    text = "".join(number + unit for number, unit in written)
    ns = int(sum(Decimal(number) * UNITS[unit] for number, unit in written))
    if MIN_BURST <= ns <= MAX_BURST:
        assert parse_duration(text, "x") == ns
    else:
        with pytest.raises(Invalid):
            parse_duration(text, "x")


@given(st.integers(MIN_BURST, MAX_BURST))
def test_formatting_reads_back_exactly(ns: int) -> None:
    assert parse_duration(format_duration(ns), "x") == ns


@given(st.text())
def test_any_text_is_a_duration_in_range_or_one_clear_line(text: str) -> None:
    try:
        assert MIN_BURST <= parse_duration(text, "x") <= MAX_BURST
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,63}", text), "only legal label values are durations"
    except Invalid as error:
        assert str(error).isprintable()
        assert len(str(error)) < 400
