"""The rate grammar: every form it takes, every mistake it explains, and what holds for any text."""

import re
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bandwidth.invalid import Invalid
from bandwidth.limit import MAX_RATE, MIN_RATE
from bandwidth.rate import format_rate, parse_rate

ACCEPTED = {
    "10M": 10_000_000,
    "1k": 1_000,
    "1T": 1_000_000_000_000,
    "1000": 1_000,
    "1.5G": 1_500_000_000,
    "0.5M": 500_000,
    "64Ki": 65_536,
    "10Mi": 10_485_760,
    "1Gi": 1_073_741_824,
    "0.1Ti": 109_951_162_777,  # .6 of a bit is rounded down
    "10Mbit": 10_000_000,
    "10Mbps": 10_000_000,
    "10Mibit": 10_485_760,
    "10000bit": 10_000,
    "1e7": 10_000_000,
    "1E7": 10_000_000,
    "1.5e6": 1_500_000,
    "010M": 10_000_000,
}

# Text, and the words that its rejection must have.
REJECTED = {
    "10m": "did you mean 10M?",
    "1.5m": "did you mean 1.5M?",
    "10mbit": "did you mean 10M?",
    "10MB": "did you mean 80M?",
    "10MBps": "did you mean 80M?",
    "10MB/s": "did you mean 80M?",
    "1.5MB": "did you mean 12M?",
    "1MiB": "did you mean 8Mi?",
    "100KB": "did you mean 800k?",
    "10K": "did you mean 10k (1000) or 10Ki (1024)?",
    "10g": "did you mean 10G?",
    "10Mb": "10Mbit",
    "10 M": "space",
    " 10M": "space",
    "10M\n": "space",
    "-5M": "negative",
    "0": "stop all traffic",
    "0.0001": "stop all traffic",
    "999": "below the least",
    "1.1T": "above the most",
    "1e99": "above the most",
    "inf": "leave the key out",
    "unlimited": "leave the key out",
    "nan": "leave the key out",
    "1_000": "grouped",
    "1,000": "grouped",
    ".5M": "0.5M",
    "10Mbits/s": "bit or bps",
    "10%": "share",
    "": "empty",
    "+5M": "not a rate",
    "5.M": "not a rate",
    "1e400": "not a rate",
    "0x10": "not a rate",
    "10Mi M": "space",
    "M": "not a rate",
    "١٠M": "not a rate",  # Arabic-Indic digits
    "10Ｍ": "not a rate",  # a full-width M
    "9" * 64: "longer",
}


@pytest.mark.parametrize(("text", "rate"), ACCEPTED.items())
def test_accepted(text: str, rate: int) -> None:
    assert parse_rate(text, "podrate.io/egress") == rate


@pytest.mark.parametrize(("text", "words"), REJECTED.items())
def test_rejected_in_one_line_that_says_where_what_and_how(text: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_rate(text, "podrate.io/egress")
    line = str(caught.value)
    assert words in line
    assert line.startswith('podrate.io/egress: "')
    assert line.endswith("Example: 10M")
    assert line.isascii()
    assert line.isprintable()


@pytest.mark.parametrize("value", [None, 10, 10.5, True, ["10M"], {"rate": "10M"}])
def test_a_value_that_is_no_string(value: object) -> None:
    with pytest.raises(Invalid, match="must be a string"):
        parse_rate(value, "podrate.io/egress")


def test_every_hint_is_itself_accepted() -> None:
    """A rejection that suggests something that would be rejected is worse than none."""
    for text in REJECTED:
        with pytest.raises(Invalid) as caught:
            parse_rate(text, "x")
        for suggestion in re.findall(r"did you mean ([^ ?]+)|or ([^ ?]+) \(1024\)", caught.value.reason):
            parse_rate("".join(suggestion), "x")


MULTIPLES = {
    "": 1,
    **{p: 1000**i for i, p in enumerate("kMGT", 1)},
    **{p + "i": 1024**i for i, p in enumerate("KMGT", 1)},
}
numbers = st.from_regex(r"\A[0-9]{1,15}(\.[0-9]{1,12})?\Z")


@given(numbers, st.sampled_from(sorted(MULTIPLES)), st.sampled_from(["", "bit", "bps"]))
def test_agrees_with_decimal_arithmetic(number: str, prefix: str, unit: str) -> None:
    rate = int(Decimal(number) * MULTIPLES[prefix])
    if MIN_RATE <= rate <= MAX_RATE:
        assert parse_rate(number + prefix + unit, "x") == rate
    else:
        with pytest.raises(Invalid):
            parse_rate(number + prefix + unit, "x")


@given(st.integers(MIN_RATE, MAX_RATE))
@example(MIN_RATE)
@example(MAX_RATE)
@example(1 << 30)
def test_formatting_reads_back_exactly(rate: int) -> None:
    assert parse_rate(format_rate(rate), "x") == rate


@given(st.text())
@example("{}M")
@example("10{x}")
def test_any_text_is_a_rate_in_range_or_one_clear_line(text: str) -> None:
    try:
        assert MIN_RATE <= parse_rate(text, "x") <= MAX_RATE
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,63}", text), "only legal label values are rates"
    except Invalid as error:
        assert str(error).isprintable()
        assert len(str(error)) < 400
