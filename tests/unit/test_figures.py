"""Figures as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader.figures import count, percent, scaled, seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.4, "0"),
        (999.4, "999"),
        (999.96, "1.00k"),
        (9_613_234, "9.61M"),
        (99_949_999, "99.9M"),
        (99_950_000, "100M"),
        (999_949_999, "1.00G"),
        (1.5e12, "1.50T"),
        (2e15, "2000T"),
    ],
)
def test_scaled(value: float, text: str) -> None:
    assert scaled(value) == text


_UNITS = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@given(st.floats(0, 9e14))
def test_scaled_is_right_to_three_digits_and_short(value: float) -> None:
    text = scaled(value)
    assert len(text) <= 5
    read = float(text.rstrip("kMGT")) * _UNITS.get(text[-1], 1)
    assert abs(read - value) <= max(0.5, value * 0.00501)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.0001, "<1 %"), (0.005, "0 %"), (0.38, "38 %"), (1, "100 %"), (1.25, "125 %")],
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


def test_the_rest() -> None:
    assert [seconds(each) for each in (0, 1.0, 1.04, 31.26, 100.4)] == ["0 s", "1 s", "1.0 s", "31.3 s", "100 s"]
    assert (count(0, "packet"), count(1, "packet"), count(2, "packet")) == ("0 packets", "1 packet", "2 packets")
