"""The values: what is documented, what is allowed, and what goes together."""

import pytest

from charts import readme
from tests.chart.helm import CHART, Helm, Refused


def test_each_value_is_documented_and_allowed_for() -> None:
    """values.yaml, its comments and the schema name the same values."""
    values, schema = readme.values(), readme.schema()
    assert [each.name for each in values if not each.says] == []
    assert [each.name for each in values if each.name not in schema] == []
    sections = {each.name.rpartition(".")[0] for each in values} | {each.name.split(".")[0] for each in values}
    inside = tuple(f"{each.name}." for each in values)  # what is allowed in a value, such as resources.limits
    named = {each.name for each in values} | {name for each in sections for name in _path(each)}
    assert [name for name in schema if name not in named and not name.startswith(inside)] == []


def _path(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def test_nothing_else_is_allowed_anywhere() -> None:
    """Each section is closed, and each of its values has a default that is required to stay."""
    schema = readme.schema()
    sections = {name for each in readme.values() for name in _path(each.name)[:-1]}
    for name in sections:
        assert schema[name]["additionalProperties"] is False, name
        assert set(schema[name]["required"]) == set(schema[name]["properties"]), name


def test_the_readme_has_the_table_of_values() -> None:
    text = readme.README.read_text()
    assert text == readme.rewritten(text), "make docs"


def test_lints(helm: Helm) -> None:
    helm.run("lint", "--strict", str(CHART), "--kube-version", "1.36")


@pytest.mark.parametrize(
    ("option", "where"),
    [
        ("webhook.replica=3", "replica"),
        ("webhook.replicas=0", "/webhook/replicas"),
        ("webhook.image.pullPolicy=never", "/webhook/image/pullPolicy"),
        ("webhook.imagePullSecrets={Bad_Name}", "/webhook/imagePullSecrets/0"),
        ("webhook.failurePolicy=fail", "/webhook/failurePolicy"),
        ("webhook.priorityClassName=High", "/webhook/priorityClassName"),
        ("webhook.podDisruptionBudget.maxUnavailable=0", "/webhook/podDisruptionBudget/maxUnavailable"),
        ("webhook.nodeSpread=Always", "/webhook/nodeSpread"),
        ("webhook.networkPolicy.apiServerPorts={0}", "/webhook/networkPolicy/apiServerPorts/0"),
        ("webhook.networkPolicy.metricsFrom[0].cidr=10.0.0.0/8", "/webhook/networkPolicy/metricsFrom/0"),
        ("webhook.resources.limits.memory=1GB", "/webhook/resources/limits/memory"),
        ("webhook.image.repository=registry.example.com/podrate-webhook:0.1.0", "/webhook/image/repository"),
        ("loader.image.repository=https://registry.example.com/podrate-loader", "/loader/image/repository"),
        ("loader.image.digest=sha256:12", "/loader/image/digest"),
        ("excludedNamespaces={Kube}", "/excludedNamespaces/0"),
        ("commonLabels.team=a b", "/commonLabels/team"),
        ("commonAnnotations.note=1", "/commonAnnotations/note"),
    ],
)
def test_a_bad_value_is_refused_by_its_place(helm: Helm, option: str, where: str) -> None:
    with pytest.raises(Refused) as refused:
        helm.render(None, "--set", option)
    assert "specifications of the schema" in str(refused.value)
    assert where in str(refused.value)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["commonLabels.app\\.kubernetes\\.io/name=x"], "the chart sets this label itself"),
        (["commonLabels.podrate\\.io/egress=1M"], "a limit for the webhook itself would have no effect"),
        (["webhook.podAnnotations.podrate\\.io/egress=1M"], "a limit for the webhook itself would have no effect"),
        (["webhook.podLabels.app\\.kubernetes\\.io/instance=x"], "the Service and the Deployment find the pods"),
        (["webhook.podDisruptionBudget.maxUnavailable=2"], "maxUnavailable is 2, and webhook.replicas is 2"),
        (["monitoring.podMonitor=true"], "monitoring.podMonitor is true, and loader.metricsPort is 0"),
        (
            ["monitoring.prometheusRule=true"],
            "prometheusRule is true, and monitoring.serviceMonitor is false",
        ),
        (
            ["monitoring.prometheusRule=true", "monitoring.serviceMonitor=true", "monitoring.interval=5m"],
            "monitoring.interval is 5m, and monitoring.prometheusRule is true",
        ),
        (
            ["webhook.networkPolicy.enabled=false", "webhook.networkPolicy.metricsFrom[0].ipBlock.cidr=10.0.0.0/8"],
            "metricsFrom is set, and webhook.networkPolicy.enabled is false",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(helm: Helm, options: list[str], line: str) -> None:
    with pytest.raises(Refused) as refused:
        helm.render(None, *(f"--set={each}" for each in options))
    (said,) = [each for each in str(refused.value).splitlines() if line in each]
    assert said.startswith("Error: execution error at (podrate/templates/")
    assert "Allowed: " in said or "Example: " in said


@pytest.mark.parametrize("repository", ["webhook", "podrate/webhook", "127.0.0.1:5000/a/b_c", "registry.example.com/a"])
def test_a_repository(helm: Helm, repository: str) -> None:
    rendered = helm.render({"webhook": {"image": {"repository": repository, "tag": "1"}}})
    assert rendered.container["image"] == f"{repository}:1"


@pytest.mark.parametrize("release", ["my.release", "1st"])
def test_a_release_that_can_name_no_service_is_refused(helm: Helm, release: str) -> None:
    """By helm it is allowed; the API server would refuse the Service, half of the rest being there."""
    with pytest.raises(Refused, match=f"the release's name, {release}, makes no name of a Service. Allowed: "):
        helm.render(release=release)
