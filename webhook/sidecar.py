"""The container and the volumes that a limited pod gets: the contract with the loader, in one place.

The loader finds its paths by default (loader/sidecar.py); a path that changes here changes there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bandwidth.limit import ANNOTATION

NAME = "podrate"
_CGROUP, _LIMIT, _STATE = "podrate-cgroup", "podrate-limit", "podrate-state"

VOLUMES: tuple[dict[str, Any], ...] = (
    {"name": _CGROUP, "hostPath": {"path": "/sys/fs/cgroup", "type": "Directory"}},
    {
        "name": _LIMIT,
        "downwardAPI": {
            "items": [{"path": "limit", "fieldRef": {"fieldPath": f"metadata.annotations['{ANNOTATION}']"}}],
        },
    },
    {"name": _STATE, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
)

# Those for which the cluster autoscaler would keep a node up: a hostPath, and an emptyDir (older ones: in memory too).
LOCAL_VOLUMES = (_CGROUP, _STATE)


# By the names that their projects give to the runtime class: gVisor, Kata Containers and its variants.
SANDBOXES = ("gvisor", "runsc", "kata", "kata-*")


@dataclass(frozen=True)
class Settings:
    """What the operator chooses.

    image:         the loader's image
    pull_policy:   its imagePullPolicy, or None for Kubernetes' own default
    pull_secrets:  Secrets of the pod's namespace that its registry needs
    requests, limits:  its resources
    sandboxes:     patterns (fnmatch) of the runtime classes with a network stack of their own
    kubernetes_annotations:  whether Kubernetes' own bandwidth annotations ask for a limit
    """

    image: str
    pull_policy: str | None = None
    pull_secrets: tuple[str, ...] = ()
    # Always both: a quota or a LimitRange in the pod's namespace may demand them, and a leak must not hurt the node.
    requests: Mapping[str, str] = field(default_factory=lambda: {"cpu": "1m", "memory": "16Mi"})
    limits: Mapping[str, str] = field(default_factory=lambda: {"cpu": "100m", "memory": "64Mi"})
    sandboxes: tuple[str, ...] = SANDBOXES
    kubernetes_annotations: bool = False


def container(settings: Settings) -> dict[str, Any]:
    """The native sidecar: an init container that restarts always, so that the application starts after its probe."""
    sidecar: dict[str, Any] = {
        "name": NAME,
        "image": settings.image,
        "restartPolicy": "Always",
        "command": ["podrate", "sidecar"],
        "env": [{"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}],
        # Succeeds once the limit was read back from the kernel. It waits up to 5 s itself, hence the timeout.
        "startupProbe": {
            "exec": {"command": ["podrate", "probe"]},
            "periodSeconds": 1,
            "timeoutSeconds": 10,
            "failureThreshold": 30,
        },
        # BPF loads the programs, NET_ADMIN attaches them. Only root's capabilities are effective in a container.
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["BPF", "NET_ADMIN"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "resources": {"requests": dict(settings.requests), "limits": dict(settings.limits)},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": _CGROUP, "mountPath": "/run/podrate/cgroup", "readOnly": True},
            {"name": _LIMIT, "mountPath": "/run/podrate/limit", "readOnly": True},
            {"name": _STATE, "mountPath": "/run/podrate/state"},
        ],
    }
    if settings.pull_policy is not None:
        sidecar["imagePullPolicy"] = settings.pull_policy
    return sidecar


def follows_limit(container: Mapping[str, Any]) -> bool:
    """Whether a container of a running pod is a sidecar of ours, of whatever version: it reads the limit's file."""
    mounts = container.get("volumeMounts")
    return container.get("name") == NAME and any(
        isinstance(mount, dict) and mount.get("name") == _LIMIT
        for mount in (mounts if isinstance(mounts, list) else ())
    )
