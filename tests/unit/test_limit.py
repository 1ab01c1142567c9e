"""The annotation: one text per limit, and nothing else is read as one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth.invalid import Invalid
from bandwidth.limit import MAX_BURST, MAX_RATE, MIN_BURST, MIN_RATE, Limit, decode, encode

rates = st.none() | st.integers(MIN_RATE, MAX_RATE)


@given(rates, rates, st.none() | st.integers(MIN_BURST, MAX_BURST), st.booleans())
def test_round_trip(egress: int | None, ingress: int | None, burst: int | None, queue: bool) -> None:
    limit = Limit(egress, ingress, burst, queue and ingress is not None)
    assert decode(encode(limit)) == limit
    assert hash(decode(encode(limit))) == hash(limit)


def test_the_text_is_compact_and_stable() -> None:
    assert encode(Limit(10_000_000, 5_000_000)) == '{"v":1,"egress":10000000,"ingress":5000000}'
    assert encode(Limit(egress=10_000_000)) == '{"v":1,"egress":10000000}'
    assert encode(Limit()) == '{"v":1}'
    full = '{"v":1,"egress":10000000,"ingress":5000000,"burst":20000000,"ingress_queue":true}'
    assert encode(Limit(10_000_000, 5_000_000, 20_000_000, ingress_queue=True)) == full


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("10M", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a JSON object"),
        ("{}", "another version"),
        ('{"v":2,"egress":10000000}', "another version"),
        ('{"v":true,"egress":10000000}', "another version"),
        ('{"v":1.0,"egress":10000000}', "another version"),
        ('{"v":1,"egres":10000000}', "unknown field 'egres'"),
        ('{"v":1,"egress":"10M"}', "egress is not a rate"),
        ('{"v":1,"egress":1e7}', "egress is not a rate"),
        ('{"v":1,"egress":true}', "egress is not a rate"),
        ('{"v":1,"ingress":999}', "ingress is not a rate"),
        ('{"v":1,"ingress":1000000000001}', "ingress is not a rate"),
        ('{"v":1,"egress":null}', "null"),
        ('{"v":1,"egress":10000000,"burst":999999}', "burst is not a time"),
        ('{"v":1,"egress":10000000,"burst":1e9}', "burst is not a time"),
        ('{"v":1,"ingress":10000000,"ingress_queue":1}', "ingress_queue is neither true nor false"),
        ('{"v":1,"egress":10000000,"ingress_queue":true}', "ingress_queue is without an ingress rate"),
    ],
)
def test_anything_else_is_rejected(text: str, words: str) -> None:
    with pytest.raises(Invalid, match="^podrate.io/limit: ") as caught:
        decode(text)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner))
)
def test_any_json_is_a_limit_or_one_line(value: object) -> None:
    try:
        decode(json.dumps(value))
    except Invalid as error:
        assert str(error).isprintable()
