"""What keeps a limit from being kept in a pod, explained when the pod is applied and not when it fails to start."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from bandwidth.keys import Asked
from webhook import bounds, totals
from webhook.decision import Reason, Refusal
from webhook.namespace import ENFORCE, Namespace
from webhook.pod import Pod
from webhook.sidecar import Settings


def unreachable(pod: Pod) -> Mapping[str, str] | None:
    """Why no loader can be in the pod, whatever its author does: then only who asks for a limit is told."""
    if pod.mirror:
        # The kubelet runs a static pod before, and whether or not, the API server knows of it: no patch reaches it.
        # Allowing its mirror would show a limit that nobody keeps. Rejecting it leaves the pod running, but the
        # kubelet's log and the missing mirror say so. Without the key a static pod is none of our business.
        return {
            "reason": "a static pod runs from a file on its node, where the loader can't be added",
            "allowed": "a pod that is created through the API server",
            "example": "a DaemonSet with the key in spec.template.metadata.labels",
        }
    if pod.windows:
        return {
            "reason": "the pod runs on Windows, the limit in the Linux kernel",
            "allowed": "a pod on Linux",
            "example": "spec.os.name: linux",
        }
    return None


def refuse(
    pod: Pod, asked: Asked, namespace: Namespace, settings: Settings, unreachable: Mapping[str, str] | None
) -> None:
    """Raise Refusal when the limit that `asked` or the Namespace's rules ask for can't be kept in `pod`.

    unreachable:  what `unreachable` says of it
    """
    if unreachable:
        raise _refusal(Reason.UNSUPPORTED, asked, namespace, **unreachable)
    if pod.spec.get("hostUsers") is False:
        raise _refusal(
            Reason.UNSUPPORTED,
            asked,
            namespace,
            reason="with hostUsers: false the pod's root is nobody on the node, and may not load programs there",
            allowed="a pod in the host's user namespace, which is the default",
            example="spec.hostUsers: true",
        )
    runtime = pod.spec.get("runtimeClassName")
    if isinstance(runtime, str) and any(fnmatchcase(runtime, pattern) for pattern in settings.sandboxes):
        raise _refusal(
            Reason.UNSUPPORTED,
            asked,
            namespace,
            reason=f"runtime class {runtime[:80]!a} is a sandbox whose own network stack the limit does not see",
            allowed="a runtime class that shares the node's kernel",
            example="no spec.runtimeClassName",
        )
    if level := namespace.forbids_loader:
        raise _refusal(
            Reason.POD_SECURITY,
            asked,
            namespace,
            reason=f"PodSecurity level {level} of Namespace {namespace.name} forbids the loader, which needs the "
            "capabilities BPF and NET_ADMIN and a hostPath volume",
            allowed="a Namespace of level privileged",
            example=f"kubectl label namespace {namespace.name} {ENFORCE}=privileged --overwrite",
        )
    if namespace.bounds and (
        breach := bounds.breach(namespace.bounds, settings.requests, settings.limits)
        or totals.breach(pod, namespace.bounds, settings)
    ):
        raise _refusal(
            Reason.RESOURCES,
            asked,
            namespace,
            reason=f"{breach.source} of Namespace {namespace.name} {breach.reason}",
            allowed=breach.allowed,
            example=breach.example,
        )


def _refusal(code: Reason, asked: Asked, namespace: Namespace, *, reason: str, allowed: str, example: str) -> Refusal:
    """It names the key that asks: the pod's own, or else the Namespace's."""
    source = asked if asked.limiting else namespace.rules
    key = source.limiting[0]
    return Refusal(code, source.names[key], source.written[key], reason, allowed, example)
