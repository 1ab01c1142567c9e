"""What pods that say the same share, and what they must not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth.invalid import Invalid
from bandwidth.keys import KEYS, KUBERNETES
from tests.webhook.deciding import ASKS, LIMIT, PLAIN, SETTINGS, of
from tests.webhook.reviews import pod, review
from webhook import wish
from webhook.namespace import Namespace
from webhook.pod import Pod
from webhook.sidecar import Settings

VALUES = st.sampled_from(["1M", "10M", "20G", "1k", "fast", "20ms", "2s", "true", "false", "once", "", "9" * 200])
KEYS_AND_VALUES = st.dictionaries(st.sampled_from([*KEYS, *KUBERNETES, LIMIT, "podrate.io/speed"]), VALUES, max_size=3)
NAMESPACES = [PLAIN, Namespace("capped", {"podrate.io/max-bandwidth": "5M"}), Namespace("defaults", ASKS)]


def wished(labels: dict[str, str], namespace: Namespace = PLAIN, settings: Settings = SETTINGS) -> wish.Wish:
    it = Pod(pod(labels), "request.object")
    return wish.wish(it, it.annotations, namespace, settings)


@given(KEYS_AND_VALUES, KEYS_AND_VALUES, st.sampled_from(NAMESPACES), st.booleans(), st.booleans())
def test_a_decision_from_memory_is_the_one_that_was_thought_out(
    labels: dict[str, str],
    annotations: dict[str, str],
    namespace: Namespace,
    host_network: bool,
    kubernetes: bool,
) -> None:
    asked = review(pod(labels, annotations, hostNetwork=host_network))
    settings = replace(SETTINGS, kubernetes_annotations=kubernetes)
    remembered = of(asked, namespace, settings)
    assert of(asked, namespace, settings) == remembered
    wish._wish.cache_clear()
    assert of(asked, namespace, settings) == remembered


def test_pods_that_say_the_same_share_it() -> None:
    assert wished(ASKS | {"app": "a"}) is wished(ASKS | {"app": "b"})
    assert wished(ASKS).text != wished({"podrate.io/egress": "10M"}).text


def test_a_namespace_whose_rules_have_changed_is_another() -> None:
    before, now = (Namespace("shop", {"podrate.io/max-bandwidth": most}) for most in ("20M", "5M"))
    assert wished(ASKS, before).outcome.limit
    with pytest.raises(Invalid, match="the cap of the Namespace, podrate.io/max-bandwidth: 5M"):
        wished(ASKS, now)
    assert wished(ASKS, before).outcome.limit


def test_what_is_remembered_is_bounded() -> None:
    wish._wish.cache_clear()
    for number in range(2000):
        wished({"podrate.io/bandwidth": f"{number + 1}k"})
    for bad in ("x" * 1_000_000, "fast"):
        with pytest.raises(Invalid):
            wished({"podrate.io/bandwidth": bad})
    long = Pod(pod(ASKS, dict.fromkeys(KUBERNETES, "x" * 1_000_000)), "request.object")
    wish.wish(long, long.annotations, PLAIN, SETTINGS)
    assert wish._wish.cache_info().currsize == 1024
    assert len(str(wish._said(long.annotations))) < 1000
