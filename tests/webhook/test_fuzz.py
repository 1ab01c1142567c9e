"""Ten thousand reviews and ten thousand labels: each is answered, in one line, and no patch is wrong."""

import base64
import copy
import json
import re
from decimal import Decimal
from typing import Any

import jsonpatch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from bandwidth.invalid import Invalid
from bandwidth.keys import CAPS, KEYS
from bandwidth.limit import MAX_RATE, MIN_RATE, decode
from bandwidth.rate import parse_rate
from tests.webhook.deciding import LIMIT, SETTINGS, loaded
from tests.webhook.reviews import pod, review
from tests.webhook.test_templates import KINDS, workload
from webhook.decide import decide
from webhook.decision import Result
from webhook.namespace import ENFORCE, Namespace
from webhook.request import BadRequest
from webhook.review import allowed, parse, rejected

THOROUGH = settings(
    max_examples=10_000,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],  # a failure is reported, not explained for minutes
    suppress_health_check=list(HealthCheck),
)

RATES = st.sampled_from(["10M", "1k", "1.5G", "64Ki", "10m", "10MB", "0", "true", "false", "20ms", "2s", ""])
LABELS = st.dictionaries(
    st.sampled_from([*KEYS, *CAPS, "podrate.io/bandwith", "app"]),
    RATES | st.text(max_size=5),
    max_size=3,
)
ANNOTATIONS = st.dictionaries(
    st.sampled_from([*KEYS, LIMIT, "kubernetes.io/egress-bandwidth", "kubernetes.io/config.mirror", "a/b~c"]),
    RATES | st.text(max_size=5),
    max_size=3,
)
RULES = st.dictionaries(st.sampled_from([*KEYS, *CAPS, ENFORCE]), RATES | st.just("restricted"), max_size=2)
CONTAINER = st.fixed_dictionaries(
    {"name": st.sampled_from(["web", "podrate", "é"])},
    optional={
        "image": st.just(SETTINGS.image),
        "volumeMounts": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["data", "podrate-limit"]), "mountPath": st.just("/x")}),
            max_size=2,
        ),
        "unknown": st.just({"field": [1, None]}),
    },
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "containers": st.lists(CONTAINER, max_size=2),
        "initContainers": st.lists(CONTAINER, max_size=2) | st.none(),
        "ephemeralContainers": st.lists(CONTAINER, max_size=1),
        "volumes": st.lists(st.sampled_from([{"name": "data"}, {"name": "podrate-state"}]), max_size=2) | st.none(),
        "imagePullSecrets": st.just([{"name": "mine"}]),
        "hostNetwork": st.booleans(),
        "hostUsers": st.booleans() | st.none(),
        "runtimeClassName": st.sampled_from(["kata", "runc"]),
        "os": st.sampled_from([{"name": "linux"}, {"name": "windows"}]),
    },
)
PODS = st.builds(lambda labels, annotations, spec: pod(labels, annotations, **spec), LABELS, ANNOTATIONS, SPECS)
RUNNING = st.builds(loaded, LABELS, ANNOTATIONS) | PODS
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


def about(group: str, resource: str, subresource: str = "") -> dict[str, Any]:
    return {"resource": {"group": group, "version": "v1", "resource": resource}, "subResource": subresource}


@st.composite
def reviews(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, str]]:
    """A review of any object that we judge, every second with anything put anywhere; and its Namespace's labels."""
    subresources = ["status", "ephemeralcontainers"]
    what = draw(st.sampled_from(["create", "update", *subresources, "workload", "namespace", "binding", "exec"]))
    if what == "create":
        asked = review(draw(PODS))
    elif what in ("update", *subresources):
        asked = review(draw(RUNNING), draw(RUNNING), **about("", "pods", what.replace("update", "")))
    elif what == "workload":
        kind = draw(st.sampled_from(sorted(KINDS)))
        old = workload(kind, draw(PODS)) if draw(st.booleans()) else None
        asked = review(workload(kind, draw(PODS), draw(LABELS)), old, **about(*KINDS[kind][:2]))
    elif what == "namespace":
        metadata = {"name": "shop", "labels": draw(LABELS), "annotations": draw(ANNOTATIONS)}
        asked = review({"metadata": metadata}, **about("", "namespaces"))
    elif what == "exec":
        options = {"container": draw(st.sampled_from(["", "podrate", "web"])), "command": ["sh"]}
        asked = review(options, operation="CONNECT", **about("", "pods", "exec"))
    else:
        asked = review({"metadata": {"annotations": draw(ANNOTATIONS)}}, **about("", "pods", "binding"))
    asked = copy.deepcopy(asked)  # its parts are the strategies' own
    if draw(st.booleans()):
        _replace(draw, asked, draw(ANYTHING))
    return asked, draw(RULES)


def _replace(draw: st.DrawFn, asked: dict[str, Any], anything: object) -> None:
    """Go down a random way, and put `anything` at its end."""
    here: Any = asked
    while True:
        inside = list(here) if isinstance(here, dict) else range(len(here))
        key = draw(st.sampled_from(inside))
        below = here[key]
        if not isinstance(below, dict | list) or not below or draw(st.integers(0, 3)) == 0:
            here[key] = anything
            return
        here = below


@THOROUGH
@given(reviews())
def test_every_review_gets_its_answer(case: tuple[dict[str, Any], dict[str, str]]) -> None:
    asked, rules = case
    namespace = Namespace("shop", rules)
    try:
        request = parse(json.dumps(asked).encode())
        before = copy.deepcopy(request)
        decision = decide(request, SETTINGS, namespace)
    except BadRequest as error:
        assert error.status == 400
        assert str(error).isprintable()
        assert len(str(error)) < 2000
        return
    assert request == before
    assert decision.line.isascii()
    assert decision.line.isprintable()
    for line in decision.warnings:
        assert line.isascii()
        assert line.isprintable()
    if decision.result is Result.REJECTED:
        response = json.loads(rejected(request["uid"], decision.line))["response"]
        assert (response["allowed"], response["status"]["code"]) == (False, 422)
        assert "patch" not in response
        return
    response = json.loads(allowed(request["uid"], decision.patch, decision.warnings, decision.audit))["response"]
    assert response["allowed"]
    assert ("patch" in response) == (decision.result is Result.PATCHED) == bool(decision.patch)
    if decision.patch:
        patched = jsonpatch.apply_patch(asked["request"]["object"], json.loads(base64.b64decode(response["patch"])))
        _right(asked, patched, rules)


def _right(asked: dict[str, Any], patched: dict[str, Any], rules: dict[str, str]) -> None:
    """The patch touched only what is ours, and once applied has nothing to add."""
    request = asked["request"]
    limit = (patched["metadata"].get("annotations") or {}).get(LIMIT)
    old_limit = ((request.get("oldObject") or {}).get("metadata", {}).get("annotations") or {}).get(LIMIT)
    if limit is not None and limit != old_limit:
        decode(limit)
    again = decide(request | {"object": patched}, SETTINGS, Namespace("shop", rules))
    assert again.patch == () or again.patch == [], "twice is once"
    for key, value in request["object"]["spec"].items():
        if isinstance(value, list):
            theirs = [item for item in patched["spec"][key] if item in value]
            assert sorted(map(str, theirs)) == sorted(map(str, value))
        elif value is not None:
            assert patched["spec"][key] == value
    assert patched["metadata"].get("labels") == request["object"]["metadata"].get("labels")


QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti|[eE][0-9]{1,2})?")
FORMS = st.builds(
    "{}{}{}{}".format,
    st.from_regex(r"[0-9]{0,5}", fullmatch=True),
    st.sampled_from(["", "", ".", ".5", ".25", ",", "_0"]),
    st.sampled_from(["", *"kMGT", "Ki", "Mi", "Gi", "Ti", "K", "m", "e3", "E6", "e+2", "KI", " M", "P"]),
    st.sampled_from(["", "", "", "bit", "bps", "B", "b", "Bps", "/s", "\n"]),
)


@THOROUGH
@given(FORMS | st.text(max_size=12) | st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True))
def test_the_parser_agrees_with_kubernetes_own(text: str) -> None:
    """The oracle: a strict form, and for its value the quantity parser of the official client."""
    bare = text.removesuffix("bit").removesuffix("bps") if text.endswith(("bit", "bps")) else text
    expected: Decimal | None = None
    if QUANTITY.fullmatch(bare) and not (bare != text and re.search("[eE]", bare)) and len(text) <= 63:
        value: Decimal = parse_quantity(bare)  # type: ignore[no-untyped-call]
        expected = value if MIN_RATE <= int(value) <= MAX_RATE and value <= MAX_RATE else None
    try:
        rate = parse_rate(text, "x")
    except Invalid as error:
        assert expected is None, f"{text!a} is {expected}"
        assert str(error).isascii()
        assert str(error).isprintable()
    else:
        assert expected is not None, f"{text!a} is no rate"
        assert rate == int(expected)
