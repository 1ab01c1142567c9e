"""docs/labels.md: every key, every form, every rejection and every warning, in the words of the code.

    python -m tests.webhook.reference >docs/labels.md

Each line of its tables is a decision of the webhook's own about what stands beside it; test_reference.py holds the file
to them, and them to the code.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from bandwidth.duration import parse_duration
from bandwidth.keys import EXAMPLES, KUBERNETES
from bandwidth.rate import parse_rate
from tests.webhook.deciding import LIMIT, SETTINGS, loaded, of
from tests.webhook.reviews import pod, review
from tests.webhook.test_bounds import limit_range, quota, shop
from tests.webhook.test_templates import KINDS, applied, workload
from tests.webhook.test_totals import sized
from webhook.decision import Decision, unavailable
from webhook.namespace import ENFORCE, Namespace
from webhook.unavailable import Unavailable

Row = tuple[str, Decision]

RATES = ("10M", "1.5G", "500k", "1000", "64Ki", "10Mi", "10Mbit", "10Mbps", "1e7", "1.5e6", "1k", "1T")
BURSTS = ("20ms", "1.5s", "1s500ms", "1500us", "1000000ns", "1ms", "10s")
BAD_RATES = (
    *("10m", "10K", "10g", "10MB", "10MiB/s", "10Mb", "10 M", "-5M", "0", "999", "2T", "unlimited", "1_000", ".5M"),
    *("10Mbits/s", "10%", "", "fast", "1" * 64),
)
BAD_BURSTS = (
    *("20", "20m", "20MS", "20\u00b5s", "20msec", "2seconds", "1h", "64k", "-1ms", "20 ms", "", "100us", "11s", "fast"),
    "1" * 62 + "ms",
)
SHOP = Namespace("shop")
HONOURED = replace(SETTINGS, kubernetes_annotations=True)


def keys(**written: str) -> dict[str, str]:
    """Labels by the names of their keys."""
    return {f"podrate.io/{name.replace('_', '-')}": value for name, value in written.items()}


TEN = keys(bandwidth="10M")


def _written(labels: dict[str, str]) -> str:
    return ", ".join(f"`{key}: {value}`" if value else f'`{key}: ""`' for key, value in labels.items())


def _pods(*labels: dict[str, str], rules: dict[str, str] | None = None, **spec: object) -> Iterator[Row]:
    where = f" in a Namespace with {_written(rules)}" if rules else ""
    for each in labels:
        yield _written(each) + where, of(review(pod(each, **spec)), Namespace("shop", rules or {}))


def bad_values() -> Iterator[Row]:
    """Values that can't be read."""
    for text in BAD_RATES:
        yield from _pods(keys(egress=text))
    for text in BAD_BURSTS:
        yield from _pods(keys(egress="10M", burst=text))
    for text in ("False", "off", "Once", "maybe"):
        yield from _pods(keys(inject=text))
    yield from _pods(keys(bandwidth="10M", ingress_queue="yes"))


def bad_keys() -> Iterator[Row]:
    """Keys that can't be there, or not together."""
    yield from _pods(keys(bandwith="10M"), keys(speed="10M"), keys(max_egress="10M"))
    yield "annotation `PodRate.io/bandwidth: 10M`", of(review(pod({}, {"PodRate.io/bandwidth": "10M"})))
    both = pod(keys(egress="10M"), keys(egress="20M"))
    yield "label `podrate.io/egress: 10M`, annotation `podrate.io/egress: 20M`", of(review(both))
    yield from _pods(
        *(keys(burst="20ms"), keys(ingress_queue="true"), keys(egress="10M", ingress_queue="true")),
        *(
            keys(ingress="20G", ingress_queue="true"),
            keys(bandwidth="10M", burst="1ms"),
            keys(egress="1k", burst="10s"),
        ),
    )
    queue = keys(ingress="10M", ingress_queue="true")
    yield f"{_written(queue)}, `hostNetwork: true`", of(review(pod(queue, hostNetwork=True)))


def namespaces() -> Iterator[Row]:
    """What a Namespace's rules reject, and what they can't be."""
    capped = keys(max_bandwidth="10M")
    yield from _pods(keys(egress="20M"), keys(inject="false"), rules=capped)
    for labels in (
        *(keys(max_egress="1g"), keys(bandwidth="20M", max_ingress="10M")),
        *(keys(egress="1M", burst="1ms"), keys(egress="10M", max_ingress="1M", burst="2ms")),
    ):
        yield f"on a Namespace: {_written(labels)}", _namespace(labels)
    yield "on a Namespace, as an annotation: `podrate.io/egress: 1M`", _namespace({}, keys(egress="1M"))
    broken = Namespace("shop", keys(max_egress="1g"))
    yield "any pod in a Namespace whose rules are bad (they were there before podrate)", of(review(pod()), broken)
    away = unavailable("shop", Unavailable("get /api/v1/namespaces/shop: timed out"))
    yield "a pod in a new Namespace, while the API server does not answer podrate", away


def _namespace(labels: dict[str, str], annotations: dict[str, str] | None = None) -> Decision:
    raw = {"metadata": {"name": "shop", "labels": labels, "annotations": annotations}}
    return of(review(raw, resource={"group": "", "version": "v1", "resource": "namespaces"}))


def obstacles() -> Iterator[Row]:
    """Pods that no limit would hold in."""
    for what, spec in (
        ("spec.os.name: windows", {"os": {"name": "windows"}}),
        ("spec.hostUsers: false", {"hostUsers": False}),
        ("spec.runtimeClassName: gvisor", {"runtimeClassName": "gvisor"}),
    ):
        yield f"{_written(TEN)}, `{what}`", of(review(pod(TEN, **spec)))
    yield f"{_written(TEN)} on a static pod", of(review(pod(TEN, {"kubernetes.io/config.mirror": "x"})))
    for level in ("baseline", "restricted"):
        labels = {ENFORCE: level}
        yield (
            f"{_written(TEN)} in a Namespace with `{ENFORCE}: {level}`",
            of(review(pod(TEN)), Namespace("shop", labels)),
        )
    for item, said in (
        ({"min": {"cpu": "50m"}}, "min: {cpu: 50m}"),
        ({"max": {"memory": "32Mi"}}, "max: {memory: 32Mi}"),
        ({"maxLimitRequestRatio": {"cpu": "10"}}, "maxLimitRequestRatio: {cpu: 10}"),
    ):
        namespace = shop(ranges=[limit_range(item)])
        yield f"{_written(TEN)}, where a LimitRange says of each Container `{said}`", of(review(pod(TEN)), namespace)
    for item, of_all, said in (
        ({"max": {"memory": "1Gi"}}, {"memory": "1Gi"}, "max: {memory: 1Gi}"),
        ({"maxLimitRequestRatio": {"cpu": "1"}}, {"cpu": "100m"}, "maxLimitRequestRatio: {cpu: 1}"),
    ):
        namespace = shop(ranges=[limit_range(item, of_type="Pod")])
        (has,) = (f"{quantity} of {what}" for what, quantity in of_all.items())
        what = f"{_written(TEN)} on a pod of {has}, where a LimitRange says of each Pod `{said}`"
        yield what, of(review(sized(of_all)), namespace)
    unstated = replace(SETTINGS, limits={"memory": "64Mi"})
    namespace = shop(quotas=[quota({"limits.cpu": "10"})])
    what = f"{_written(TEN)}, where a ResourceQuota has `limits.cpu`, and the chart's `loader.resources` no cpu limit"
    yield what, of(review(pod(TEN)), namespace, unstated)


def names() -> Iterator[Row]:
    """Names that are podrate's."""
    other = {"name": "podrate", "image": "other"}
    yield "a container `podrate` of the pod's own", of(review(pod(TEN, containers=[other])))
    yield "an init container `podrate` that is not the loader", of(review(pod(TEN, initContainers=[other])))
    yield "a volume `podrate-state` of the pod's own", of(review(pod(TEN, volumes=[{"name": "podrate-state"}])))
    mounts = [{"name": "web", "volumeMounts": [{"name": "podrate-cgroup", "mountPath": "/x"}]}]
    yield "a container of the pod's own that mounts `podrate-cgroup`", of(review(pod(TEN, containers=mounts)))
    enters = review({"container": "podrate", "command": ["sh"]}, operation="CONNECT", subResource="exec")
    yield "`kubectl exec` or `attach` with `-c podrate`", of(enters)
    binding = {"metadata": {"name": "web", "annotations": {LIMIT: "{}"}}}
    about = {"group": "", "version": "v1", "resource": "bindings"}
    yield f"a Binding with the annotation `{LIMIT}`", of(review(binding, resource=about))


def running() -> Iterator[Row]:
    """Changes to a running pod."""
    old = loaded(TEN, {LIMIT: "{}"})
    changes: tuple[tuple[str, Callable[[Any], object]], ...] = (
        ("the loader taken out", lambda spec: spec.pop("initContainers")),
        ("another image for the loader", lambda spec: spec["initContainers"][0].update(image="other")),
        ("the loader altered", lambda spec: spec["initContainers"][0].update(args=["x"])),
    )
    for what, change in changes:
        new = copy.deepcopy(old)
        change(new["spec"])
        yield what, of(review(new, old))
    yield f"{_written(TEN)} added to a pod that runs without the loader", of(review(pod(TEN), pod()))
    ended, new = copy.deepcopy(old), loaded(keys(bandwidth="20M"), {LIMIT: "{}"})
    for each in (ended, new):
        del each["spec"]["initContainers"][0]["restartPolicy"]
    yield f"{_written(TEN)} changed, where the loader runs once", of(review(new, ended))
    debugger = {"name": "debugger", "volumeMounts": [{"name": "podrate-limit", "mountPath": "/x"}]}
    new = copy.deepcopy(old)
    new["spec"]["ephemeralContainers"] = [debugger]
    asked = review(new, old, subResource="ephemeralcontainers")
    yield "`kubectl debug` with a container that mounts `podrate-limit`", of(asked)
    new["spec"]["ephemeralContainers"] = [{"name": "debugger", "targetContainerName": "podrate"}]
    asked = review(new, old, subResource="ephemeralcontainers")
    yield "`kubectl debug --target=podrate`", of(asked)


def templates() -> Iterator[Row]:
    """The same in a template, by its path."""
    for kind in KINDS:
        yield f"{kind} with {_written(keys(egress='10m'))}", applied(kind, workload(kind, pod(keys(egress="10m"))))


def warned() -> Iterator[Row]:
    """What is accepted with a warning."""
    yield from _pods(keys(egress="63k"), keys(ingress="40G"), keys(bandwidth="10M", burst="2s"))
    yield from _pods(TEN, rules=keys(inject="false"))
    yield from _pods(keys(inject="true"), keys(inject="once"))
    for alias in KUBERNETES:
        alone, both = pod({}, {alias: "10M"}), pod(keys(bandwidth="1M"), {alias: "10M"})
        what = f"annotation `{alias}: 10M`"
        yield f"{what} alone, with the chart's `kubernetesAnnotations`", of(review(alone), SHOP, HONOURED)
        what += " beside `podrate.io/bandwidth: 1M`"
        yield f"{what}, with `kubernetesAnnotations`", of(review(both), SHOP, HONOURED)
        yield f"{what}, without `kubernetesAnnotations`", of(review(both))
    tight = shop(quotas=[quota({"limits.cpu": "10"}, {"limits.cpu": "9950m"})])
    yield f"{_written(TEN)}, where a ResourceQuota is nearly used up", of(review(pod(TEN)), tight)
    yield "a key on a Deployment itself", applied("Deployment", workload("Deployment", pod(), TEN))
    jobs = workload("CronJob", pod())
    jobs["spec"]["jobTemplate"]["metadata"] = {"labels": TEN}
    yield "a key in a CronJob's `spec.jobTemplate.metadata`", applied("CronJob", jobs)
    for what, other in (
        ("spec.os.name: windows", pod(os={"name": "windows"})),
        ("a static pod", pod(annotations={"kubernetes.io/config.mirror": "x"})),
    ):
        yield f"{what}, in a Namespace with {_written(TEN)}", of(review(other), Namespace("shop", TEN))
    old, new = (loaded(labels, {LIMIT: "{}"}) for labels in (TEN, TEN | keys(inject="once")))
    yield f"{_written(keys(inject='once'))} added to a pod that runs with the loader", of(review(new, old))
    yield f"on a Namespace: {_written(TEN)}, `{ENFORCE}: restricted`", _namespace(TEN | {ENFORCE: "restricted"})


REJECTED = (bad_values, bad_keys, namespaces, obstacles, names, running, templates)

_MEANINGS = {
    "bandwidth": "both directions",
    "egress": "what the pod sends; wins over `bandwidth`",
    "ingress": "what the pod receives; wins over `bandwidth`",
    "burst": "how much may pass at once after silence, as the time that it takes at the limit",
    "ingress-queue": "TCP that arrives above the limit waits in [a queue](decisions/0004-ingress-queue.md)",
    "inject": '`"false"`: no limit, whatever else is said; wins over all but a cap. `"true"`: over the Namespace\'s. '
    "`once`: the limit is put in force and [nothing stays](sidecar.md#once), so that it can't be changed",
    "max-bandwidth": "both directions: no pod may have more, and who asks for nothing gets this",
    "max-egress": "the same for what its pods send; wins over `max-bandwidth`",
    "max-ingress": "the same for what they receive",
}

_INTRODUCTION = """\
# Labels

<!-- made by `make docs` from the webhook's own decisions: tests/webhook/reference.py -->

Write them on a pod, or in a workload's `spec.template.metadata`, as labels or as annotations. A key that stands as both
must have one value. On a Namespace they are labels, and the defaults of its pods.
"""

_WHO_WINS = """\
## What wins

- For each direction the pod's own `egress` or `ingress`, else its `bandwidth`, else the Namespace's key for the
  direction, else the Namespace's `bandwidth`, else the Namespace's cap; else there is no limit.
- A limit above the Namespace's cap is rejected, with both numbers. Where there is a cap, `inject: "false"` on a pod is
  rejected too; on the Namespace it ends its caps.
- A Namespace's rules are for new wishes: a pod that runs keeps its limit until its own keys change. Then it gets what
  they, and the Namespace's rules of that moment, say.
- `podrate.io/limit` is the webhook's own annotation, which the loader reads. Whoever writes it gets it overwritten.
- Labels of pods in `kube-system`, `kube-node-lease`, podrate's own Namespace and those of the chart's
  `excludedNamespaces` do nothing.

With the chart's value `kubernetesAnnotations`, `kubernetes.io/egress-bandwidth` and `kubernetes.io/ingress-bandwidth`
ask for a limit where none of podrate's keys speaks for that direction. On the pod they are replaced by
`podrate.io/egress` and `ingress`: where the CNI plugin `bandwidth` runs, it finds none, and the pod is not limited
twice. A manifest with the old annotation can be applied again, and changed.
"""

_NOT_SEEN = """\
## What can't be said so early

- Of **ResourceQuotas** those with scopes: the API server's own words, `exceeded quota`, count the loader's requests and
  limits to the pod's. The chart's `loader.resources` makes them smaller. Such words are all that is said where podrate
  may not list LimitRanges and ResourceQuotas; everything else works without that right.
- A Namespace, a user or a runtime class that the API server's own configuration exempts from **PodSecurity** is not
  seen as such, nor is a level that this configuration gives to Namespaces without the label. Take the label off the
  former.
- **GKE Autopilot**, **Fargate** and the like reject the loader's hostPath or its capabilities.

## When podrate is away

- Pods that ask for a limit, and pods of Namespaces with defaults or caps, are not created, nor are their labels
  changed: `failed calling webhook "pods.podrate.io"`. All others are none of its business, and are not sent to it.
- Workloads and Namespaces are accepted unchecked: their pods are checked again.
- While the API server can't be asked, the webhook answers by the Namespaces' labels as it last knew them. It follows
  them by a watch, some milliseconds behind; the metric `podrate_namespaces_age_seconds` grows beyond a minute when the
  watch is broken.
"""


def document() -> str:
    """All of it."""
    parts = [_INTRODUCTION, "## On a pod, or as a default on its Namespace\n", _keys(_MEANINGS, 0, 6)]
    parts += ["## Caps, on a Namespace only\n", _keys(_MEANINGS, 6, 9), _WHO_WINS]
    parts += ["## Rates\n\nBits per second, from 1k to 1T, without a space.\n"]
    parts += [_table(("written", "bit/s"), [(f"`{text}`", f"{parse_rate(text, text):,}") for text in RATES])]
    parts += ["## Bursts\n\nA time, from 1ms to 10s, and at the limit no shorter than one packet takes.\n"]
    parts += [_table(("written", "ns"), [(f"`{text}`", f"{parse_duration(text, text):,}") for text in BURSTS])]
    parts += ['## Rejections\n\nWhat `kubectl` prints after `admission webhook "..." denied the request: `.\n']
    for section in REJECTED:
        parts += [f"### {(section.__doc__ or '').rstrip('.')}\n", _table(("written", "said"), _said(section()))]
    lines = [(what, _code(line)) for what, decision in warned() for line in decision.warnings]
    parts += ["## Warnings\n\nPrinted by `kubectl`; the object is accepted.\n", _table(("written", "said"), lines)]
    return "\n".join([*parts, _NOT_SEEN])


def _keys(meanings: dict[str, str], start: int, end: int) -> str:
    rows = [
        (f"`podrate.io/{key}`", f"`{EXAMPLES[f'podrate.io/{key}']}`", meaning)
        for key, meaning in list(meanings.items())[start:end]
    ]
    return _table(("key", "example", "meaning"), rows)


def _said(rows: Iterator[Row]) -> list[tuple[str, str]]:
    return [(what, _code(decision.line)) for what, decision in rows]


def _code(line: str) -> str:
    return f"`{line}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines: list[Any] = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    print(document(), end="")
