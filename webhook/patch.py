"""From a pod and its limit to a minimal JSON Patch: nothing of the user's is moved, changed or dropped.

Patching a patched pod gives an empty patch. Whether a pod was patched is read from the container and the volumes
themselves: a marker would survive a user's edit of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from bandwidth.invalid import quote
from bandwidth.limit import ANNOTATION
from webhook.decision import Reason, Refusal
from webhook.likeness import difference, same_volume
from webhook.pod import Pod
from webhook.request import Operation
from webhook.sidecar import LOCAL_VOLUMES, NAME, VOLUMES, Settings

SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"

_VOLUMES = tuple(volume["name"] for volume in VOLUMES)  # no set: what it is compared with may be of any type

# What annotations shall be; None is for one that must not be there.
Annotations = Mapping[str, str | None]


def inject(pod: Pod, limit: str, settings: Settings, others: Annotations = MappingProxyType({})) -> list[Operation]:
    """The operations that give `pod` the annotation `limit` (and `others`), the sidecar, its volumes, its pull secrets.

    Raises Refusal when the pod has a container or a volume by our name that isn't ours, or mounts a volume of ours.
    """
    # On the node's network a port is the node's: the scheduler would put no second limited pod there.
    settings = replace(settings, metrics_port=None) if pod.host_network else settings
    sidecar = _add_sidecar(pod, settings.sidecar)
    refuse_mounts(pod)
    local = _append(pod.annotations.get(SAFE_TO_EVICT, ""), LOCAL_VOLUMES)
    annotations = annotate(pod, {**others, ANNOTATION: limit, SAFE_TO_EVICT: local})
    operations = annotations + sidecar + _add("volumes", _missing_volumes(pod), pod)
    if settings.pull_secrets:
        operations += _add("imagePullSecrets", _missing_secrets(pod, settings), pod)
    return operations


def annotate(pod: Pod, wanted: Annotations) -> list[Operation]:
    """The operations that make `pod`'s annotations as `wanted`; None is for one that must not be there."""
    if not isinstance(pod.metadata.get("annotations"), dict):
        added = {key: value for key, value in wanted.items() if value is not None}
        return [Operation(op="add", path="/metadata/annotations", value=added)] if added else []
    operations: list[Operation] = []
    for key, value in wanted.items():
        # RFC 6901: "~" first, or the "~" of "~1" would be escaped again.
        path = "/metadata/annotations/" + key.replace("~", "~0").replace("/", "~1")
        if value is not None and pod.annotations.get(key) != value:
            operations.append(Operation(op="add", path=path, value=value))  # replaces one that is there
        elif value is None and key in pod.annotations:
            operations.append(Operation(op="remove", path=path))
    return operations


def _add_sidecar(pod: Pod, sidecar: dict[str, Any]) -> list[Operation]:
    for kind, containers in (("containers", pod.containers), ("ephemeralContainers", pod.ephemeral_containers)):
        for index, other in enumerate(containers):
            if other.get("name") == NAME:
                raise _taken(f"{pod.path}spec.{kind}[{index}].name", NAME, "container")
    places = [index for index, other in enumerate(pod.init_containers) if other.get("name") == NAME]
    for index in places:
        differs = "name" if len(places) > 1 else difference(pod.init_containers[index], sidecar)
        if differs:
            raise _taken(f"{pod.path}spec.initContainers[{index}].name", NAME, "container", differs)
    first = "/spec/initContainers/0"
    if not pod.init_containers:
        return [Operation(op="add", path="/spec/initContainers", value=[sidecar])]
    if not places:
        return [Operation(op="add", path=first, value=sidecar)]
    if places == [0]:
        return []
    # Another injector put its own before ours; what it sends at start-up would not be limited.
    return [{"op": "move", "from": f"/spec/initContainers/{places[0]}", "path": first}]


def _missing_volumes(pod: Pod) -> Sequence[Mapping[str, Any]]:
    names = [each.get("name") for each in pod.volumes]
    if not any(map(names.__contains__, _VOLUMES)):
        return VOLUMES
    missing = []
    for ours in VOLUMES:
        places = [index for index, other in enumerate(pod.volumes) if other.get("name") == ours["name"]]
        for index in places:
            if len(places) > 1 or not same_volume(pod.volumes[index], ours):
                raise _taken(f"{pod.path}spec.volumes[{index}].name", ours["name"], "volume")
        if not places:
            missing.append(ours)
    return missing


def _missing_secrets(pod: Pod, settings: Settings) -> Sequence[Mapping[str, Any]]:
    present = [each.get("name") for each in pod.pull_secrets]  # no set: they may be of any type
    return [{"name": name} for name in settings.pull_secrets if name not in present]


def _add(key: str, missing: Sequence[Mapping[str, Any]], pod: Pod) -> list[Operation]:
    if missing and not pod.spec.get(key):
        return [Operation(op="add", path=f"/spec/{key}", value=list(missing))]
    return [Operation(op="add", path=f"/spec/{key}/-", value=each) for each in missing]


def refuse_mounts(pod: Pod) -> None:
    """Nobody else mounts our volumes: one of them is the node's cgroup tree, another what our probe believes.

    Raises Refusal.
    """
    for kind, containers in (
        ("containers", pod.containers),
        ("initContainers", pod.init_containers),
        ("ephemeralContainers", pod.ephemeral_containers),
    ):
        for index, other in enumerate(containers):
            mounts = other.get("volumeMounts")
            if kind == "initContainers" and other.get("name") == NAME:
                continue
            for mount in mounts if isinstance(mounts, list) else ():
                if isinstance(mount, dict) and mount.get("name") in _VOLUMES:
                    raise Refusal(
                        Reason.NAME_TAKEN,
                        f"{pod.path}spec.{kind}[{index}].volumeMounts",
                        mount["name"],
                        "this volume is for podrate's own container",
                        "volumes of the pod's own",
                        "my-volume",
                    )


def _append(written: str, names: Sequence[str]) -> str:
    """The comma list `written` by the user, as it is, and those of `names` that it lacks.

    The autoscaler does not trim: an entry with a space before it is another name.
    """
    present = written.split(",") if written else []
    return ",".join(present + [name for name in names if name not in present])


def _taken(where: str, name: str, what: str, field: str = "") -> Refusal:
    differs = f"differs from it in {quote(field)[1:-1]}" if field not in ("", "name") else "differs from it"
    reason = f"podrate adds a {what} by this name to a limited pod, and this one {differs}"
    return Refusal(Reason.NAME_TAKEN, where, name, reason, f"any other name, or no such {what}", f"my-{name}")
