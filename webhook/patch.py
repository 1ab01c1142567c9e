"""From a pod and its limit to a minimal JSON Patch: nothing of the user's is moved, changed or dropped.

Patching a patched pod gives an empty patch. Whether a pod was patched is read from the container and the volumes
themselves: a marker would survive a user's edit of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bandwidth.limit import ANNOTATION, Limit, encode
from webhook.decision import Reason, Refusal
from webhook.pod import Pod
from webhook.review import Operation
from webhook.sidecar import LOCAL_VOLUMES, NAME, VOLUMES, Settings, container

SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"

# What identifies an item of a list of objects, the first that it has: Kubernetes' own merge keys.
_MERGE_KEYS = ("mountPath", "name", "path")


def inject(pod: Pod, limit: Limit, settings: Settings) -> list[Operation]:
    """The operations that give `pod` the limit's annotation, the sidecar as its first init container, its volumes.

    Raises Refusal when the pod has a container or a volume by our name that isn't ours.
    """
    _refuse_mounts(pod)
    local = _append(pod.annotations.get(SAFE_TO_EVICT, ""), LOCAL_VOLUMES)
    annotations = annotate(pod, {ANNOTATION: encode(limit), SAFE_TO_EVICT: local})
    return annotations + _add_sidecar(pod, container(settings)) + _add_volumes(pod)


def annotate(pod: Pod, wanted: Mapping[str, str | None]) -> list[Operation]:
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


def holds(actual: object, ours: object) -> bool:
    """Whether `actual` has every field of `ours` with its value: what the API server and other injectors added
    (defaults, a service account's mount, environment variables) is not ours to judge."""
    if isinstance(ours, dict):
        return isinstance(actual, dict) and all(key in actual and holds(actual[key], ours[key]) for key in ours)
    if isinstance(ours, list) and all(isinstance(item, dict) for item in ours):
        return isinstance(actual, list) and all(holds(_last_like(item, actual), item) for item in ours)
    # By type too: to Python, 0 == False.
    return type(actual) is type(ours) and actual == ours


def _last_like(item: Mapping[str, Any], among: Sequence[object]) -> object:
    """The last of `among` that is identified as `item` is: of two variables by one name, the last one counts."""
    key = next(key for key in _MERGE_KEYS if key in item)
    found = [other for other in among if isinstance(other, dict) and other.get(key) == item[key]]
    return found[-1] if found else None


def _add_sidecar(pod: Pod, sidecar: dict[str, Any]) -> list[Operation]:
    for kind, containers in (("containers", pod.containers), ("ephemeralContainers", pod.ephemeral_containers)):
        for index, other in enumerate(containers):
            if other.get("name") == NAME:
                raise _taken(f"spec.{kind}[{index}].name", NAME, "container")
    places = [index for index, other in enumerate(pod.init_containers) if other.get("name") == NAME]
    for index in places:
        if len(places) > 1 or not holds(pod.init_containers[index], sidecar):
            raise _taken(f"spec.initContainers[{index}].name", NAME, "container")
    if not pod.init_containers:
        return [Operation(op="add", path="/spec/initContainers", value=[sidecar])]
    first = "/spec/initContainers/0"
    if not places:
        return [Operation(op="add", path=first, value=sidecar)]
    if places == [0]:
        return []
    # Another injector put its own before ours; what it sends at start-up would not be limited.
    return [{"op": "move", "from": f"/spec/initContainers/{places[0]}", "path": first}]


def _add_volumes(pod: Pod) -> list[Operation]:
    missing = []
    for ours in VOLUMES:
        places = [index for index, other in enumerate(pod.volumes) if other.get("name") == ours["name"]]
        for index in places:
            if len(places) > 1 or not holds(pod.volumes[index], ours):
                raise _taken(f"spec.volumes[{index}].name", ours["name"], "volume")
        if not places:
            missing.append(ours)
    if missing and not pod.volumes:
        return [Operation(op="add", path="/spec/volumes", value=missing)]
    return [Operation(op="add", path="/spec/volumes/-", value=volume) for volume in missing]


def _refuse_mounts(pod: Pod) -> None:
    """Nobody else mounts our volumes: one of them is the node's cgroup tree, another what our probe believes."""
    ours = {volume["name"] for volume in VOLUMES}
    for kind, containers in (("containers", pod.containers), ("initContainers", pod.init_containers)):
        for index, other in enumerate(containers):
            mounts = other.get("volumeMounts")
            for mount in mounts if isinstance(mounts, list) and other.get("name") != NAME else ():
                if isinstance(mount, dict) and mount.get("name") in ours:
                    raise Refusal(
                        Reason.NAME_TAKEN,
                        f"spec.{kind}[{index}].volumeMounts",
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


def _taken(where: str, name: str, what: str) -> Refusal:
    reason = f"podrate adds a {what} by this name to a limited pod, and this one differs from it"
    return Refusal(Reason.NAME_TAKEN, where, name, reason, f"any other name, or no such {what}", f"my-{name}")
