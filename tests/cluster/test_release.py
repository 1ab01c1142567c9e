"""The release as helm changes it: `helm test`, an upgrade from the chart before, and the way back."""

import json
import re
from pathlib import Path

import pytest

from tests.webhook.load import load
from webhook.api import Api

from .conftest import CHART, NAMESPACE, RELEASE, SYSTEM, Figures
from .kubectl import Cluster

pytestmark = pytest.mark.usefixtures("release")

# The chart as it was last; `git archive` of its directory. It goes when the next version makes this one the last.
PREVIOUS = Path(__file__).with_name("chart-0.1.0")
RATE = 20  # reviews a second: the node, its API server and the tests share two cores


def test_what_the_notes_say_to_try(cluster: Cluster) -> None:
    """As helm printed it after the installation."""
    notes = cluster.run("helm", "get", "notes", RELEASE, "-n", SYSTEM).stdout.replace("\\\n", "")
    ready, asked, refused, proof = re.findall(r"^  ((?:kubectl|helm) .*)$", notes, re.MULTILINE)
    cluster.run("bash", "-c", ready)
    limit = cluster.run("bash", "-c", asked).stdout
    assert limit == '{"v":1,"egress":10000000,"ingress":10000000}\n'
    assert limit.strip() in notes
    done = cluster.run("bash", "-c", refused, check=False)
    assert (done.returncode, "did you mean 10M?" in done.stderr) == (1, True)
    assert proof == f"helm -n {SYSTEM} test {RELEASE}"  # the next test, and docs/install.md


def test_helm_test_fails_where_podrate_does_not_act(cluster: Cluster) -> None:
    """That it succeeds elsewhere is in docs/install.md, and so in test_walkthrough.py."""
    cluster.run(
        *("helm", "upgrade", RELEASE, str(CHART), "-n", SYSTEM, "--reuse-values", "--wait", "--timeout", "90s"),
        f"--set=test.namespace={NAMESPACE},excludedNamespaces={{{NAMESPACE}}}",
    )
    status, said = _helm_test(cluster)
    assert status != 0
    assert 'podrate test: a pod with podrate.io/egress: "10m" was accepted' in said
    assert _test_objects(cluster) == []


def test_upgrade_and_rollback_fail_no_review(cluster: Cluster, api: Api, values: list[str], figures: Figures) -> None:
    """From the chart before to this one, back by `helm rollback`, and here again."""
    _upgrade(cluster, PREVIOUS, *values)
    assert _chart(cluster) == "podrate-0.1.0"
    before = _revision(cluster)
    with load(api, RATE, NAMESPACE) as reviews:
        _upgrade(cluster, CHART, *values)
    assert _chart(cluster) != "podrate-0.1.0"
    assert (reviews.failures, reviews.done > 2 * RATE) == ([], True)
    figures[f"slowest of {reviews.done} reviews during helm upgrade, s"] = reviews.slowest

    with load(api, RATE, NAMESPACE) as reviews:
        cluster.run("helm", "rollback", RELEASE, before, "-n", SYSTEM, "--wait", "--timeout", "90s")
    assert _chart(cluster) == "podrate-0.1.0"
    assert (reviews.failures, reviews.done > 2 * RATE) == ([], True)
    figures[f"slowest of {reviews.done} reviews during helm rollback, s"] = reviews.slowest
    _upgrade(cluster, CHART, *values)


def _helm_test(cluster: Cluster) -> tuple[int, str]:
    """How `helm test` ended, and all that it printed; helm puts the pod's lines in quotes of its own."""
    done = cluster.run("helm", "test", RELEASE, "-n", SYSTEM, "--timeout", "120s", check=False)
    return done.returncode, (done.stdout + done.stderr).replace('\\"', '"')


def _upgrade(cluster: Cluster, chart: Path, *options: str) -> None:
    command = ("helm", "upgrade", RELEASE, str(chart), "-n", SYSTEM, "--reset-values", "--wait", "--timeout", "90s")
    cluster.run(*command, *options)


def _chart(cluster: Cluster) -> str:
    """The chart that made what is there."""
    labels: dict[str, str] = cluster.get("-n", SYSTEM, "deployment", RELEASE)["metadata"]["labels"]
    return labels["helm.sh/chart"]


def _revision(cluster: Cluster) -> str:
    (release,) = json.loads(cluster.run("helm", "list", "-n", SYSTEM, "-o", "json").stdout)
    return str(release["revision"])


def _test_objects(cluster: Cluster) -> list[str]:
    kinds = "pods,roles,rolebindings,serviceaccounts"
    found = cluster.get("-A", kinds, "-l", "app.kubernetes.io/name=podrate-test")["items"]
    found += [each for each in cluster.get("pods")["items"] if each["metadata"]["name"].startswith("podrate-test")]
    return [f"{each['kind']} {each['metadata']['name']}" for each in found]
