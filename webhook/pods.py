"""Pods: what becomes of one that is created, and of one that runs and is changed."""

from collections.abc import Mapping
from dataclasses import replace

from bandwidth.invalid import Invalid
from bandwidth.keys import BANDWIDTH, INJECT, KUBERNETES, Asked, ours
from bandwidth.limit import ANNOTATION, Limit, decode, encode
from bandwidth.policy import Outcome
from webhook import bounds, obstacles
from webhook.decision import Decision, Reason, Refusal, Result
from webhook.namespace import Namespace
from webhook.patch import Annotations, annotate, inject
from webhook.pod import Pod
from webhook.sidecar import NAME, Settings, follows_limit, is_loader
from webhook.wish import asked, wish


def created(pod: Pod, namespace: Namespace, settings: Settings) -> Decision:
    """A new pod, or a template of pods to come (whose patch nobody applies). Raises Invalid to reject it."""
    unreachable = obstacles.unreachable(pod)
    if unreachable and not asked(pod, settings).limiting:
        return _without_limit(pod, Outcome(None), _unlimited(namespace, unreachable["reason"]))
    says, outcome, text, warnings = wish(pod, pod.annotations, namespace, settings)
    if outcome.limit is None:
        return _without_limit(pod, outcome, _unheard(says, outcome))
    if outcome.once and not settings.once:  # few say so, and a copy takes 5 us of every review
        settings = replace(settings, once=True)
    if whole := pod.requests:
        settings = _within(settings, whole)
    obstacles.refuse(pod, says, namespace, settings, unreachable)
    patch = inject(pod, text, settings, _translated(pod, says, settings))
    result = Result.PATCHED if patch else Result.ALLOWED
    line = text if patch else "has it all already"
    if namespace.bounds:
        warnings = (*warnings, *bounds.tight(namespace.bounds, settings.requests, settings.limits))
    return Decision(result, Reason.LIMITED, line, patch, text, warnings)


def updated(pod: Pod, old: Pod, namespace: Namespace, settings: Settings, *, status: bool = False) -> Decision:
    """A running pod's limit follows its keys. Of its spec only images change; the loader's is the operator's.

    status: whether only the status subresource is written: that changes metadata too, and of the spec nothing.
    Raises Invalid to reject it.
    """
    if not status:
        _refuse_altered_loader(pod, old, settings)
    has_loader = any(follows_limit(container) for container in old.init_containers)
    before, now = _keys(old, settings), _keys(pod, settings)
    if before == now:
        return _as_before(pod, old, namespace, settings, has_loader=has_loader)
    if not has_loader and any(is_loader(container) for container in old.init_containers):
        _refuse_change(before, now)
    annotations = _newest(pod, old, settings) if has_loader else pod.annotations
    says, outcome, text, warnings = wish(pod, annotations, namespace, settings)
    if has_loader:
        # Without a limit the loader is told so: it can't be taken out of a running pod.
        patch = annotate(pod, {**_translated(pod, says, settings), ANNOTATION: text})
        reason = Reason.OPTED_OUT if outcome.opted_out else Reason.LIMITED if outcome.limit else Reason.NO_LIMIT
        lines = (*warnings, *_unheard(says, outcome))
        if says.inject() == "once":
            lines += (
                "podrate: podrate.io/inject: once is for new pods; this one's loader stays, and follows its keys",
            )
        result = Result.PATCHED if patch else Result.ALLOWED
        line = text if patch else "the limit is as it was"
        return Decision(result, reason, line, patch, text, lines)
    if outcome.limit is None:
        return _without_limit(pod, outcome, _unheard(says, outcome))
    written = {key: value for (_, key), value in now.items() - before.items() if key in says.names.values()}
    if written:
        key, value = min(written.items())
        why = "this pod runs without podrate's loader, which is only added when a pod is created"
        allowed = "the key on the workload's template, or on a pod created anew"
        raise Refusal(Reason.NO_LOADER, key, value, why, allowed, "kubectl replace --force -f pod.yaml")
    return _restored(pod, old, "without podrate's loader, and with fewer of its keys than before")


def _within(settings: Settings, whole: Mapping[str, object]) -> Settings:
    """The loader of a pod that requests `whole` for all its containers: that is not less than the sum of theirs.

    Kubernetes makes it their sum where a pod has only limits as a whole: more would never fit.
    """
    shared = {what: "0" for what in (*settings.requests, *settings.limits) if what in whole}
    return replace(settings, requests={**settings.requests, **shared})


def _translated(pod: Pod, says: Asked, settings: Settings) -> Annotations:
    """Kubernetes' own annotations become ours: where they stay, its CNI plugin limits the pod a second time."""
    wanted: dict[str, str | None] = {}
    for alias, key in KUBERNETES.items() if settings.kubernetes_annotations else ():
        if alias in pod.annotations:
            wanted[alias] = None
            if says.names.get(key) == alias:
                wanted[key] = pod.annotations[alias]
    return wanted


def _newest(pod: Pod, old: Pod, settings: Settings) -> Mapping[str, str]:
    """The annotations, less those that we made of Kubernetes' own and that somebody now writes anew in that form."""
    stale = {
        key
        for alias, key in KUBERNETES.items()
        if settings.kubernetes_annotations
        and alias in pod.annotations
        and pod.annotations.get(key) == old.annotations.get(key)
    }
    return {key: value for key, value in pod.annotations.items() if key not in stale}


def _keys(pod: Pod, settings: Settings) -> dict[tuple[str, str], str]:
    """What was written that can change the limit: {(place, key): value}."""
    aliases = KUBERNETES if settings.kubernetes_annotations else {}
    return {
        (place, key): value
        for place, metadata in (("labels", pod.labels), ("annotations", pod.annotations))
        for key, value in metadata.items()
        if (ours(key) and (place, key) != ("annotations", ANNOTATION)) or (place == "annotations" and key in aliases)
    }


def _as_before(pod: Pod, old: Pod, namespace: Namespace, settings: Settings, *, has_loader: bool) -> Decision:
    """The keys are as they were, good or bad, and so is the limit: the Namespace's rules are for new wishes.

    Without this nobody could remove the finalizers of a pod that is above a newer cap, or was bad before we came.
    """
    if has_loader:
        try:
            decode(old.annotations.get(ANNOTATION, ""))
        except Invalid:  # damaged while we were away: make it anew
            try:
                text = wish(pod, pod.annotations, namespace, settings).text
            except Invalid:
                text = encode(Limit())
            return Decision(Result.PATCHED, Reason.LIMITED, text, annotate(pod, {ANNOTATION: text}))
    return _restored(pod, old, "the limit is as it was" if has_loader else "podrate's keys are as they were")


def _restored(pod: Pod, old: Pod, line: str) -> Decision:
    patch = annotate(pod, {ANNOTATION: old.annotations.get(ANNOTATION)})
    return Decision(Result.PATCHED if patch else Result.ALLOWED, Reason.AS_BEFORE, line, patch)


def _without_limit(pod: Pod, outcome: Outcome, lines: tuple[str, ...] = ()) -> Decision:
    """Nobody but us writes podrate.io/limit: by hand it would look like a limit, and be none."""
    reason = Reason.OPTED_OUT if outcome.opted_out else Reason.NO_LIMIT
    line = "opted out" if outcome.opted_out else "no key asks for a limit"
    if patch := annotate(pod, {ANNOTATION: None}):
        return Decision(Result.PATCHED, reason, f"{line}: {ANNOTATION} removed", patch, warnings=lines)
    return Decision(Result.ALLOWED, reason, line, warnings=lines)


def _unheard(says: Asked, outcome: Outcome) -> tuple[str, ...]:
    """A wish that an opt-out overrules is not silently ignored, nor one for the loader without a limit."""
    if outcome.opted_out and says.limiting:
        keys = ", ".join(says.limiting)
        return (f"podrate: {keys} has no effect: podrate.io/inject is false here or on the Namespace",)
    if outcome == Outcome(None) and says.inject():
        return (f"podrate: {INJECT} asks for no limit by itself; write {BANDWIDTH} beside it",)
    return ()


def _unlimited(namespace: Namespace, why: str) -> tuple[str, ...]:
    """The Namespace's rules don't reach a pod where there can be no loader."""
    try:
        asked = bool(namespace.rules.limiting) and namespace.rules.inject() != "false"
    except Refusal:
        asked = True
    return (f"podrate: the limit of Namespace {namespace.name} does not hold for this pod: {why}",) if asked else ()


def _refuse_change(before: Mapping[tuple[str, str], str], now: Mapping[tuple[str, str], str]) -> None:
    """Nothing follows the keys of a pod whose loader has ended: they would only look changed."""
    (place, key), _ = min(before.items() ^ now.items())
    why = "this pod's limit was put in force once, when it was created, and nothing stays in it to change it"
    allowed = "the key on the workload's template, or on a pod created anew"
    example = "kubectl replace --force -f pod.yaml"
    raise Refusal(Reason.NO_LOADER, key, now.get((place, key), before.get((place, key))), why, allowed, example)


def _refuse_altered_loader(pod: Pod, old: Pod, settings: Settings) -> None:
    """What runs in the loader's place would keep its capabilities, and not the limit; and containers are immutable."""
    for before in old.init_containers:
        if not is_loader(before):
            continue
        places = [index for index, each in enumerate(pod.init_containers) if each.get("name") == NAME]
        allowed = "the loader as podrate put it there; a pod that never had it is created anew"
        example = "kubectl replace --force -f pod.yaml"
        if not places:
            reason = "the loader can't be taken out of a running pod; to end its limit, remove podrate's keys"
            raise Refusal(Reason.LOADER_CHANGED, "spec.initContainers", NAME, reason, allowed, example)
        now = pod.init_containers[places[0]]
        where = f"spec.initContainers[{places[0]}]"
        if now.get("image") not in (before.get("image"), settings.image):
            reason, allowed = "the loader's image can't be changed", "the image of this release"
            raise Refusal(Reason.LOADER_CHANGED, f"{where}.image", now.get("image"), reason, allowed, settings.image)
        if changed := sorted(key for key in {*before, *now} - {"image"} if before.get(key) != now.get(key)):
            reason = "the loader of a running pod can't be altered"
            raise Refusal(Reason.LOADER_CHANGED, f"{where}.{changed[0]}", NAME, reason, allowed, example)
