"""The policy: from an AdmissionRequest to allowed, patched or rejected. Quick, and without I/O."""

from collections.abc import Sequence
from dataclasses import replace

from bandwidth.invalid import Invalid
from bandwidth.keys import Asked, read
from bandwidth.limit import ANNOTATION, Limit, encode
from bandwidth.policy import pod_limit
from webhook.decision import Decision, Reason, Refusal, Result, rejected
from webhook.patch import annotate, inject
from webhook.pod import Pod
from webhook.review import AdmissionRequest, Operation
from webhook.sidecar import Settings, follows_limit


def decide(request: AdmissionRequest, settings: Settings) -> Decision:
    """The answer to `request`. Raises BadRequest for a pod that no API server would send.

    A dry run is decided as any other: we change nothing but the object.
    """
    resource = request["resource"]
    if (resource["group"], resource["version"], resource["resource"]) != ("", "v1", "pods"):
        return Decision(Result.ALLOWED, Reason.NOT_OURS, "not a pod")
    if request.get("subResource"):
        return Decision(Result.ALLOWED, Reason.NOT_OURS, "a subresource", kind="Pod")
    if request["operation"] not in ("CREATE", "UPDATE"):
        return Decision(Result.ALLOWED, Reason.NOT_OURS, "neither a creation nor an update", kind="Pod")
    pod = Pod(request.get("object"), "request.object")
    old = Pod(request.get("oldObject"), "request.oldObject") if request["operation"] == "UPDATE" else None
    try:
        decision = _create(pod, settings) if old is None else _update(pod, old, settings)
    except Invalid as error:
        decision = rejected(error)
    return replace(decision, kind="Pod", owner=pod.owner)


def _limit(pod: Pod) -> Limit | None:
    network = pod.spec.get("hostNetwork") is True
    return pod_limit(read(pod.labels, pod.annotations), Asked(), host_network=network).limit


def _create(pod: Pod, settings: Settings) -> Decision:
    limit = _limit(pod)
    if limit is None:
        return _without_limit(pod)
    if pod.mirror:
        # The kubelet runs a static pod before, and whether or not, the API server knows of it: no patch reaches it.
        # Allowing its mirror would show a limit that nobody keeps. Rejecting it leaves the pod running, but the
        # kubelet's log and the missing mirror say so. Without the key a static pod is none of our business.
        raise _cannot(
            Reason.UNSUPPORTED,
            pod,
            "a static pod runs from a file on its node, where the loader can't be added",
            "a pod that is created through the API server",
            "a DaemonSet with the key in spec.template.metadata.labels",
        )
    if pod.windows:
        raise _cannot(
            Reason.UNSUPPORTED,
            pod,
            "the pod runs on Windows, the limit in the Linux kernel",
            "a pod on Linux",
            "spec.os.name: linux",
        )
    patch = inject(pod, limit, settings)
    return _limited(limit, patch, "has it all already")


def _update(pod: Pod, old: Pod, settings: Settings) -> Decision:
    """A running pod's limit follows its keys. Of its spec only images change; the loader's is the operator's."""
    _refuse_another_image(pod, old, settings)
    before = old.keys
    changed = {place: value for place, value in pod.keys.items() if before.get(place) != value}
    try:
        limit = _limit(pod)
    except Invalid:
        if changed:
            raise
        # It was bad before we came. Without this, nobody could remove such a pod's finalizers.
        return Decision(Result.ALLOWED, Reason.AS_BEFORE, "podrate's keys are bad, but as they were")
    if any(follows_limit(container) for container in pod.init_containers):
        # Without a key the loader is told that there is no limit: it can't be taken out of a running pod.
        limit = limit or Limit()
        return _limited(limit, annotate(pod, {ANNOTATION: encode(limit)}), "the limit is as it was")
    if limit is None:
        return _without_limit(pod)
    if changed:
        raise _cannot(
            Reason.NO_LOADER,
            pod,
            "this pod runs without podrate's loader, which is only added when a pod is created",
            "the key on the workload's template, or on a pod created anew",
            "kubectl replace --force -f pod.yaml",
        )
    return Decision(Result.ALLOWED, Reason.AS_BEFORE, "older than podrate here, and podrate's keys are as they were")


def _refuse_another_image(pod: Pod, old: Pod, settings: Settings) -> None:
    """Another image in the loader's place would keep its capabilities, and not the limit."""
    before = {each.get("name"): each.get("image") for each in old.init_containers if follows_limit(each)}
    for index, each in enumerate(pod.init_containers):
        image = each.get("image")
        if each.get("name") in before and image not in (before[each["name"]], settings.image):
            where = f"spec.initContainers[{index}].image"
            reason = "the loader's image can't be changed"
            raise Refusal(Reason.LOADER_CHANGED, where, image, reason, "the image of this release", settings.image)


def _without_limit(pod: Pod) -> Decision:
    """Nobody but us writes podrate.io/limit: by hand it would look like a limit, and be none."""
    patch = annotate(pod, {ANNOTATION: None})
    if patch:
        return Decision(Result.PATCHED, Reason.NO_LIMIT, f"no key asks for a limit: {ANNOTATION} removed", patch)
    return Decision(Result.ALLOWED, Reason.NO_LIMIT, "no key asks for a limit")


def _limited(limit: Limit, patch: Sequence[Operation], already: str) -> Decision:
    if patch:
        return Decision(Result.PATCHED, Reason.LIMITED, encode(limit), patch)
    return Decision(Result.ALLOWED, Reason.LIMITED, already)


def _cannot(code: Reason, pod: Pod, reason: str, allowed: str, example: str) -> Invalid:
    """The pod asks for a limit that it can't get, whatever the value."""
    (_, key), value = next(iter(pod.keys.items()))
    return Refusal(code, key, value, reason, allowed, example)
