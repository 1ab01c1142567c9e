"""From an object's labels and annotations to its limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth.invalid import Invalid
from bandwidth.keys import KEYS, PREFIX, limit_of
from bandwidth.limit import ANNOTATION, Limit


@pytest.mark.parametrize(
    ("labels", "limit"),
    [
        ({}, None),
        ({"app": "web"}, None),
        ({"bandwidth": "10M"}, None),
        ({"podrate.io/bandwidth": "10M"}, Limit(10_000_000, 10_000_000)),
        ({"podrate.io/egress": "10M"}, Limit(egress=10_000_000)),
        ({"podrate.io/ingress": "10M"}, Limit(ingress=10_000_000)),
        ({"podrate.io/bandwidth": "10M", "podrate.io/egress": "1M"}, Limit(1_000_000, 10_000_000)),
        ({"podrate.io/ingress": "2M", "podrate.io/egress": "1M"}, Limit(1_000_000, 2_000_000)),
    ],
)
def test_labels_and_annotations_ask_alike(labels: dict[str, str], limit: Limit | None) -> None:
    assert limit_of(labels, {}) == limit
    assert limit_of({}, labels) == limit
    assert limit_of(labels, labels) == limit


def test_a_label_that_disagrees_with_an_annotation() -> None:
    with pytest.raises(Invalid, match="^podrate.io/egress: .*disagrees"):
        limit_of({"podrate.io/egress": "10M"}, {"podrate.io/egress": "20M"})


def test_a_misspelt_key_is_not_a_missing_limit() -> None:
    with pytest.raises(Invalid, match="did you mean podrate.io/bandwidth"):
        limit_of({"podrate.io/bandwith": "10M"}, {})
    with pytest.raises(Invalid, match="no such key"):
        limit_of({}, {"podrate.io/zzz": "10M"})


def test_the_limit_annotation_itself_asks_for_nothing() -> None:
    assert limit_of({}, {ANNOTATION: '{"v":1,"egress":5000}'}) is None
    with pytest.raises(Invalid, match="no such key"):
        limit_of({ANNOTATION: "10M"}, {})


def test_a_key_that_would_break_the_line_does_not() -> None:
    with pytest.raises(Invalid) as caught:
        limit_of({}, {"podrate.io/a\nb": "10M"})
    assert str(caught.value).isprintable()


def test_the_first_bad_value_is_named_whatever_the_other_keys_say() -> None:
    with pytest.raises(Invalid, match="^podrate.io/bandwidth: "):
        limit_of({"podrate.io/egress": "1M", "podrate.io/bandwidth": "fast"}, {})


metadata = st.dictionaries(st.sampled_from([*KEYS, PREFIX + "other", "app"]), st.text(max_size=8) | st.just("10M"))


@given(metadata, metadata)
def test_no_metadata_gives_a_silent_no(labels: dict[str, str], annotations: dict[str, str]) -> None:
    """Whoever uses one of our keys gets a limit or an explanation."""
    asked = any(key.startswith(PREFIX) for key in [*labels, *annotations])
    try:
        assert (limit_of(labels, annotations) is not None) == asked
    except Invalid:
        assert asked
