"""What a pod's keys come to in its Namespace: all that follows from them alone, made once for all pods that say it.

The pods of a workload say the same, and most workloads say what others do; a decision that finds it made takes half as
long.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from bandwidth.keys import KUBERNETES, Asked, ours, read
from bandwidth.limit import Limit, encode
from bandwidth.policy import Outcome, pod_limit
from webhook.advice import warnings
from webhook.namespace import Namespace
from webhook.pod import Pod
from webhook.sidecar import Settings

# Characters of a value that are looked at. A longer one is an error, which quotes fewer; it must not be kept here.
_LONGEST = 100

_Said = tuple[tuple[str, str], ...]


class Wish(NamedTuple):
    """What follows from a pod's keys.

    asked:     what they say
    outcome:   the limit that they come to, or none
    text:      it as podrate.io/limit says it
    warnings:  lines about what is accepted and likely to be a mistake
    """

    asked: Asked
    outcome: Outcome
    text: str
    warnings: Sequence[str]


def wish(pod: Pod, annotations: Mapping[str, str], namespace: Namespace, settings: Settings) -> Wish:
    """The wish of `pod`, as if it had `annotations`. Raises Invalid for what can't be; that is not kept."""
    return _wish(
        _said(pod.labels),
        _said(annotations),
        _where(pod),
        namespace.rules,
        host_network=pod.host_network,
        kubernetes=settings.kubernetes_annotations,
    )


def asked(pod: Pod, settings: Settings) -> Asked:
    """What the keys of `pod` say, whatever its Namespace does. Raises Invalid for keys that we don't know."""
    return _asked(pod.labels, pod.annotations, _where(pod), kubernetes=settings.kubernetes_annotations)


def _where(pod: Pod) -> str:
    return f"{pod.path}metadata" if pod.path else ""


def _said(metadata: Mapping[str, str]) -> _Said:
    return tuple([(key, value[:_LONGEST]) for key, value in metadata.items() if ours(key) or key in KUBERNETES])


def _asked(labels: Mapping[str, str], annotations: Mapping[str, str], where: str, *, kubernetes: bool) -> Asked:
    return read(labels, annotations, where, aliases=KUBERNETES if kubernetes else {})


# Ten megabytes at most, of pods that opt out and say much beside; mostly one. Asked is itself and no other,
# so that a Namespace's new rules are new here.
@lru_cache(maxsize=1024)
def _wish(labels: _Said, annotations: _Said, where: str, rules: Asked, *, host_network: bool, kubernetes: bool) -> Wish:
    written = dict(annotations)
    says = _asked(dict(labels), written, where, kubernetes=kubernetes)
    outcome = pod_limit(says, rules, host_network=host_network)
    limit = outcome.limit or Limit()
    lines = warnings(limit, written, says, kubernetes=kubernetes)
    return Wish(says, outcome, encode(limit), lines)
