"""What was decided about a request, and why: for the API server, for metrics, for the log, for the audit log."""

from collections.abc import Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple

from bandwidth.invalid import Invalid
from bandwidth.policy import AboveCap
from webhook.request import Operation


class Result(StrEnum):
    """What became of a request, as metrics and the log name it."""

    ALLOWED = "allowed"
    PATCHED = "patched"
    REJECTED = "rejected"


class Reason(StrEnum):
    """Why, in one of these few words: a metric's label must not grow with what users write."""

    # Allowed, or patched where podrate.io/limit had to change.
    NOT_OURS = "not-ours"  # a resource or an operation that we don't judge
    NO_LIMIT = "no-limit"  # no key asks for one, here or on the Namespace
    OPTED_OUT = "opted-out"  # podrate.io/inject: "false"
    AS_BEFORE = "as-before"  # an update that leaves our keys as they were
    LIMITED = "limited"  # it has, or now gets, the limit that the keys ask for

    # Rejected.
    BAD_KEY = "bad-key"  # a key that we don't know, a value that we can't read, keys that contradict each other
    BAD_NAMESPACE = "bad-namespace"  # the same on the Namespace
    ABOVE_CAP = "above-cap"  # more than the Namespace allows, or an opt-out that it doesn't
    NAME_TAKEN = "name-taken"  # a container, a volume or a mount that is podrate's own
    LOADER_CHANGED = "loader-changed"  # the loader taken out of a running pod, or altered
    LOADER_ENTERED = "loader-entered"  # kubectl exec or attach into the loader
    NO_LOADER = "no-loader"  # a limit for a running pod that has no loader, or a change where it has ended
    UNSUPPORTED = "unsupported"  # Windows, a static pod, hostUsers: false, a sandbox: no limit would hold there
    POD_SECURITY = "pod-security"  # the Namespace's PodSecurity level forbids the loader
    RESOURCES = "resources"  # a LimitRange or a ResourceQuota of the Namespace rejects every pod with the loader
    UNAVAILABLE = "unavailable"  # the Namespace could not be read


class Refusal(Invalid):
    """An Invalid that is not about a key's value alone; `code` says what it is about."""

    def __init__(self, code: Reason, where: str, value: object, reason: str, allowed: str, example: str) -> None:
        super().__init__(where, value, reason, allowed, example)
        self.code = code


class Decision(NamedTuple):
    """What to answer, and why.

    result:    allowed, patched or rejected
    reason:    why, for metrics
    line:      the same in one line of printable ASCII: for the log, and for the user when rejected
    patch:     a JSON Patch; empty unless patched
    limit:     the limit that the object has now, as podrate.io/limit says it; None where it has no loader
    warnings:  lines that kubectl prints although the object was accepted
    """

    result: Result
    reason: Reason
    line: str
    patch: Sequence[Operation] = ()
    limit: str | None = None
    warnings: Sequence[str] = ()

    @property
    def audit(self) -> dict[str, str]:
        """Annotations of the audit event; the API server puts the webhook's name before each key."""
        said: dict[str, str] = {"result": self.result, "reason": self.reason}
        return said if self.limit is None else said | {"limit": self.limit}

    @property
    def status(self) -> HTTPStatus:
        """Of a rejection: whether another try could help."""
        again = self.reason is Reason.UNAVAILABLE
        return HTTPStatus.SERVICE_UNAVAILABLE if again else HTTPStatus.UNPROCESSABLE_ENTITY


def rejected(error: Invalid) -> Decision:
    """The rejection that says what `error` says."""
    match error:
        case Refusal():
            code = error.code
        case AboveCap():
            code = Reason.ABOVE_CAP
        case _:
            code = Reason.BAD_KEY
    line = str(error)
    # Values are quoted already; this is for names, which the API server has not validated when it asks us.
    return Decision(Result.REJECTED, code, line if line.isascii() and line.isprintable() else ascii(line)[1:-1])


def unavailable(namespace: str, why: Exception) -> Decision:
    """The rejection for now: without its Namespace nobody knows what a pod may have."""
    line = f"Namespace {namespace} can't be read, so that its limits are not known; try again. {why}"
    return Decision(Result.REJECTED, Reason.UNAVAILABLE, ascii(line)[1:-1].replace("\\'", "'"))
