"""The container and the volumes that a limited pod gets: the contract with the loader, in one place.

The loader finds its paths by default (loader/sidecar.py); a path that changes here changes there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bandwidth.limit import ANNOTATION

NAME = "podrate"
METRICS = "podrate-metrics"  # the port, by which a PodMonitor finds it
_CGROUP, _LIMIT, _STATE = "podrate-cgroup", "podrate-limit", "podrate-state"


class Constant(dict[str, Any]):
    """A JSON object that is the same in many patches, so that it is encoded once: by webhook.review, as `encoded`."""

    encoded: object = None

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        """A copy is an ordinary dict, which may be changed."""
        return dict, (dict(self),)


VOLUMES: tuple[Constant, ...] = (
    Constant(name=_CGROUP, hostPath={"path": "/sys/fs/cgroup", "type": "Directory"}),
    Constant(
        name=_LIMIT,
        downwardAPI={
            "items": [{"path": "limit", "fieldRef": {"fieldPath": f"metadata.annotations['{ANNOTATION}']"}}],
        },
    ),
    Constant(name=_STATE, emptyDir={"medium": "Memory", "sizeLimit": "1Mi"}),
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
    once:          whether the loader ends when the limit is in force, and nothing stays to follow the pod's keys;
                   a pod may ask for that too
    metrics_port:  of the pod, where the loader serves its metrics; None for none
    """

    image: str
    pull_policy: str | None = None
    pull_secrets: tuple[str, ...] = ()
    # Always both: a quota or a LimitRange in the pod's namespace may demand them, and a leak must not hurt the node.
    requests: Mapping[str, str] = field(default_factory=lambda: {"cpu": "1m", "memory": "16Mi"})
    limits: Mapping[str, str] = field(default_factory=lambda: {"cpu": "100m", "memory": "64Mi"})
    sandboxes: tuple[str, ...] = SANDBOXES
    kubernetes_annotations: bool = False
    once: bool = False
    metrics_port: int | None = None

    @cached_property
    def sidecar(self) -> Constant:
        """What `container` makes of these, made once."""
        return Constant(container(self))


def container(settings: Settings) -> dict[str, Any]:
    """The native sidecar: an init container that restarts always, so that the application starts after its probe.

    Once: an ordinary init container, so that the application starts after its end.
    """
    sidecar: dict[str, Any] = {
        "name": NAME,
        "image": settings.image,
        "command": ["podrate", "sidecar"],
        "env": [{"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}],
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
    if settings.once:
        sidecar["command"].append("--once")
    else:
        # The probe succeeds once the limit was read back from the kernel. It waits up to 5 s itself, hence the timeout.
        probe = {"exec": {"command": ["podrate", "probe"]}, "periodSeconds": 1, "timeoutSeconds": 10}
        sidecar |= {"restartPolicy": "Always", "startupProbe": {**probe, "failureThreshold": 30}}
        if settings.metrics_port is not None:
            sidecar["env"].append({"name": "PODRATE_METRICS_PORT", "value": str(settings.metrics_port)})
            sidecar["ports"] = [{"name": METRICS, "containerPort": settings.metrics_port, "protocol": "TCP"}]
    if settings.pull_policy is not None:
        sidecar["imagePullPolicy"] = settings.pull_policy
    return sidecar


def follows_limit(container: Mapping[str, Any]) -> bool:
    """Whether a container of a running pod is a loader of ours that stays, and reads the limit's file again."""
    return is_loader(container) and container.get("restartPolicy") == "Always"


def is_loader(container: Mapping[str, Any]) -> bool:
    """Whether a container of a running pod is a loader of ours, of whatever version: it reads the limit's file."""
    mounts = container.get("volumeMounts")
    return container.get("name") == NAME and any(
        isinstance(mount, dict) and mount.get("name") == _LIMIT
        for mount in (mounts if isinstance(mounts, list) else ())
    )
