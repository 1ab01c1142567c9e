"""The ways past a pod's own admission: what joins, enters or resizes a running one, and what the scheduler writes."""

from bandwidth.keys import BANDWIDTH, ours
from webhook.decision import Decision, Reason, Refusal, Result
from webhook.patch import refuse_mounts
from webhook.pod import Pod
from webhook.request import an_object, optional
from webhook.sidecar import NAME, is_loader


def debugged(pod: Pod) -> Decision:
    """Ephemeral containers that join a running pod. Raises Refusal for one that would get at the loader's volumes.

    They are below /proc/PID/root of its process, too, for who may trace it: targetContainerName shows that process.
    """
    if any(is_loader(container) for container in pod.init_containers):
        refuse_mounts(pod)
        for index, each in enumerate(pod.ephemeral_containers):
            if each.get("targetContainerName") == NAME:
                where = f"spec.ephemeralContainers[{index}].targetContainerName"
                reason = "what joins the loader's processes can get at the node's cgroups, which it has mounted"
                allowed, example = "a container of the pod's own", "kubectl debug web --target=app --image=busybox"
                raise Refusal(Reason.NAME_TAKEN, where, NAME, reason, allowed, example)
    return Decision(Result.ALLOWED, Reason.AS_BEFORE, "ephemeral containers that leave the loader alone")


def entered(options: object) -> Decision:
    """`kubectl exec` or `attach` (PodExecOptions, PodAttachOptions). Raises Refusal for the loader.

    The pod itself is not in the review, so that this goes by the container's name alone.
    """
    if optional(an_object(options, "request.object"), "container", str, "request.object") == NAME:
        reason = "the loader may change the limit of every pod on its node, so nobody enters it"
        allowed = "the pod's own containers"
        raise Refusal(Reason.LOADER_ENTERED, "container", NAME, reason, allowed, "kubectl exec web -c web -- sh")
    return Decision(Result.ALLOWED, Reason.NOT_OURS, "another container than the loader")


def resized(pod: Pod, old: Pod) -> Decision:
    """New resources for a running pod's containers (pods/resize). Raises Refusal for the loader's.

    Too little memory would end it again and again, and next to no CPU would stall it: nothing would follow the keys.
    """
    now = [each.get("resources") for each in pod.init_containers if each.get("name") == NAME]
    for index, each in enumerate(old.init_containers):
        if is_loader(each) and now != [each.get("resources")]:
            where = f"spec.initContainers[{index}].resources"
            reason = "a loader with less may no longer follow the pod's keys, so that its resources stay as they are"
            allowed = "the pod's own containers'; the chart's loader.resources are for new pods"
            raise Refusal(Reason.LOADER_CHANGED, where, NAME, reason, allowed, "spec.containers[0].resources")
    return Decision(Result.ALLOWED, Reason.AS_BEFORE, "resources of other containers than the loader")


def bound(binding: object) -> Decision:
    """A Binding: what its metadata says is copied to the pod (assignPod in the API server's pod storage).

    Raises Refusal for a key of ours: the pod would carry it unseen.
    """
    metadata = optional(an_object(binding, "request.object"), "metadata", dict, "request.object") or {}
    for place in ("labels", "annotations"):
        for key, value in (optional(metadata, place, dict, "request.object.metadata") or {}).items():
            if ours(key):
                reason = "a Binding is copied to its pod past the pod's own admission"
                allowed = "podrate's keys on the pod"
                raise Refusal(Reason.BAD_KEY, f"metadata.{place}[{key}]", value, reason, allowed, f"{BANDWIDTH}: 10M")
    return Decision(Result.ALLOWED, Reason.NO_LIMIT, "a Binding without podrate's keys")
