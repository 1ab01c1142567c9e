"""Workloads: a template that would make bad pods is rejected when it is applied, not in a ReplicaSet's events."""

from collections.abc import Mapping, Sequence
from typing import Any

from bandwidth.keys import LONGEST, ours
from webhook.decision import Decision, Reason, Result
from webhook.namespace import Namespace
from webhook.pod import Pod
from webhook.pods import created
from webhook.request import an_object
from webhook.sidecar import Settings

_TEMPLATE = ("spec", "template")
# By API group and resource: the kind, and where its pods' template is.
WORKLOADS: Mapping[tuple[str, str], tuple[str, Sequence[str]]] = {
    ("apps", "deployments"): ("Deployment", _TEMPLATE),
    ("apps", "statefulsets"): ("StatefulSet", _TEMPLATE),
    ("apps", "daemonsets"): ("DaemonSet", _TEMPLATE),
    ("apps", "replicasets"): ("ReplicaSet", _TEMPLATE),
    ("batch", "jobs"): ("Job", _TEMPLATE),
    ("batch", "cronjobs"): ("CronJob", ("spec", "jobTemplate", "spec", "template")),
}


def applied(
    workload: object, old: object | None, path: Sequence[str], namespace: Namespace, settings: Settings
) -> Decision:
    """A workload that is created or (with `old`) changed. Never patched: its pods will be. Raises Invalid."""
    template = _at(workload, path, "request.object")
    where = ".".join(path)
    pod = Pod(template, f"request.object.{where}", f"{where}.")
    misplaced = _misplaced(workload, pod, path)
    if old is not None and template == _at(old, path, "request.oldObject"):
        known = _misplaced(old, pod, path)
        lines = tuple(line for line in misplaced if line not in known)
        return Decision(Result.ALLOWED, Reason.AS_BEFORE, "the template is as it was", warnings=lines)
    decision = created(pod, namespace, settings)
    lines = (*decision.warnings, *misplaced)
    return decision._replace(result=Result.ALLOWED, line=f"template: {decision.line}", patch=(), warnings=lines)


def _at(raw: object, path: Sequence[str], where: str) -> object:
    for key in path:
        raw, where = an_object(raw, where).get(key), f"{where}.{key}"
    return raw


def _misplaced(workload: Any, pod: Pod, path: Sequence[str]) -> list[str]:  # noqa: ANN401  JSON
    """A key on the workload itself limits nothing, nor one on the Jobs that a CronJob makes.

    Where the template has it too, a tool has put it on everything.
    """
    metadata = workload.get("metadata")
    if isinstance(metadata, dict) and metadata.get("ownerReferences"):
        return []  # whose metadata a controller has copied
    beside = {"metadata": metadata}
    if path != _TEMPLATE:
        beside["spec.jobTemplate.metadata"] = workload["spec"]["jobTemplate"].get("metadata")
    lines = []
    for name, metadata in beside.items():
        for place, theirs in (("labels", pod.labels), ("annotations", pod.annotations)):
            written = metadata.get(place) if isinstance(metadata, dict) else None
            lines += [
                f"podrate: {name}.{place}[{key}] limits nothing; write it in {'.'.join(path)}.metadata.{place}"
                for key in (written if isinstance(written, dict) else ())
                if ours(key) and key not in theirs and len(key) <= LONGEST and key.isascii() and key.isprintable()
            ]
    return lines
