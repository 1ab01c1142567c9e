"""Ten thousand reviews and ten thousand labels: each is answered, in one line, and no patch is wrong."""

import base64
import json
import random
import re
import string
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

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

T = TypeVar("T")

THOROUGH = settings(
    max_examples=1_000,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],  # a failure is reported, not explained for minutes
    suppress_health_check=list(HealthCheck),
)

ODD = (
    "",
    " ",
    "\n",
    "\x00",
    "\u00e9",
    "\uff11",
    "\u202e",
    "\U0001f600",
    "a" * 300,
    "-1",
    "1_0",
    "None",
    "{}",
    "%s",
    '"',
    "1M\n",
)
VALUES = ("10M", "1k", "1.5G", "64Ki", "10m", "10MB", "0", "true", "false", "20ms", "2s", *ODD)
MISSPELT = ("podrate.io/bandwith", "PodRate.io/egress", "app")
ANNOTATED = (LIMIT, "kubernetes.io/egress-bandwidth", "kubernetes.io/config.mirror", "a/b~c")
LEAVES = (None, True, False, 0, -1, 2**60, 1.5, *ODD)
ANYTHING: Sequence[Any] = (
    *LEAVES,
    [],
    {},
    *([leaf] for leaf in LEAVES),
    *({"name": leaf} for leaf in LEAVES),
    [[{}]],
    {"a": [None]},
)


class Made:
    """A review of any object that we judge, every second with anything put anywhere; and its Namespace's labels.

    Made of a seed by Python's own generator, for hypothesis' draws would take most of the time.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311
        self.rules = self._some((*KEYS, *CAPS, ENFORCE), (*VALUES[:12], "restricted"), 2)
        asked = self._review()
        self.asked: dict[str, Any] = json.loads(json.dumps(asked))  # its parts may be one and the same
        if self._random.random() < 0.5:
            self._replace()

    def _review(self) -> dict[str, Any]:
        subresources = ["status", "ephemeralcontainers", "resize"]
        what = self._one(["create", "update", *subresources, "exec", "workload", "namespace", "binding"])
        if what == "create":
            return review(self._pod())
        if what in ("update", *subresources):
            return review(self._running(), self._running(), **about("", "pods", what.replace("update", "")))
        if what == "exec":
            entered = {"container": self._one(["web", "podrate"])}
            return review(entered, operation="CONNECT", **about("", "pods", "exec"))
        if what == "workload":
            kind = self._one(sorted(KINDS))
            old = workload(kind, self._pod()) if self._random.random() < 0.5 else None
            return review(workload(kind, self._pod(), self._labels()), old, **about(*KINDS[kind][:2]))
        if what == "namespace":
            metadata = {"name": "shop", "labels": self._labels(), "annotations": self._annotations()}
            return review({"metadata": metadata}, **about("", "namespaces"))
        return review({"metadata": {"annotations": self._annotations()}}, **about("", "pods", "binding"))

    def _replace(self) -> None:
        """Go down a random way, and put anything at its end."""
        here: Any = self.asked
        while True:
            key = self._one(list(here) if isinstance(here, dict) else range(len(here)))
            below = here[key]
            if not isinstance(below, dict | list) or not below or self._random.random() < 0.25:
                here[key] = self._one(ANYTHING)
                return
            here = below

    def _running(self) -> dict[str, Any]:
        return self._pod() if self._random.random() < 0.5 else loaded(self._labels(), self._annotations())

    def _pod(self) -> dict[str, Any]:
        volumes = [{"name": "data"}, {"name": "podrate-state"}]
        whole: dict[str, Callable[[], Any]] = {
            "containers": lambda: self._containers(2),
            "initContainers": lambda: self._containers(2) or None,
            "ephemeralContainers": lambda: self._containers(1),
            "volumes": lambda: self._random.choices(volumes, k=self._random.randrange(3)) or None,
            "imagePullSecrets": lambda: [{"name": "mine"}],
            "hostNetwork": lambda: self._one([True, False]),
            "hostUsers": lambda: self._one([True, False, None]),
            "runtimeClassName": lambda: self._one(["kata", "runc"]),
            "os": lambda: self._one([{"name": "linux"}, {"name": "windows"}]),
        }
        spec = {key: make() for key, make in whole.items() if self._random.random() < 0.4}
        return pod(self._labels(), self._annotations(), **spec)

    def _containers(self, most: int) -> list[dict[str, Any]]:
        found = []
        for _ in range(self._random.randrange(most + 1)):
            it: dict[str, Any] = {"name": self._one(["web", "podrate", "\u00e9"])}
            mounts = [{"name": self._one(["data", "podrate-limit"]), "mountPath": "/x"}]
            more = {"image": SETTINGS.image, "volumeMounts": mounts, "unknown": {"field": [1, None]}}
            more["resources"] = {"limits": {"cpu": self._one(["1m", "100m"])}}
            found.append(it | {key: value for key, value in more.items() if self._random.random() < 0.5})
        return found

    def _labels(self) -> dict[str, str]:
        return self._some((*KEYS, *CAPS, *MISSPELT), VALUES, 3)

    def _annotations(self) -> dict[str, str]:
        return self._some((*KEYS, *ANNOTATED), VALUES, 3)

    def _some(self, keys: Sequence[str], values: Sequence[str], most: int) -> dict[str, str]:
        return {self._one(keys): self._one(values) for _ in range(self._random.randrange(most + 1))}

    def _one(self, of: Sequence[T]) -> T:
        return self._random.choice(of)


def about(group: str, resource: str, subresource: str = "") -> dict[str, Any]:
    return {"resource": {"group": group, "version": "v1", "resource": resource}, "subResource": subresource}


def test_every_review_gets_its_answer() -> None:
    first = random.randrange(2**32)  # noqa: S311
    results = set()
    for seed in range(first, first + 10_000):
        made = Made(seed)
        try:
            results.add(_answered(made.asked, made.rules))
        except Exception as error:
            error.add_note(f"Made({seed}): {json.dumps(made.asked)[:3000]} with {made.rules}")
            raise
    assert results == {None, *Result}, "of each there were some"


def _answered(asked: dict[str, Any], rules: dict[str, str]) -> Result | None:
    """What became of it; None for a bad request."""
    namespace = Namespace("shop", rules)
    try:
        request = parse(json.dumps(asked).encode())
        before = json.dumps(request)
        decision = decide(request, SETTINGS, namespace)
    except BadRequest as error:
        assert error.status == 400
        assert str(error).isprintable()
        assert len(str(error)) < 2000
        return None
    assert json.dumps(request) == before
    assert decision.line.isascii()
    assert decision.line.isprintable()
    for line in decision.warnings:
        assert line.isascii()
        assert line.isprintable()
    if decision.result is Result.REJECTED:
        response = json.loads(rejected(request["uid"], decision.line))["response"]
        assert (response["allowed"], response["status"]["code"]) == (False, 422)
        assert "patch" not in response
        return decision.result
    response = json.loads(allowed(request["uid"], decision.patch, decision.warnings, decision.audit))["response"]
    assert response["allowed"]
    assert ("patch" in response) == (decision.result is Result.PATCHED) == bool(decision.patch)
    if decision.patch:
        patched = jsonpatch.apply_patch(asked["request"]["object"], json.loads(base64.b64decode(response["patch"])))
        _right(asked, patched, rules)
    return decision.result


def _right(asked: dict[str, Any], patched: dict[str, Any], rules: dict[str, str]) -> None:
    """The patch touched only what is ours, and once applied has nothing to add."""
    request = asked["request"]
    limit = (patched["metadata"].get("annotations") or {}).get(LIMIT)
    old = request["oldObject"] if request["operation"] == "UPDATE" else {}  # on CREATE nobody reads it
    old_limit = (old.get("metadata", {}).get("annotations") or {}).get(LIMIT)
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
PARTS = (
    ("", "0", "1", "10", "64", "100", "999", "1000", "00012", "34567"),
    ("", "", ".", ".5", ".25", ",", "_0"),
    ("", *"kMGT", "Ki", "Mi", "Gi", "Ti", "K", "m", "e3", "E6", "e+2", "KI", " M", "P"),
    ("", "", "", "bit", "bps", "B", "b", "Bps", "/s", "\n"),
)


def test_the_parser_agrees_with_kubernetes_own() -> None:
    """On ten thousand forms: pieces of rates, each fifth with a sign of a label put somewhere."""
    rates = 0
    for _ in range(10_000):
        text = "".join(map(random.choice, PARTS))
        if random.random() < 0.2:  # noqa: S311
            place = random.randrange(len(text) + 1)  # noqa: S311
            text = text[:place] + random.choice(string.ascii_letters + string.digits + "._-") + text[place:]  # noqa: S311
        rates += _agrees(text)
    assert 500 < rates < 9_500


@THOROUGH
@given(st.text(max_size=12) | st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True))
def test_it_agrees_on_whatever_text(text: str) -> None:
    _agrees(text)


def _agrees(text: str) -> bool:
    """Whether it is a rate. The oracle: a strict form, and for its value the quantity parser of the official client."""
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
    return expected is not None
