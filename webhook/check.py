"""`podrate check`: the webhook's decision on manifests, offline, as for a CI pipeline.

The same code decides as in the cluster; what the cluster knows beyond the files (Namespaces, the operator's settings)
is given by options.
"""

import argparse
import errno
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bandwidth.duration import format_duration
from bandwidth.keys import KUBERNETES, ours
from bandwidth.limit import Limit, decode
from bandwidth.rate import format_rate
from webhook.decide import decide
from webhook.decision import Reason, Result
from webhook.namespace import Namespace
from webhook.request import AdmissionRequest, BadRequest, optional
from webhook.sidecar import SANDBOXES, Settings
from webhook.workload import WORKLOADS

if TYPE_CHECKING:
    from webhook.manifests import Manifest

# What is judged, by group and kind; of other objects nothing is said.
_RESOURCES = {("", "Pod"): "pods", ("", "Namespace"): "namespaces"}
_RESOURCES |= {(group, kind): resource for (group, resource), (kind, _) in WORKLOADS.items()}
_EXCLUDED = ("kube-system", "kube-node-lease")  # by the chart's namespaceSelector
_SAID = {Reason.NO_LIMIT: "no limit", Reason.OPTED_OUT: "no limit, by podrate.io/inject"}


@dataclass(frozen=True)
class Finding:
    """What is said of one object, or of a file that could not be read (then without a kind)."""

    file: str
    line: int | None = None
    column: int | None = None
    kind: str = ""
    namespace: str = ""
    name: str = ""
    result: str = "rejected"
    reason: str = "unreadable"
    message: str = ""
    limit: Limit | None = None
    warnings: Sequence[str] = ()

    def text(self) -> str:
        """For people: a line, and one more for each warning."""
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        name = "/".join(filter(None, (self.namespace, self.name)))
        what = f"{self.kind} {name}: " if self.kind else ""
        said = self.message if self.result != "rejected" else f"rejected: {self.message}"
        lines = [f"{where}: {what}{said}", *(f"{where}: {what}warning: {line}" for line in self.warnings)]
        return "\n".join(line if line.isprintable() else ascii(line)[1:-1] for line in lines)

    def fields(self) -> dict[str, Any]:
        """For programs. Rates are in bit/s, the burst is in ns."""
        limit = None if self.limit is None else {k: v for k, v in self.limit.fields().items() if v is not None}
        return {**self.__dict__, "limit": limit, "warnings": list(self.warnings)}


def declare(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    """What the command takes, for loader.parser; returns what does the work."""
    parser.description = """\
Say what the cluster would say to manifests, without one.

For each pod, and for each template of a Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob, the limit that
its pods would get, or the line by which the admission webhook would reject it. The exit status is 1 if anything is
rejected or can't be read. Namespaces in the manifests count, as those in --namespace-file: their defaults, their caps,
their PodSecurity level.
"""
    parser.epilog = """\
examples:
  podrate check deploy/*.yaml
  helm template chart | podrate check -
  podrate check --namespace-file namespaces.yaml --json deploy/web.yaml
"""
    parser.add_argument("files", nargs="+", metavar="FILE", help="YAML or JSON; - is standard input")
    parser.add_argument(
        "--namespace-file", action="append", default=[], metavar="FILE", help="Namespaces, for their defaults and caps"
    )
    parser.add_argument(
        "--namespace", default="default", metavar="NAME", help="of objects that name none (as kubectl's -n)"
    )
    parser.add_argument(
        "--kubernetes-annotations",
        action="store_true",
        help="as the chart's value kubernetesAnnotations: kubernetes.io/egress-bandwidth asks for a limit too",
    )
    parser.add_argument(
        "--excluded-namespace",
        action="append",
        default=[*_EXCLUDED],
        metavar="NAME",
        help="as the chart's value excludedNamespaces, and the release's own: no limit there",
    )
    parser.add_argument(
        "--sandboxed-runtime-class",
        action="append",
        metavar="PATTERN",
        help=f"as the chart's value sandboxedRuntimeClasses, if it is not {', '.join(SANDBOXES)}",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help=f"a list of objects: {', '.join(each.name for each in fields(Finding))}; rates in bit/s, the burst in ns",
    )
    return work


def work(options: argparse.Namespace) -> int:
    """Print what is found; 1 if anything is rejected or can't be read, else 0."""
    try:
        from webhook.manifests import Unreadable, read
    except ImportError:
        print("podrate: check needs PyYAML: pip install 'podrate[check]'", file=sys.stderr)
        return 1
    known: dict[str, Namespace] = {}
    found: list[Finding | tuple[str, Manifest]] = []
    named = [*((file, False) for file in options.namespace_file), *((file, True) for file in options.files)]
    for file, judged in named:
        try:
            for manifest in read(_bytes(file)):
                if (manifest.raw["apiVersion"], manifest.raw["kind"]) == ("v1", "Namespace"):
                    _learn(manifest.raw, known)
                if judged:
                    found.append((file, manifest))
        except OSError as error:
            found.append(Finding(file, message=f"{error.strerror}"))
        except Unreadable as error:
            found.append(Finding(file, error.line, error.column, message=str(error)))
    settings = Settings(
        image="podrate",
        sandboxes=tuple(options.sandboxed_runtime_class or SANDBOXES),
        kubernetes_annotations=options.kubernetes_annotations,
    )
    findings: list[Finding] = []
    for each in found:  # only now: a Namespace may stand behind its pods
        if isinstance(each, Finding):
            findings.append(each)
        elif finding := _judge(*each, known, settings, options):
            findings.append(finding)
    if options.json:
        print(json.dumps([finding.fields() for finding in findings], indent=2))
    else:
        for finding in findings:
            print(finding.text())
        if not findings:
            print("no pod, no workload and no Namespace in these files")
    return int(any(finding.result == "rejected" for finding in findings))


def _bytes(file: str) -> bytes:
    if file != "-":
        return Path(file).read_bytes()
    if sys.stdin is None:  # `<&-`
        raise OSError(errno.EBADF, "standard input is closed")
    return sys.stdin.buffer.read()


def _learn(raw: dict[str, Any], known: dict[str, Namespace]) -> None:
    metadata = raw.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("name"), str):
        labels, annotations = (metadata.get(place) or {} for place in ("labels", "annotations"))
        if isinstance(labels, dict) and isinstance(annotations, dict):
            known[metadata["name"]] = Namespace(metadata["name"], labels, annotations)


def _judge(
    file: str, manifest: "Manifest", known: dict[str, Namespace], settings: Settings, options: argparse.Namespace
) -> Finding | None:
    raw = manifest.raw
    group, _, version = raw["apiVersion"].rpartition("/")
    resource = _RESOURCES.get((group, raw["kind"]))
    if resource is None:
        return None
    metadata = raw.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    namespace = "" if resource == "namespaces" else str(metadata.get("namespace") or options.namespace)
    name = str(metadata.get("name") or metadata.get("generateName") or "")
    finding = Finding(file, manifest.line, kind=raw["kind"], namespace=namespace[:253], name=name[:253])
    if (namespace or name) in options.excluded_namespace:
        said = "no limit: the chart leaves this Namespace alone"
        return replace(finding, result="allowed", reason=Reason.NOT_OURS.value, message=said)
    rules = known.get(namespace) or Namespace(namespace)
    if not rules.limits and not _asks(raw, settings):
        rules = Namespace(namespace)  # by which nobody is asked: the API server sends only what the chart selects
    request: AdmissionRequest = {
        "uid": "check",
        "operation": "CREATE",
        "resource": {"group": group, "version": version, "resource": resource},
        "object": raw,
    }
    try:
        for key in ("name", "generateName", "namespace"):
            optional(metadata, key, str, "metadata")
        decision = decide(request, settings, rules)
    except BadRequest as error:  # which kubectl or the API server would refuse
        line = re.sub("must be a string, not a (number|boolean)", r"must be in quotes, or it is a \1", str(error))
        line = line.replace("request.object.", "")
        return replace(finding, reason="bad-type", message=line)
    limit = None if decision.limit is None else decode(decision.limit)
    return replace(
        finding,
        result="rejected" if decision.result is Result.REJECTED else "allowed",
        reason=decision.reason.value,
        message=_SAID.get(decision.reason, decision.line) if limit is None else describe(limit),
        limit=limit,
        warnings=[line.removeprefix("podrate: ") for line in decision.warnings],
    )


def _asks(raw: dict[str, Any], settings: Settings) -> bool:
    """Whether a key is written in any metadata of the object."""
    for path in ((), ("spec", "template"), ("spec", "jobTemplate"), ("spec", "jobTemplate", "spec", "template")):
        it: Any = raw
        for key in (*path, "metadata"):
            it = it.get(key) if isinstance(it, dict) else None
        for place in ("labels", "annotations"):
            written = it.get(place) if isinstance(it, dict) else None
            for key in written if isinstance(written, dict) else ():
                if ours(key) or (settings.kubernetes_annotations and key in KUBERNETES):
                    return True
    return False


def describe(limit: Limit) -> str:
    """A limit for people: egress 10M, ingress 50M, burst 20ms."""
    parts = [f"{name} {format_rate(rate)}" for name in ("egress", "ingress") if (rate := getattr(limit, name))]
    if limit.burst is not None:
        parts.append(f"burst {format_duration(limit.burst)}")
    if limit.ingress_queue:
        parts.append("ingress queue")
    return ", ".join(parts)
