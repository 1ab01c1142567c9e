"""Kubernetes' own bandwidth annotations: a drop-in when the operator says so, and never a second limit."""

from dataclasses import replace
from typing import Any

import pytest

from tests.webhook.deciding import LIMIT, SETTINGS, after, loaded, of
from tests.webhook.reviews import pod, review
from webhook.decision import Decision, Reason, Result
from webhook.namespace import Namespace

EGRESS, INGRESS = "kubernetes.io/egress-bandwidth", "kubernetes.io/ingress-bandwidth"
HONOURED = replace(SETTINGS, kubernetes_annotations=True)


def honoured(asked: dict[str, Any], namespace: Namespace | None = None) -> Decision:
    return of(asked, namespace or Namespace(), HONOURED)


def test_they_become_ours_and_the_plugin_finds_none() -> None:
    before = pod(annotations={EGRESS: "10M", INGRESS: "20M"})
    decision = honoured(review(before))
    it = after(before, decision)
    annotations = {k: v for k, v in it["metadata"]["annotations"].items() if "autoscaler" not in k}
    assert annotations == {
        "podrate.io/egress": "10M",
        "podrate.io/ingress": "20M",
        LIMIT: '{"v":1,"egress":10000000,"ingress":20000000}',
    }
    assert decision.warnings == (
        "podrate: kubernetes.io/egress-bandwidth is deprecated here; write podrate.io/egress: 10M",
        "podrate: kubernetes.io/ingress-bandwidth is deprecated here; write podrate.io/ingress: 20M",
    )
    assert not honoured(review(it)).patch


def test_ours_win() -> None:
    before = pod({"podrate.io/bandwidth": "1M"}, {EGRESS: "10M"})
    decision = honoured(review(before))
    it = after(before, decision)
    assert EGRESS not in it["metadata"]["annotations"]
    assert it["metadata"]["annotations"][LIMIT] == '{"v":1,"egress":1000000,"ingress":1000000}'
    assert decision.warnings == ("podrate: kubernetes.io/egress-bandwidth has no effect beside podrate's own keys",)


def test_unless_the_operator_says_so_they_are_the_plugins() -> None:
    assert of(review(pod(annotations={EGRESS: "10M"}))) == of(review(pod()))
    before = pod({"podrate.io/egress": "1M"}, {EGRESS: "10M"})
    decision = of(review(before))
    assert after(before, decision)["metadata"]["annotations"][EGRESS] == "10M"
    assert decision.warnings == (
        "podrate: where the CNI plugin bandwidth runs, kubernetes.io/egress-bandwidth limits this pod a second time",
    )


def test_an_opt_out_leaves_them_alone() -> None:
    decision = honoured(review(pod({"podrate.io/inject": "false"}, {EGRESS: "10M"})))
    assert (decision.result, decision.reason) == (Result.ALLOWED, Reason.OPTED_OUT)


@pytest.mark.parametrize(
    ("value", "namespace", "words"),
    [
        ("10m", None, "m means milli"),
        ("10M", Namespace("shop", {"podrate.io/max-egress": "5M"}), "the cap of the Namespace"),
    ],
)
def test_they_are_rejected_by_their_own_name(value: str, namespace: Namespace | None, words: str) -> None:
    decision = honoured(review(pod(annotations={EGRESS: value})), namespace)
    assert decision.line.startswith(f'{EGRESS}: "{value}": ')
    assert words in decision.line


def test_a_manifest_that_is_applied_again_changes_the_limit() -> None:
    """The manifest has the old form, the running pod the one that we made of it."""
    ten = '{"v":1,"egress":10000000}'
    running = {"podrate.io/egress": "10M", LIMIT: ten}
    old = loaded({}, running)
    same, faster = (loaded({}, running | {EGRESS: value}) for value in ("10M", "20M"))
    assert after(same, honoured(review(same, old)))["metadata"]["annotations"] == running
    it = after(faster, honoured(review(faster, old)))
    assert it["metadata"]["annotations"] == {"podrate.io/egress": "20M", LIMIT: '{"v":1,"egress":20000000}'}
    both = loaded({}, {"podrate.io/egress": "5M", EGRESS: "20M", LIMIT: ten})
    it = after(both, honoured(review(both, old)))
    assert it["metadata"]["annotations"] == {"podrate.io/egress": "5M", LIMIT: '{"v":1,"egress":5000000}'}
