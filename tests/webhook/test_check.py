"""`podrate check`: the same decision, offline."""

import argparse
import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bandwidth.limit import Limit
from tests.webhook.conftest import ROOT
from tests.webhook.control_plane import ControlPlane
from tests.webhook.deciding import of
from tests.webhook.reviews import pod, review
from webhook.check import declare, describe
from webhook.decision import Result
from webhook.manifests import Unreadable, read

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata: {labels: {podrate.io/bandwidth: %s}}
    spec: {containers: [{name: web, image: nginx}]}
"""
NAMESPACE = "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {podrate.io/max-bandwidth: 5M}}}\n"
POD = "{apiVersion: v1, kind: Pod, metadata: {name: %s, labels: {%s}}, spec: {containers: []}}\n"


def check(*arguments: str, stdin: str | bytes = "") -> subprocess.CompletedProcess[str]:
    """As it is installed: by way of the one command."""
    command = [sys.executable, "-m", "loader", "check", *arguments]
    text = stdin if isinstance(stdin, bytes) else stdin.encode()
    done = subprocess.run(command, input=text, cwd=ROOT, capture_output=True, timeout=30)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_limits_and_rejections(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(
        "\n# a comment\n---\n---\n".join(
            [DEPLOYMENT % "10M", DEPLOYMENT % "10m", POD % ("a", "podrate.io/egress: 20k, podrate.io/burst: 2s")]
        )
    )
    done = check(str(file))
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        f"{file}:1: Deployment shop/web: egress 10M, ingress 10M",
        f"{file}:12: Deployment shop/web: rejected: spec.template.metadata.labels[podrate.io/bandwidth]: "
        '"10m": m means milli; did you mean 10M? '
        "Allowed: a number and k, M, G or T (or Ki, Mi, Gi, Ti) in bits per second, from 1k to 1T. Example: 10M",
        f"{file}:23: Pod default/a: egress 20k, burst 2s",
        f"{file}:23: Pod default/a: warning: egress is limited to 20kbit/s; below 64k TCP hardly works",
        f"{file}:23: Pod default/a: warning: a burst of 2s exceeds the limit for longer than a second",
    ]
    file.write_text(DEPLOYMENT % "10M")
    assert check(str(file)).returncode == 0


def test_namespaces_from_a_file_or_beside_their_pods(tmp_path: Path) -> None:
    namespaces = tmp_path / "namespaces.yaml"
    namespaces.write_text(NAMESPACE)
    capped = check("--namespace-file", str(namespaces), "-", stdin=DEPLOYMENT % "10M")
    assert capped.returncode == 1
    assert '"10M": it is above the cap of the Namespace, podrate.io/max-bandwidth: 5M.' in capped.stdout
    assert len(capped.stdout.splitlines()) == 1, "the Namespaces' own file is not what is checked"
    beside = check("-", stdin=DEPLOYMENT % "10M" + "---\n" + NAMESPACE)
    assert beside.stdout.splitlines() == [
        capped.stdout.rstrip(),
        "-:9: Namespace shop: rules for its pods: podrate.io/max-bandwidth",
    ]
    default = check("--namespace-file", str(namespaces), "--namespace=shop", "-", stdin=POD % ("a", ""))
    assert default.stdout == "-:1: Pod shop/a: egress 5M, ingress 5M\n"
    namespaces.write_text(NAMESPACE.replace("5M", "5m"))
    broken = check("--namespace-file", str(namespaces), "-", stdin=DEPLOYMENT % "1M")
    assert "rejected: Namespace shop: metadata.labels[podrate.io/max-bandwidth]" in broken.stdout


def test_json(tmp_path: Path) -> None:
    done = check("--json", "-", stdin=POD % ("a", 'podrate.io/ingress: 1M, podrate.io/ingress-queue: "true"'))
    assert done.returncode == 0
    assert json.loads(done.stdout) == [
        {
            "file": "-",
            "line": 1,
            "column": None,
            "kind": "Pod",
            "namespace": "default",
            "name": "a",
            "result": "allowed",
            "reason": "limited",
            "message": "ingress 1M, ingress queue",
            "limit": {"ingress": 1_000_000, "ingress_queue": True},
            "warnings": [],
        }
    ]
    (broken,) = json.loads(check("--json", "-", stdin="a: [").stdout)
    assert (broken["result"], broken["reason"], broken["line"], broken["limit"]) == ("rejected", "unreadable", 1, None)
    (missing,) = json.loads(check("--json", str(tmp_path / "none")).stdout)
    assert missing["message"] == "No such file or directory"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\nb: 2", "-:2:2: rejected: not YAML: expected ',' or ']', but got ':'"),
        ("kind: Pod\n  spec: x", "-:2:7: rejected: not YAML: mapping values are not allowed here"),
        ("{{ if .Values.x }}\nkind: Pod", "-:1:"),
        ("a: b\ta: *nobody", "-:1:"),
        ("a: 1\nb: 2\na: 3", "-:3:1: rejected: not YAML: 'a' is there twice"),
        ("\x00", "-:1:1: rejected: not YAML: "),
        ("kind: Pod\r\nname: \u00e4\x1b", "-:2:8: rejected: not YAML: unacceptable character #x001b: special "),
        (
            b"kind: Pod\nname: \xc3\xa4\xff",
            "-:2:8: rejected: not YAML: unacceptable character #x00ff: invalid start byte",
        ),
        (b"\xff\xfe\xfd", "-:1:2: rejected: not YAML: "),
        ("{apiVersion: v1, kind: List, items: [null]}", "-:1: rejected: a Kubernetes object is a mapping, not null"),
        ("[1, 2]", "-:1: rejected: a Kubernetes object is a mapping, not a list"),
        ("just text", "-:1: rejected: a Kubernetes object is a mapping, not text"),
        ("kind: Pod", "-:1: rejected: apiVersion or kind is missing"),
        ("[" * 5_000, "-: rejected: it is nested too deeply"),
        ("{apiVersion: v1, kind: Pod, metadata: {}}", "-:1: Pod default: rejected: spec must be an object, not null"),
        (
            POD % ("a", "podrate.io/egress: 1e7"),
            'metadata.labels["podrate.io/egress"] must be in quotes, or it is a number',
        ),
        (POD % ("a", "podrate.io/inject: false"), "must be in quotes, or it is a boolean"),
        (POD % ("a", "podrate.io/egress: [1M]"), "must be a string, not a list"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_what_can_not_be_read_is_one_line_with_its_place(text: str | bytes, said: str) -> None:
    done = check("-", stdin=text)
    assert (done.returncode, done.stderr) == (1, "")
    (line,) = done.stdout.splitlines()
    assert said in line


@pytest.mark.parametrize(
    "text",
    [
        (DEPLOYMENT % "10M").replace("\n", "\r\n"),
        "\ufeff" + DEPLOYMENT % "10M",
        json.dumps(yaml.safe_load(DEPLOYMENT % "10M"), indent="\t"),
        "\ufeff" + json.dumps(yaml.safe_load(DEPLOYMENT % "10M"), indent="\t"),
        "---\n" + DEPLOYMENT % "10M" + "...\n---\n---\n",
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [yaml.safe_load(DEPLOYMENT % "10M")]}),
        json.dumps({"apiVersion": "apps/v1", "kind": "DeploymentList", "items": [yaml.safe_load(DEPLOYMENT % "10M")]}),
        (DEPLOYMENT % "10M").replace("namespace: shop", "namespace: shop, annotations: {since: 2024-01-01, is: =}"),
        (DEPLOYMENT % "&rate 10M") + "x: {<<: {a: 1}, a: *rate}\n",
    ],
    ids=["crlf", "bom", "json", "json with bom", "documents", "list", "typed list", "dates", "anchors"],
)
def test_every_form_of_a_manifest(text: str) -> None:
    (line,) = check("-", stdin=text).stdout.splitlines()
    assert line.endswith(": Deployment shop/web: egress 10M, ingress 10M")


def test_json_objects_one_after_another() -> None:
    """As `jq .items[]` writes them, and kubectl reads them."""
    it = json.dumps(yaml.safe_load(DEPLOYMENT % "10M"), indent="\t")
    assert check("-", stdin=f"{it}\n\r\n{it}{it}\n").stdout == "".join(
        f"-:{line}: Deployment shop/web: egress 10M, ingress 10M\n"
        for line in (1, it.count("\n") + 3, 2 * it.count("\n") + 3)
    )


PLAIN = (
    *(
        "12:30:45",
        "190:20:30",
        "yes",
        "y",
        "N",
        "on",
        "off",
        "True",
        "TRUE",
        "tRue",
        "~",
        "null",
        "",
        "0x1F",
        "0o17",
        "017",
    ),
    *(
        "08",
        "1_000",
        "1e3",
        "1E7",
        ".5",
        "5.",
        "+1",
        "-0",
        ".inf",
        "2024-01-01",
        "=",
        "0b11",
        "1e+3",
        "1.2.3",
        "1__0",
        "0x",
    ),
    *("1.5e6", "'1'", "_1", "1_0.5", "0_8", "10M", "1e", "-", "Null", "!!str 5"),
)


def test_a_plain_word_is_read_as_kubectl_reads_it(plane: ControlPlane, tmp_path: Path) -> None:
    """A word that is a number or a boolean to kubectl is no label, and none to us."""
    for number, word in enumerate(PLAIN):
        text = f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: word-{number}\n  annotations:\n    key: {word}\n"
        (tmp_path / f"{number}.yaml").write_text(text + "spec:\n  containers: [{name: a, image: b}]\n")
    create = ["create", "--dry-run=client", "--validate=false", "-o", "name", "-f", str(tmp_path)]
    theirs = set(re.findall(r"^pod/word-(\d+)$", plane.kubectl(*create, check=False), re.M))
    done = check("--json", *(str(each) for each in tmp_path.iterdir()))
    ours = {found["name"].removeprefix("word-") for found in json.loads(done.stdout) if found["result"] == "allowed"}
    assert len(theirs) > 10
    assert {PLAIN[int(number)] for number in ours ^ theirs} == set()


def test_a_closed_standard_input_is_one_line() -> None:
    command = [sys.executable, "-m", "loader", "check", "-"]
    done = subprocess.run(["bash", "-c", '"$@" <&-', "bash", *command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "-: rejected: standard input is closed\n", "")


def test_what_is_not_judged_is_not_mentioned() -> None:
    done = check("-", stdin="{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}")
    assert (done.returncode, done.stdout) == (0, "no pod, no workload and no Namespace in these files\n")


def test_namespaces_that_the_chart_leaves_alone() -> None:
    done = check("--namespace=kube-system", "-", stdin=POD % ("a", "podrate.io/egress: 10m"))
    assert (done.returncode, done.stdout) == (
        0,
        "-:1: Pod kube-system/a: no limit: the chart leaves this Namespace alone\n",
    )


@pytest.mark.parametrize(
    "metadata",
    ["{name: kube-system, labels: {podrate.io/bandwidth: 10m}}", "{name: kube-node-lease, labels: {podrate.io/x: x}}"],
)
def test_nor_are_these_namespaces_judged(metadata: str) -> None:
    done = check("-", stdin=f"{{apiVersion: v1, kind: Namespace, metadata: {metadata}}}")
    assert (done.returncode, "the chart leaves this Namespace alone" in done.stdout) == (0, True)


def test_a_namespace_is_one_of_kubernetes_own() -> None:
    """Others have a kind by that name too, such as a message broker's."""
    other = "--- {apiVersion: servicebus.azure.com/v1beta20211101, kind: Namespace, metadata: {name: shop}}\n"
    done = check("-", stdin=DEPLOYMENT % "10M" + "---\n" + NAMESPACE + other)
    assert "it is above the cap of the Namespace" in done.stdout
    assert len(done.stdout.splitlines()) == 2


def test_what_aliases_make_endless_is_one_line() -> None:
    """Or as good as endless, which would take a pipeline's memory."""
    for text in (
        "metadata: {labels: &a {x: *a}}",
        f"a: &a0 [x, x]\n{BOMB}metadata: {{labels: {{podrate.io/egress: *a40}}}}",
    ):
        done = check("-", stdin=f"apiVersion: v1\nkind: Namespace\n{text}\n")
        said = "-:1: rejected: it is too large, or without end, when its aliases are written out\n"
        assert (done.returncode, done.stdout, done.stderr) == (1, said, "")


BOMB = "".join(f"a{number}: &a{number + 1} [*a{number}, *a{number}]\n" for number in range(40))


@pytest.mark.parametrize(("key", "value"), [("name", "5"), ("namespace", "[x]"), ("generateName", "true")])
def test_a_name_that_kubectl_would_refuse(key: str, value: str) -> None:
    done = check("-", stdin=f"{{apiVersion: v1, kind: Pod, metadata: {{{key}: {value}}}, spec: {{}}}}")
    assert done.returncode == 1
    assert f"metadata.{key} must be " in done.stdout


def test_what_the_operator_has_chosen() -> None:
    text = (POD % ("a", "podrate.io/egress: 1M")).replace("containers: []", "runtimeClassName: %s")
    assert check("-", stdin=text % "kata-qemu").returncode == 1
    other = ["--sandboxed-runtime-class=mine-*", "--sandboxed-runtime-class=theirs", "-"]
    assert check(*other, stdin=text % "kata-qemu").returncode == 0
    assert "runtime class 'mine-1' is a sandbox" in check(*other, stdin=text % "mine-1").stdout
    for name in ("infra", "kube-system"):
        done = check("--excluded-namespace=infra", f"--namespace={name}", "-", stdin=text % "gvisor")
        assert (done.returncode, "the chart leaves this Namespace alone" in done.stdout) == (0, True)


def test_kubernetes_annotations() -> None:
    text = (
        "{apiVersion: v1, kind: Pod, metadata: {name: a, annotations: {kubernetes.io/egress-bandwidth: 1M}}, spec: {}}"
    )
    assert check("-", stdin=text).stdout == "-:1: Pod default/a: no limit\n"
    assert "Pod default/a: egress 1M\n" in check("--kubernetes-annotations", "-", stdin=text).stdout


def test_without_pyyaml_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "yaml.py").write_text("raise ImportError\n")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from loader.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "check", "-"], cwd=ROOT, capture_output=True, text=True, input="", timeout=30
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "podrate: check needs PyYAML: pip install 'podrate[check]'\n"


labels = st.dictionaries(
    st.sampled_from(["podrate.io/bandwidth", "podrate.io/egress", "podrate.io/burst", "podrate.io/inject", "app"]),
    st.sampled_from(["10M", "1k", "20ms", "true", "false", "10m"]) | st.text(max_size=5),
    max_size=3,
)


@given(labels)
def test_the_webhook_says_the_same(written: dict[str, str]) -> None:
    manifest = pod(written)
    decision = of(review(manifest))
    parser = argparse.ArgumentParser()
    work = declare(parser)
    output = io.StringIO()
    stdin = mock.Mock(buffer=io.BytesIO(json.dumps(manifest).encode()))
    with mock.patch("sys.stdin", stdin), contextlib.redirect_stdout(output):
        code = work(parser.parse_args(["--json", "-"]))
    (said,) = json.loads(output.getvalue())
    assert code == (decision.result is Result.REJECTED)
    assert (said["reason"], said["warnings"]) == (
        decision.reason.value,
        [line.removeprefix("podrate: ") for line in decision.warnings],
    )
    if decision.result is Result.REJECTED:
        assert said["message"] == decision.line


anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(anything)
def test_whatever_yaml_holds_is_objects_or_one_line(value: object) -> None:
    try:
        for manifest in read(yaml.safe_dump(value).encode()):
            assert isinstance(manifest.raw, dict)
    except Unreadable as error:
        assert str(error).isprintable()


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_whatever_bytes_are_objects_or_one_line(text: bytes) -> None:
    try:
        list(read(text))
    except Unreadable as error:
        assert str(error).isprintable()
        assert str(error).isascii()


def test_the_examples() -> None:
    done = check(*sorted(str(each.relative_to(ROOT)) for each in (ROOT / "examples").glob("*.yaml")))
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "examples/deployment.yaml:2: Deployment shop/web: egress 50M, ingress 10M",
        "examples/namespace.yaml:3: Namespace shop: rules for its pods: podrate.io/bandwidth, podrate.io/max-bandwidth",
        "examples/pod.yaml:2: Pod default/web: egress 10M, ingress 10M",
    ]


def test_a_limit_in_words() -> None:
    assert describe(Limit(1_500_000, 2_000_000, 20_000_000, ingress_queue=True)) == (
        "egress 1.5M, ingress 2M, burst 20ms, ingress queue"
    )
