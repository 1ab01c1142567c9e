"""A rate in the data path's terms: exact to the packet, and within what its arithmetic can hold."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bandwidth.limit import MAX_BURST, MAX_RATE, MIN_BURST, MIN_RATE
from loader.bucket import DIRECTIONS, EGRESS, TICKS, BucketLimit, bucket_limit

rates = st.integers(MIN_RATE, MAX_RATE)
GREATEST_PACKET = 1 << 20  # bytes: twice the largest GSO packet (BIG TCP), with its headers


@given(rates, st.sampled_from(DIRECTIONS), st.integers(1, GREATEST_PACKET))
@example(MIN_RATE, EGRESS, GREATEST_PACKET)
@example(MAX_RATE, EGRESS, 1)
@example(MAX_RATE, EGRESS, GREATEST_PACKET)
def test_the_cost_of_a_packet(rate: int, direction: int, length: int) -> None:
    limit = bucket_limit(rate, direction)
    assert limit.byte_mult < 1 << 32
    assert limit.byte_shift <= 32
    assert length * limit.byte_mult < 1 << 64, "overflows in the kernel"
    cost = length * limit.byte_mult >> limit.byte_shift
    exact = length * 8_000_000_000 * TICKS / rate
    assert -1 <= cost - exact <= 1 + exact * 1e-8


@given(rates, st.sampled_from(DIRECTIONS))
def test_times_are_ordered_and_far_from_overflow(rate: int, direction: int) -> None:
    limit = bucket_limit(rate, direction)
    assert 0 < limit.burst <= limit.horizon_tcp
    assert max(limit.horizon_other, limit.horizon_start) <= limit.horizon_tcp < limit.horizon_control, "an ACK passes"
    assert all(0 < time <= 1 << 62 for time in limit[3:-1])
    assert limit.credit == 0, "nobody asked for a burst"
    if direction == EGRESS:
        assert limit.mark < limit.horizon_tcp, "congestion is signalled before anything is dropped"


@given(rates, st.sampled_from(DIRECTIONS), st.sampled_from(BucketLimit._fields), st.booleans())
def test_no_bad_field_reaches_the_kernel(rate: int, direction: int, field: str, above: bool) -> None:
    good = bucket_limit(rate, direction)
    good.pack()
    most = {"rate": MAX_RATE, "byte_mult": (1 << 32) - 1, "byte_shift": 32}.get(field, 1 << 62)
    bad = good._replace(**{field: most + 1 if above else -1})
    with pytest.raises(ValueError, match=f"{field} .*: [01] to {most}"):
        bad.pack()


@given(rates, st.sampled_from(DIRECTIONS), st.sampled_from(BucketLimit._fields))
def test_a_rate_without_its_parameters_is_no_limit(rate: int, direction: int, field: str) -> None:
    """A byte that costs nothing would pass for ever."""
    limit = bucket_limit(rate, direction)._replace(**{field: 0})
    if field in ("rate", "byte_shift", "mark", "credit"):
        limit.pack()
    else:
        with pytest.raises(ValueError, match=f"{field} 0: 1 to "):
            limit.pack()


@pytest.mark.parametrize("bad", [1.0, True, None, "5", float("nan")])
@pytest.mark.parametrize("field", BucketLimit._fields)
def test_a_field_that_is_no_whole_number_is_refused(field: str, bad: object) -> None:
    with pytest.raises(ValueError, match=f"{field} "):
        bucket_limit(10_000_000, EGRESS)._replace(**{field: bad}).pack()  # type: ignore[arg-type]


def test_no_limit_is_all_zero() -> None:
    assert set(bucket_limit(None, EGRESS)) == {0}


@given(rates, st.sampled_from(DIRECTIONS), st.integers(MIN_BURST, MAX_BURST))
def test_a_burst_that_is_asked_for_changes_nothing_else(rate: int, direction: int, burst: int) -> None:
    limit = bucket_limit(rate, direction, burst)
    limit.pack()
    assert limit.burst == burst * TICKS
    assert limit.credit == (limit.burst if direction == EGRESS else limit.burst // 2)
    default = bucket_limit(rate, direction)
    assert limit._replace(burst=default.burst, credit=0) == default
