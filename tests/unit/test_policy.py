"""From a pod's keys and its Namespace's to the pod's limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth.invalid import Invalid
from bandwidth.keys import CAPS, KEYS, read
from bandwidth.limit import MAX_RATE, MIN_RATE, Limit
from bandwidth.policy import AboveCap, Outcome, namespace_rules, pod_limit
from bandwidth.rate import format_rate

M = 1_000_000
MS = 1_000_000


def keys(**written: str) -> dict[str, str]:
    return {f"podrate.io/{name.replace('_', '-')}": value for name, value in written.items()}


def resolve(pod: dict[str, str], namespace: dict[str, str] | None = None, *, host_network: bool = False) -> Outcome:
    return pod_limit(read(pod, {}), namespace_rules("shop", namespace or {}, {}), host_network=host_network)


@pytest.mark.parametrize(
    ("pod", "namespace", "limit"),
    [
        (keys(), keys(), None),
        (keys(bandwidth="10M"), keys(), Limit(10 * M, 10 * M)),
        (keys(bandwidth="10M", egress="1M"), keys(), Limit(1 * M, 10 * M)),
        (keys(bandwidth="10M", burst="20ms"), keys(), Limit(10 * M, 10 * M, 20 * MS)),
        (keys(ingress="10M", ingress_queue="true"), keys(), Limit(None, 10 * M, None, True)),
        (keys(ingress="10M", ingress_queue="false", inject="true"), keys(), Limit(ingress=10 * M)),
        (keys(inject="true"), keys(), None),
        # Defaults, for what the pod does not say.
        (keys(), keys(bandwidth="10M"), Limit(10 * M, 10 * M)),
        (keys(egress="1M"), keys(bandwidth="10M"), Limit(1 * M, 10 * M)),
        (keys(bandwidth="1M"), keys(egress="10M"), Limit(1 * M, 1 * M)),
        (keys(bandwidth="1M"), keys(burst="50ms"), Limit(1 * M, 1 * M, 50 * MS)),
        (keys(bandwidth="1M", burst="20ms"), keys(burst="50ms"), Limit(1 * M, 1 * M, 20 * MS)),
        (keys(), keys(burst="50ms", ingress_queue="true"), None),
        (keys(ingress="1M"), keys(ingress_queue="true"), Limit(None, 1 * M, None, True)),
        (keys(ingress="1M", ingress_queue="false"), keys(ingress_queue="true"), Limit(ingress=1 * M)),
        (keys(egress="1M"), keys(ingress_queue="true"), Limit(egress=1 * M)),
        (keys(ingress="18G"), keys(ingress_queue="true"), Limit(ingress=18_000 * M)),
        # Caps: for who says nothing, too.
        (keys(), keys(max_bandwidth="10M"), Limit(10 * M, 10 * M)),
        (keys(), keys(max_egress="10M"), Limit(egress=10 * M)),
        (keys(egress="1M"), keys(max_bandwidth="10M"), Limit(1 * M, 10 * M)),
        (keys(egress="10M"), keys(max_egress="10M"), Limit(egress=10 * M)),
        (keys(), keys(max_bandwidth="10M", max_egress="20M"), Limit(20 * M, 10 * M)),
        (keys(), keys(max_bandwidth="10M", bandwidth="5M"), Limit(5 * M, 5 * M)),
    ],
    ids=str,
)
def test_limits(pod: dict[str, str], namespace: dict[str, str], limit: Limit | None) -> None:
    assert resolve(pod, namespace) == Outcome(limit)


@pytest.mark.parametrize(
    ("pod", "namespace"),
    [
        (keys(inject="false"), keys()),
        (keys(inject="false", bandwidth="10M"), keys(bandwidth="10M")),
        (keys(inject="false", bandwidth="fast"), keys()),
        (keys(), keys(inject="false")),
        (keys(bandwidth="10M"), keys(inject="false")),
        (keys(inject="false"), keys(inject="false", max_bandwidth="10M")),
    ],
    ids=str,
)
def test_opting_out_wins(pod: dict[str, str], namespace: dict[str, str]) -> None:
    assert resolve(pod, namespace) == Outcome(None, opted_out=True)


def test_a_pod_opts_in_where_its_namespace_is_out() -> None:
    assert resolve(keys(inject="true", bandwidth="1M"), keys(inject="false")) == Outcome(Limit(1 * M, 1 * M))


@pytest.mark.parametrize(
    ("pod", "namespace", "once"),
    [
        (keys(inject="once"), keys(), True),
        (keys(inject="once"), keys(inject="false"), True),
        (keys(inject="once"), keys(max_bandwidth="1M"), True),
        (keys(), keys(inject="once"), True),
        (keys(inject="true"), keys(inject="once"), False),
        (keys(), keys(), False),
    ],
    ids=str,
)
def test_once_is_said_by_the_pod_or_else_its_namespace(
    pod: dict[str, str], namespace: dict[str, str], once: bool
) -> None:
    assert resolve(pod | keys(bandwidth="1M"), namespace) == Outcome(Limit(1 * M, 1 * M), once=once)
    assert resolve(keys(inject="once"), keys()) == Outcome(None), "it asks for no limit by itself"


@pytest.mark.parametrize(
    ("pod", "namespace", "line"),
    [
        (
            keys(bandwidth="20M"),
            keys(max_bandwidth="10M"),
            'podrate.io/bandwidth: "20M": it is above the cap of the Namespace, podrate.io/max-bandwidth: 10M. '
            "Allowed: at most 10M. Example: podrate.io/bandwidth: 10M",
        ),
        (
            keys(bandwidth="1M", ingress="0.02G"),
            keys(max_bandwidth="10M"),
            'podrate.io/ingress: "0.02G": it is above the cap of the Namespace, podrate.io/max-bandwidth: 10M. '
            "Allowed: at most 10M. Example: podrate.io/ingress: 10M",
        ),
        (
            keys(inject="false"),
            keys(max_ingress="10M"),
            'podrate.io/inject: "false": the Namespace caps its pods, podrate.io/max-ingress: 10M, and none of them '
            "can opt out. Allowed: a pod without this key, or this key on the Namespace. "
            "Example: podrate.io/bandwidth: 10M",
        ),
    ],
)
def test_above_a_cap_both_numbers_are_told(pod: dict[str, str], namespace: dict[str, str], line: str) -> None:
    with pytest.raises(AboveCap) as caught:
        resolve(pod, namespace)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (keys(bandwidth="10M", burst="1ms"), "a full packet takes 2ms at 10M, and no shorter burst can be kept"),
        (keys(egress="10M", ingress="1G", burst="1ms"), "2ms to 10s at this rate"),
        (keys(bandwidth="1k", burst="10s"), "no burst at this rate"),
        (keys(burst="20ms"), "there is no limit that it could be for"),
        (keys(ingress_queue="true"), "there is no limit that it could be for"),
        (keys(egress="10M", ingress_queue="true"), "there is no ingress limit to queue for"),
        (keys(ingress="18G", ingress_queue="true"), "up to 17G"),
        (keys(bandwidth="10M", inject="False"), 'did you mean "false"?'),
        (keys(bandwidth="10M", inject="off"), 'did you mean "false"?'),
        (keys(bandwidth="10M", inject="ONCE"), 'did you mean "once"? Allowed: "true", "false" or "once", in quotes'),
        (keys(bandwidth="10M", inject="twice"), "neither true nor false nor once"),
        (keys(bandwidth="10M", ingress_queue="yes"), 'did you mean "true"?'),
        (keys(bandwidth="10M", ingress_queue="maybe"), "neither true nor false"),
        (keys(max_bandwidth="10M"), "this key is for a Namespace, whose pods it caps"),
    ],
)
def test_rejections(pod: dict[str, str], words: str) -> None:
    with pytest.raises(Invalid) as caught:
        resolve(pod)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_no_queue_on_the_hosts_network() -> None:
    with pytest.raises(Invalid, match="the whole node"):
        resolve(keys(ingress="10M", ingress_queue="true"), host_network=True)
    assert resolve(keys(ingress="10M"), keys(ingress_queue="true"), host_network=True) == Outcome(Limit(ingress=10 * M))


@pytest.mark.parametrize("rate", [MIN_RATE * 2, 64_000, 1_000_000, 12_112_000, 10_000_000_000])
def test_a_burst_that_is_suggested_is_accepted(rate: int) -> None:
    with pytest.raises(Invalid) as caught:
        resolve(keys(bandwidth=str(rate), burst="1ms") if rate < 12_112_000 else keys(bandwidth="1M", burst="1ms"))
    _, _, burst = caught.value.example.partition(": ")
    assert resolve(keys(bandwidth=str(min(rate, M)), burst=burst)).limit is not None


@pytest.mark.parametrize(
    ("labels", "annotations", "start"),
    [
        (keys(bandwidth="10m"), {}, 'Namespace shop: metadata.labels[podrate.io/bandwidth]: "10m": m means milli'),
        (keys(max_egress="0"), {}, 'Namespace shop: metadata.labels[podrate.io/max-egress]: "0": a rate of 0'),
        (keys(max_egres="1M"), {}, "Namespace shop: metadata.labels[podrate.io/max-egres]: "),
        ({}, keys(egress="1M"), "Namespace shop: metadata.annotations[podrate.io/egress]: "),
        (
            keys(bandwidth="20M", max_ingress="10M"),
            {},
            'Namespace shop: metadata.labels[podrate.io/bandwidth]: "20M": it is above its own cap, '
            "podrate.io/max-ingress: 10M. ",
        ),
        (keys(bandwidth="1M", burst="1ms"), {}, "Namespace shop: metadata.labels[podrate.io/burst]: "),
        (keys(max_bandwidth="1M", burst="2ms"), {}, "Namespace shop: metadata.labels[podrate.io/burst]: "),
        (keys(egress="10M", max_ingress="1M", burst="2ms"), {}, "Namespace shop: metadata.labels[podrate.io/burst]: "),
    ],
)
def test_what_a_namespace_may_not_say(labels: dict[str, str], annotations: dict[str, str], start: str) -> None:
    with pytest.raises(Invalid) as caught:
        namespace_rules("shop", labels, annotations)
    assert str(caught.value).startswith(start)


rates = st.none() | st.integers(MIN_RATE, MAX_RATE)


@given(rates, rates, rates, rates, rates, rates)
def test_no_limit_is_above_its_cap_and_none_is_missing_below_one(
    egress: int | None, both: int | None, default: int | None, max_egress: int | None, cap: int | None, own: int | None
) -> None:
    pod = {"egress": egress, "bandwidth": both, "ingress": own}
    namespace = {"bandwidth": default, "max_egress": max_egress, "max_bandwidth": cap}
    written = [
        keys(**{name: format_rate(rate) for name, rate in each.items() if rate is not None})
        for each in (pod, namespace)
    ]
    try:
        limit = resolve(*written).limit or Limit()
    except AboveCap:
        return
    for rate, most in ((limit.egress, max_egress or cap), (limit.ingress, cap)):
        assert most is None or (rate is not None and rate <= most)
    assert limit.egress == (egress or both or default or max_egress or cap)
    assert limit.ingress == (own or both or default or cap)


durations = st.none() | st.sampled_from(["1ms", "2ms", "13ms", "1s", "10s"])


@given(rates, rates, rates, rates, rates, durations)
def test_a_namespace_that_is_accepted_rejects_no_pod_that_says_nothing(
    egress: int | None,
    both: int | None,
    max_egress: int | None,
    max_ingress: int | None,
    cap: int | None,
    burst: str | None,
) -> None:
    said = {"egress": egress, "bandwidth": both, "max_egress": max_egress, "max_ingress": max_ingress}
    said |= {"max_bandwidth": cap}
    labels = keys(**{name: format_rate(rate) for name, rate in said.items() if rate is not None})
    try:
        rules = namespace_rules("shop", labels | (keys(burst=burst) if burst else {}), {})
    except Invalid:
        return
    assert (pod_limit(read({}, {}), rules).limit is not None) == bool(labels)


metadata = st.dictionaries(
    st.sampled_from([*KEYS, *CAPS, "app"]), st.text(max_size=8) | st.sampled_from(["10M", "true"])
)


@given(metadata, metadata)
def test_no_metadata_gives_a_silent_no(labels: dict[str, str], annotations: dict[str, str]) -> None:
    """Whoever uses one of our keys gets a limit or an explanation; but for `inject`, which asks for none."""
    asked = {key for key in [*labels, *annotations] if key.startswith("podrate.io/")}
    try:
        outcome = pod_limit(read(labels, annotations), read({}, {}))
    except Invalid:
        assert asked
    else:
        assert outcome.opted_out or (outcome.limit is not None) == bool(asked - {"podrate.io/inject"})
