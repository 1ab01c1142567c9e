"""The keys that stand on an object, whatever they say."""

import pytest

from bandwidth.invalid import Invalid
from bandwidth.keys import BANDWIDTH, EGRESS, read
from bandwidth.limit import ANNOTATION


def test_labels_and_annotations_ask_alike() -> None:
    asked = {BANDWIDTH: "10M", EGRESS: "1M"}
    for both in ((asked, {}), ({}, asked), (asked, asked), ({BANDWIDTH: "10M"}, {EGRESS: "1M"})):
        assert read(*both).written == asked
    assert read({"app": "web", "bandwidth": "10M"}, {"a": "b"}).written == {}


def test_a_direction_wins_over_both() -> None:
    asked = read({BANDWIDTH: "10M", EGRESS: "1M"}, {})
    assert asked.rate(EGRESS, BANDWIDTH) == (EGRESS, 1_000_000)
    assert asked.rate("podrate.io/ingress", BANDWIDTH) == (BANDWIDTH, 10_000_000)
    assert asked.rate("podrate.io/ingress") is None


@pytest.mark.parametrize(
    ("where", "start"),
    [
        ("", "podrate.io/egress: "),
        ("spec.template.metadata", "spec.template.metadata.annotations[podrate.io/egress]: "),
    ],
)
def test_a_label_that_disagrees_with_an_annotation(where: str, start: str) -> None:
    with pytest.raises(Invalid) as caught:
        read({"podrate.io/egress": "10M"}, {"podrate.io/egress": "20M"}, where)
    assert str(caught.value).startswith(start + '"20M": the annotation disagrees with the label ')


def test_a_bad_value_is_named_by_its_place() -> None:
    asked = read({}, {EGRESS: "fast"}, "spec.template.metadata")
    with pytest.raises(Invalid, match=r"^spec\.template\.metadata\.annotations\[podrate\.io/egress\]: "):
        asked.check()


def test_a_misspelt_key_is_not_a_missing_limit() -> None:
    with pytest.raises(Invalid, match=r"did you mean podrate\.io/bandwidth"):
        read({"podrate.io/bandwith": "10M"}, {})
    with pytest.raises(Invalid, match="no such key"):
        read({}, {"podrate.io/zzz": "10M"})


def test_a_prefix_in_another_case_is_misspelt_too() -> None:
    """Not as a label, but as an annotation the API server takes it."""
    with pytest.raises(Invalid, match=r'^PodRate\.IO/Bandwidth: "10M": .*did you mean podrate\.io/bandwidth'):
        read({}, {"PodRate.IO/Bandwidth": "10M"})


def test_a_key_of_megabytes_is_refused_at_once_and_cut() -> None:
    with pytest.raises(Invalid) as caught:
        read({"podrate.io/" + "a" * 2_000_000: "10M"}, {})
    assert len(str(caught.value)) < 500


def test_the_limit_annotation_itself_asks_for_nothing() -> None:
    assert read({}, {ANNOTATION: '{"v":1,"egress":5000}'}).written == {}
    with pytest.raises(Invalid, match="no such key"):
        read({ANNOTATION: "10M"}, {})


def test_a_key_that_would_break_the_line_does_not() -> None:
    for where in ("", "spec.template.metadata"):
        with pytest.raises(Invalid) as caught:
            read({}, {"podrate.io/a\nb": "10M"}, where)
        assert str(caught.value).isprintable()


def test_the_first_bad_value_is_named_whatever_the_other_keys_say() -> None:
    with pytest.raises(Invalid, match=r"^podrate\.io/bandwidth: "):
        read({"podrate.io/burst": "x", "podrate.io/egress": "1M", "podrate.io/bandwidth": "fast"}, {}).check()
