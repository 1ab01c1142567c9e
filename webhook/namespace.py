"""Namespaces: what one says that concerns its pods' limits, and whether it may say so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from bandwidth.invalid import Invalid
from bandwidth.keys import LIMITING, Asked, ours
from bandwidth.policy import namespace_rules
from webhook.bounds import OfNamespace
from webhook.decision import Decision, Reason, Refusal, Result
from webhook.request import an_object, optional, required

ENFORCE = "pod-security.kubernetes.io/enforce"


@dataclass(frozen=True)
class Namespace:
    """A Namespace's name and metadata, and what bounds its pods' resources; by default one that says nothing."""

    name: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    bounds: OfNamespace = field(default_factory=dict)

    @cached_property
    def rules(self) -> Asked:
        """Its defaults and caps. Raises Refusal: while they can't be read nobody knows what its pods may have."""
        try:
            return namespace_rules(self.name, self.labels, self.annotations)
        except Invalid as error:
            raise Refusal(
                Reason.BAD_NAMESPACE, error.where, error.value, error.reason, error.allowed, error.example
            ) from None

    @property
    def limits(self) -> bool:
        """Whether its pods get a limit unasked. By these labels the API server knows to send all of them to us."""
        return any(key in self.labels for key in LIMITING)

    @property
    def forbids_loader(self) -> str | None:
        """The PodSecurity level, where that forbids what the loader needs."""
        level = self.labels.get(ENFORCE)
        return level if level in ("baseline", "restricted") else None


def applied(raw: object, old: object | None) -> Decision:
    """A Namespace that is created or (with `old`) changed. Raises Refusal for rules that its pods would fail by."""
    now = _parsed(raw, "request.object")
    lines = []
    if now.limits and (level := now.forbids_loader):
        lines.append(f"podrate: pods here will be rejected: PodSecurity level {level} forbids the loader")
    if old is not None and _said(before := _parsed(old, "request.oldObject")) == _said(now):
        lines = [] if before.forbids_loader == now.forbids_loader else lines
        return Decision(Result.ALLOWED, Reason.AS_BEFORE, "podrate's keys are as they were", warnings=lines)
    limits = now.rules.limiting
    if not limits:
        return Decision(Result.ALLOWED, Reason.NO_LIMIT, "no default and no cap")
    return Decision(Result.ALLOWED, Reason.LIMITED, f"rules for its pods: {', '.join(limits)}", warnings=lines)


def _parsed(raw: object, where: str) -> Namespace:
    metadata = required(an_object(raw, where), "metadata", dict, where)
    name = (optional(metadata, "name", str, f"{where}.metadata") or "(to be named)")[:63]  # nobody checked it yet
    labels, annotations = (optional(metadata, key, dict, f"{where}.metadata") for key in ("labels", "annotations"))
    return Namespace(name, labels or {}, annotations or {})


def _said(namespace: Namespace) -> list[dict[str, str]]:
    """Its labels and annotations that are podrate's."""
    places = (namespace.labels, namespace.annotations)
    return [{key: value for key, value in place.items() if ours(key)} for place in places]
