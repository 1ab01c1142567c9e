"""Workloads: a bad template is explained when it is applied."""

from typing import Any

import pytest

from tests.webhook.deciding import ASKS, of
from tests.webhook.reviews import pod, review
from webhook.decision import Decision, Reason, Result
from webhook.namespace import Namespace
from webhook.workload import WORKLOADS

CAPPED = Namespace("shop", {"podrate.io/max-bandwidth": "5M"})
RESTRICTED = Namespace("shop", {"pod-security.kubernetes.io/enforce": "restricted"})
KINDS = {kind: (group, resource, path) for (group, resource), (kind, path) in WORKLOADS.items()}


def workload(kind: str, template: dict[str, Any], labels: dict[str, str] | None = None) -> dict[str, Any]:
    inside: Any = {"metadata": template["metadata"], "spec": template["spec"]}
    for key in reversed(KINDS[kind][2]):
        inside = {key: inside}
    it: dict[str, Any] = {"kind": kind, "metadata": {"name": "web", "labels": labels}} | inside
    return it


def applied(kind: str, new: object, old: object = None, namespace: Namespace | None = None) -> Decision:
    group, resource, _ = KINDS[kind]
    asked = review(new, old, resource={"group": group, "version": "v1", "resource": resource})
    return of(asked, namespace or Namespace())


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_template_is_rejected_by_the_path_of_its_key(kind: str) -> None:
    path = ".".join(KINDS[kind][2])
    egress = {"podrate.io/egress": "10m"}
    for place, bad in (("labels", pod(egress)), ("annotations", pod({}, egress))):
        decision = applied(kind, workload(kind, bad))
        assert (decision.result, decision.reason) == (Result.REJECTED, Reason.BAD_KEY)
        assert decision.line.startswith(
            f'{path}.metadata.{place}[podrate.io/egress]: "10m": m means milli; did you mean 10M? Allowed: '
        )
    taken = applied(kind, workload(kind, pod(ASKS, volumes=[{"name": "podrate-state"}])))
    assert taken.line.startswith(f'{path}.spec.volumes[0].name: "podrate-state": podrate adds a volume by this name')


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_template_is_left_as_it_is(kind: str) -> None:
    decision = applied(kind, workload(kind, pod(ASKS)))
    assert (decision.result, decision.reason, decision.patch) == (Result.ALLOWED, Reason.LIMITED, ())
    assert decision.line == 'template: {"v":1,"egress":10000000,"ingress":10000000}'
    assert applied(kind, workload(kind, pod())).reason is Reason.NO_LIMIT


@pytest.mark.parametrize(
    ("template", "namespace", "reason"),
    [
        (pod(ASKS), CAPPED, Reason.ABOVE_CAP),
        (pod(ASKS), RESTRICTED, Reason.POD_SECURITY),
        (pod(ASKS, hostUsers=False), None, Reason.UNSUPPORTED),
        (pod(ASKS), Namespace("shop", {"podrate.io/egress": "x"}), Reason.BAD_NAMESPACE),
    ],
)
def test_what_its_pods_would_be_told_is_told_at_once(
    template: dict[str, Any], namespace: Namespace | None, reason: Reason
) -> None:
    decision = applied("Deployment", workload("Deployment", template), None, namespace)
    assert (decision.result, decision.reason) == (Result.REJECTED, reason)


def test_a_bad_template_from_before_can_still_be_scaled() -> None:
    old = workload("ReplicaSet", pod({"podrate.io/bandwidth": "bad"}))
    assert applied("ReplicaSet", old | {"spec": old["spec"] | {"replicas": 3}}, old).reason is Reason.AS_BEFORE
    assert applied("ReplicaSet", workload("ReplicaSet", pod({"podrate.io/bandwidth": "worse"})), old).line.startswith(
        'spec.template.metadata.labels[podrate.io/bandwidth]: "worse": '
    )


def test_a_key_beside_the_template_is_warned_of() -> None:
    (warning,) = applied("CronJob", workload("CronJob", pod(), ASKS)).warnings
    assert warning == (
        "podrate: metadata.labels[podrate.io/bandwidth] limits nothing; "
        "write it in spec.jobTemplate.spec.template.metadata.labels"
    )
    assert applied("CronJob", workload("CronJob", pod(ASKS), ASKS)).warnings == ()


def test_a_key_on_the_jobs_of_a_cron_job_is_warned_of() -> None:
    it = workload("CronJob", pod())
    it["spec"]["jobTemplate"]["metadata"] = {"annotations": ASKS}
    (warning,) = applied("CronJob", it).warnings
    assert warning == (
        "podrate: spec.jobTemplate.metadata.annotations[podrate.io/bandwidth] limits nothing; "
        "write it in spec.jobTemplate.spec.template.metadata.annotations"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_comes_later_beside_the_template_is_warned_of_once(kind: str) -> None:
    """By `kubectl label deployment web podrate.io/bandwidth=10M`."""
    old, new = workload(kind, pod()), workload(kind, pod(), ASKS)
    decision = applied(kind, new, old)
    assert decision.reason is Reason.AS_BEFORE
    (warning,) = decision.warnings
    assert warning.startswith("podrate: metadata.labels[podrate.io/bandwidth] limits nothing; write it in spec.")
    assert applied(kind, new, new).warnings == ()


def test_a_template_needs_no_metadata() -> None:
    bare: dict[str, Any] = {"metadata": {}, "spec": {"template": {"spec": {"containers": []}}}}
    assert applied("Job", bare).reason is Reason.NO_LIMIT
