"""The chart, as helm sees it, without a cluster's answer."""

import pytest

from .conftest import CHART
from .kubectl import Cluster

# Without a version, some helms take a Kubernetes for granted that is older than the chart's least.
TEMPLATE = ("helm", "template", "podrate", str(CHART), "--kube-version", "1.36")


def test_lints(cluster: Cluster) -> None:
    cluster.run("helm", "lint", "--strict", str(CHART))


def test_renders_the_same_bytes_each_time(cluster: Cluster) -> None:
    first, second = (cluster.run(*TEMPLATE).stdout for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "option",
    ["webhook.replica=3", "webhook.replicas=0", "loader.image.digest=sha256:12", "webhook.image.pullPolicy=never"],
)
def test_schema_rejects(cluster: Cluster, option: str) -> None:
    rendered = cluster.run(*TEMPLATE, "--set", option, check=False)
    assert rendered.returncode != 0
    assert "schema" in rendered.stderr


def test_digest_wins_over_tag(cluster: Cluster) -> None:
    digest = "sha256:" + 64 * "a"
    options = ["--set-string", f"loader.image.digest={digest},loader.image.tag=1"]
    rendered = cluster.run(*TEMPLATE, *options).stdout
    assert f"--loader-image=podrate/loader@{digest}" in rendered
