"""What would fail late is explained early; what is likely a mistake is warned of."""

from dataclasses import replace
from typing import Any

import pytest

from tests.webhook.deciding import ASKS, SETTINGS, after, of
from tests.webhook.reviews import pod, review
from webhook.decision import Reason, Result
from webhook.namespace import Namespace

DEFAULT = Namespace("shop", {"podrate.io/bandwidth": "10M"})
BASELINE = {"pod-security.kubernetes.io/enforce": "baseline"}

OBSTACLES: list[tuple[dict[str, object], Namespace, Reason, str]] = [
    (
        {"hostUsers": False},
        Namespace(),
        Reason.UNSUPPORTED,
        'podrate.io/bandwidth: "10M": with hostUsers: false the pod\'s root is nobody on the node, and may not load '
        "programs there. Allowed: a pod in the host's user namespace, which is the default. "
        "Example: spec.hostUsers: true",
    ),
    (
        {"runtimeClassName": "gvisor"},
        Namespace(),
        Reason.UNSUPPORTED,
        "podrate.io/bandwidth: \"10M\": runtime class 'gvisor' is a sandbox whose own network stack the limit does not "
        "see. Allowed: a runtime class that shares the node's kernel. Example: no spec.runtimeClassName",
    ),
    (
        {"runtimeClassName": "kata-qemu"},
        Namespace(),
        Reason.UNSUPPORTED,
        "podrate.io/bandwidth: \"10M\": runtime class 'kata-qemu' is a sandbox whose own network stack the limit does "
        "not see. Allowed: a runtime class that shares the node's kernel. Example: no spec.runtimeClassName",
    ),
    (
        {},
        Namespace("shop", BASELINE),
        Reason.POD_SECURITY,
        'podrate.io/bandwidth: "10M": PodSecurity level baseline of Namespace shop forbids the loader, which needs the '
        "capabilities BPF and NET_ADMIN and a hostPath volume. Allowed: a Namespace of level privileged. "
        "Example: kubectl label namespace shop pod-security.kubernetes.io/enforce=privileged --overwrite",
    ),
]


@pytest.mark.parametrize(("spec", "namespace", "reason", "line"), OBSTACLES)
def test_a_pod_that_can_not_be_limited(
    spec: dict[str, object], namespace: Namespace, reason: Reason, line: str
) -> None:
    decision = of(review(pod(ASKS, **spec)), namespace)
    assert (decision.result, decision.reason, decision.line) == (Result.REJECTED, reason, line)
    assert of(review(pod(**spec)), namespace).result is Result.ALLOWED, "who does not ask is not told"
    assert of(review(pod(ASKS | {"podrate.io/inject": "false"}, **spec)), namespace).result is Result.ALLOWED


@pytest.mark.parametrize("spec", [{"hostUsers": True}, {"hostUsers": None}, {"runtimeClassName": "nvidia"}])
def test_others_are_none(spec: dict[str, Any]) -> None:
    assert of(review(pod(ASKS, **spec))).result is Result.PATCHED
    privileged = Namespace("shop", {"pod-security.kubernetes.io/enforce": "privileged"})
    assert of(review(pod(ASKS)), privileged).result is Result.PATCHED


def test_a_namespaces_wish_is_named_as_its_own() -> None:
    decision = of(review(pod(hostUsers=False)), DEFAULT)
    assert decision.line.startswith(
        'Namespace shop: metadata.labels[podrate.io/bandwidth]: "10M": with hostUsers: false'
    )


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (pod(os={"name": "windows"}), "the pod runs on Windows, the limit in the Linux kernel"),
        (
            pod(annotations={"kubernetes.io/config.mirror": "hash"}),
            "a static pod runs from a file on its node, where the loader can't be added",
        ),
    ],
)
def test_where_no_loader_can_be_the_namespaces_wish_is_warned_of(other: dict[str, Any], why: str) -> None:
    """Rejecting would block pods that didn't ask, and that nobody could write so that they pass."""
    decision = of(review(other), DEFAULT)
    assert decision.result is Result.ALLOWED
    assert decision.warnings == (f"podrate: the limit of Namespace shop does not hold for this pod: {why}",)
    assert of(review(other)).warnings == ()
    out = Namespace("shop", {"podrate.io/bandwidth": "10M", "podrate.io/inject": "false"})
    assert of(review(other), out).warnings == ()


@pytest.mark.parametrize(
    ("labels", "warnings"),
    [
        ({"podrate.io/bandwidth": "64k"}, ()),
        ({"podrate.io/bandwidth": "10G"}, ()),
        ({"podrate.io/bandwidth": "10M", "podrate.io/burst": "1s"}, ()),
        (
            {"podrate.io/egress": "63k"},
            ("podrate: egress is limited to 63kbit/s; below 64k TCP hardly works",),
        ),
        (
            {"podrate.io/ingress": "10.1G"},
            ("podrate: ingress is limited to 10.1Gbit/s; few nodes have more than 10G",),
        ),
        (
            {"podrate.io/bandwidth": "10M", "podrate.io/burst": "1500ms"},
            ("podrate: a burst of 1.5s exceeds the limit for longer than a second",),
        ),
    ],
)
def test_likely_mistakes_are_warned_of(labels: dict[str, str], warnings: tuple[str, ...]) -> None:
    assert tuple(of(review(pod(labels))).warnings) == warnings


def test_a_namespaces_defaults_and_caps_reach_its_pods() -> None:
    before = pod()
    it = after(before, of(review(before), DEFAULT))
    assert it["metadata"]["annotations"]["podrate.io/limit"] == '{"v":1,"egress":10000000,"ingress":10000000}'
    decision = of(review(pod({"podrate.io/egress": "20M"})), Namespace("shop", {"podrate.io/max-egress": "10M"}))
    assert (decision.reason, decision.line) == (
        Reason.ABOVE_CAP,
        'podrate.io/egress: "20M": it is above the cap of the Namespace, podrate.io/max-egress: 10M. '
        "Allowed: at most 10M. Example: podrate.io/egress: 10M",
    )


NAMESPACES = {"group": "", "version": "v1", "resource": "namespaces"}


def namespace(labels: dict[str, str], annotations: dict[str, str] | None = None) -> dict[str, Any]:
    return {"kind": "Namespace", "metadata": {"name": "shop", "labels": labels, "annotations": annotations}}


def test_a_namespace_is_checked_when_it_is_labelled() -> None:
    good = of(review(namespace({"podrate.io/bandwidth": "10M", "podrate.io/max-egress": "1G"}), resource=NAMESPACES))
    assert good.result is Result.ALLOWED
    bad = of(review(namespace({"podrate.io/max-egress": "1g"}), namespace({}), resource=NAMESPACES))
    assert (bad.result, bad.reason) == (Result.REJECTED, Reason.BAD_NAMESPACE)
    assert bad.line.startswith(
        'Namespace shop: metadata.labels[podrate.io/max-egress]: "1g": prefixes are case sensitive'
    )
    annotated = of(review(namespace({}, {"podrate.io/egress": "1G"}), resource=NAMESPACES))
    assert "on a Namespace this must be a label" in annotated.line
    old = namespace({"podrate.io/egress": "x"})
    as_before = of(review(namespace({"podrate.io/egress": "x", "a": "b"}), old, resource=NAMESPACES))
    assert as_before.reason is Reason.AS_BEFORE
    (warning,) = of(review(namespace({"podrate.io/egress": "1M"} | BASELINE), resource=NAMESPACES)).warnings
    assert warning == "podrate: pods here will be rejected: PodSecurity level baseline forbids the loader"


@pytest.mark.parametrize("word", ["true", "once"])
def test_the_loader_without_a_limit_is_warned_of(word: str) -> None:
    wants = pod({"podrate.io/inject": word})
    (warning,) = of(review(wants)).warnings
    assert warning == "podrate: podrate.io/inject asks for no limit by itself; write podrate.io/bandwidth beside it"
    assert not of(review(wants), Namespace("shop", {"podrate.io/egress": "1M"})).warnings


@pytest.mark.parametrize("said", ["1M", "bad"])
def test_a_level_that_comes_after_the_limit_is_warned_of_once(said: str) -> None:
    """Never refused: the level is none of our business, whatever the keys say."""
    labels = {"podrate.io/egress": said}
    before, after = (namespace(each) for each in (labels, labels | BASELINE))
    decision = of(review(after, before, resource=NAMESPACES))
    assert decision.reason is Reason.AS_BEFORE
    assert decision.warnings == ["podrate: pods here will be rejected: PodSecurity level baseline forbids the loader"]
    assert not of(review(after, after, resource=NAMESPACES)).warnings
    assert not of(review(namespace(BASELINE), namespace({}), resource=NAMESPACES)).warnings


def test_while_a_namespaces_rules_are_bad_its_pods_are_told() -> None:
    broken = Namespace("shop", {"podrate.io/max-egress": "1g"})
    decision = of(review(pod()), broken)
    assert (decision.result, decision.reason) == (Result.REJECTED, Reason.BAD_NAMESPACE)
    assert of(review(pod({"podrate.io/inject": "false"})), broken).reason is Reason.BAD_NAMESPACE


def test_settings_are_the_operators() -> None:
    settings = replace(SETTINGS, sandboxes=("mine-*",), pull_secrets=("registry", "other"))
    assert of(review(pod(ASKS, runtimeClassName="gvisor")), settings=settings).result is Result.PATCHED
    assert of(review(pod(ASKS, runtimeClassName="mine-1")), settings=settings).reason is Reason.UNSUPPORTED
    for secrets in (None, [], [{"name": "mine"}], [{"name": "other"}]):
        before = pod(ASKS, imagePullSecrets=secrets)
        it = after(before, of(review(before), settings=settings))
        names = [each["name"] for each in it["spec"]["imagePullSecrets"]]
        own = [each["name"] for each in secrets or []]
        assert names == own + [name for name in ("registry", "other") if name not in own]
        assert not of(review(it), settings=settings).patch
