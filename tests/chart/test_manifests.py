"""The rendered objects fit each other, and are what the values say."""

from typing import Any

import pytest

from bandwidth.keys import LIMITING
from tests.chart.helm import CHART, NAMESPACE, RELEASE, Helm, Object, Rendered, pods_of
from webhook import options

CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "MutatingWebhookConfiguration"}
# Of each, something: what every object must bear, every object does.
EVERYTHING = {"commonLabels": {"team": "network"}, "commonAnnotations": {"note": "ours", "n": "1"}}


@pytest.fixture(scope="module")
def rendered(helm: Helm) -> Rendered:
    return helm.render()


@pytest.fixture(scope="module")
def everything(helm: Helm) -> Rendered:
    return helm.render(EVERYTHING)


def test_the_same_bytes_each_time(helm: Helm, rendered: Rendered) -> None:
    assert helm.render().text == rendered.text


def test_what_is_made(rendered: Rendered) -> None:
    assert sorted(each["kind"] for each in rendered.objects) == [
        *("ClusterRole", "ClusterRoleBinding", "Deployment", "MutatingWebhookConfiguration", "NetworkPolicy"),
        *("PodDisruptionBudget", "ResourceQuota", "Role", "RoleBinding", "Secret", "Service", "ServiceAccount"),
    ]


def test_each_object_is_named_for_the_release_and_where_it_is(everything: Rendered) -> None:
    for each in everything.objects:
        metadata = each["metadata"]
        assert metadata["name"].startswith("podrate"), each["kind"]
        assert metadata.get("namespace") == (None if each["kind"] in CLUSTER_WIDE else NAMESPACE), each["kind"]
        assert metadata["labels"]["app.kubernetes.io/instance"] == "podrate"


def test_labels_and_annotations_for_everything(everything: Rendered) -> None:
    for each in (*everything.objects, *everything.tests, *pods_of(everything.objects)):
        assert each["metadata"]["labels"].items() >= EVERYTHING["commonLabels"].items()
        assert each["metadata"]["annotations"].items() >= EVERYTHING["commonAnnotations"].items()


@pytest.mark.parametrize("release", ["podrate", "a", "network-podrate-eu", "x" * 53])
def test_names_stay_within_their_limits(helm: Helm, release: str) -> None:
    for each in helm.render(release=release).objects:
        assert len(each["metadata"]["name"]) <= 63
        assert "podrate" in each["metadata"]["name"] or release == "x" * 53


def test_every_selector_finds_the_webhook(everything: Rendered) -> None:
    labels = everything.pod["metadata"]["labels"].items()
    selectors: list[Object] = [
        everything.one("Deployment")["spec"]["selector"]["matchLabels"],
        everything.one("Service")["spec"]["selector"],
        everything.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        everything.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(each["labelSelector"]["matchLabels"] for each in everything.pod["spec"]["topologySpreadConstraints"]),
    ]
    assert len(selectors) == 6
    for each in selectors:
        assert each == selectors[0]
        assert each.items() <= labels
    # A Deployment's can never be changed: what may differ between two revisions or values must not be in it.
    assert set(selectors[0]) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}


def test_every_port_that_is_named_is_there(rendered: Rendered) -> None:
    ports = {each["name"]: each["containerPort"] for each in rendered.container["ports"]}
    probes = {f"{each}Probe" for each in ("startup", "readiness", "liveness")}
    named = {each["targetPort"] for each in rendered.one("Service")["spec"]["ports"]}
    named |= {rendered.container[probe]["httpGet"]["port"] for probe in probes}
    for rule in rendered.one("NetworkPolicy")["spec"]["ingress"]:
        named |= {each["port"] for each in rule["ports"]}
    assert named == set(ports)
    chosen = options.parse(rendered.container["args"])
    assert ports == {"https": chosen.port, "health": chosen.health_port}
    client = rendered.one("MutatingWebhookConfiguration")["webhooks"][0]["clientConfig"]["service"]
    assert {"name": "https", "port": client["port"], "targetPort": "https"} in rendered.one("Service")["spec"]["ports"]


def test_the_webhook_understands_its_options(helm: Helm) -> None:
    """By its own parser. What the chart names there, the chart makes."""
    digest = "sha256:" + 64 * "a"
    rendered = helm.render({"loader": {"image": {"tag": "1", "digest": digest, "pullPolicy": "Always"}}})
    chosen = options.parse(rendered.container["args"])
    assert (chosen.settings.image, chosen.settings.pull_policy) == (f"podrate/loader@{digest}", "Always")
    assert chosen.configuration == rendered.one("MutatingWebhookConfiguration")["metadata"]["name"]
    certificate = chosen.certificate
    assert isinstance(certificate, options.SelfSigned)
    assert certificate.namespace == NAMESPACE
    assert certificate.secret == rendered.one("Secret")["metadata"]["name"]
    assert certificate.service == rendered.one("Service")["metadata"]["name"]


def test_quantities_that_are_numbers(helm: Helm) -> None:
    """In a file a large one is a float to helm, and 3.3554432e+07 to printf."""
    rendered = helm.render({"loader": {"resources": {"requests": {"cpu": 0.05, "memory": 33554432}}}})
    assert options.parse(rendered.container["args"]).settings.requests == {"cpu": "0.05", "memory": "33554432"}


@pytest.mark.parametrize(
    ("namespace", "values", "acts"),
    [(NAMESPACE, [], True), ("default", [], False), (NAMESPACE, ["--set=excludedNamespaces={default}"], False)],
)
def test_the_notes_name_no_namespace_that_is_excluded(
    helm: Helm, namespace: str, values: list[str], acts: bool
) -> None:
    """A first `helm install` may well go to the namespace default, and then that is the release's own."""
    said = helm.run("install", RELEASE, str(CHART), "-n", namespace, "--dry-run=client", *values)
    _, _, notes = said.partition("NOTES:\n")
    assert ("-n default run limited" in notes) == acts
    assert ("Not in the namespace\ndefault: it is the release's own, or excluded." in notes) != acts


def test_roles_name_what_they_allow(rendered: Rendered) -> None:
    for role in (*rendered.of("Role"), *rendered.of("ClusterRole")):
        for rule in role["rules"]:
            assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
            # Only by name, but for the namespaces, whose names nobody knows; and those may only be read.
            assert "resourceNames" in rule or set(rule["verbs"]) <= {"get", "list", "watch"}
    bound = {each["roleRef"]["name"] for kind in ("RoleBinding", "ClusterRoleBinding") for each in rendered.of(kind)}
    assert bound == {rendered.pod["spec"]["serviceAccountName"]}


def test_no_namespace_that_is_excluded_is_asked_about(helm: Helm) -> None:
    rendered = helm.render({"excludedNamespaces": ["infra", "kube-system"]})
    for each in rendered.one("MutatingWebhookConfiguration")["webhooks"]:
        terms = each["namespaceSelector"]["matchExpressions"]
        values = ["kube-system", "kube-node-lease", NAMESPACE, "infra"]
        assert {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": values} in terms


@pytest.mark.parametrize("what", ["namespace", "workloads"])
def test_a_namespace_with_any_of_the_limiting_keys_is_sent_whole(helm: Helm, what: str) -> None:
    """By its own entry for each; and what asks by itself elsewhere by another, so that nothing is sent twice."""
    entries = {each["name"]: each for each in helm.render().one("MutatingWebhookConfiguration")["webhooks"]}
    terms = {
        name.removesuffix(f".{what}.podrate.io"): [
            (term["key"].removeprefix("podrate.io/"), term["operator"])
            for term in each["namespaceSelector"]["matchExpressions"]
            if term["operator"] != "NotIn"
        ]
        for name, each in entries.items()
        if name.endswith(f".{what}.podrate.io")
    }
    names = [key.removeprefix("podrate.io/") for key in LIMITING]
    assert list(terms) == names
    for index, name in enumerate(names):
        assert terms[name] == [(name, "Exists"), *((other, "DoesNotExist") for other in names[:index])]
    others = entries["pods.podrate.io" if what == "namespace" else "workloads.podrate.io"]
    absent = [{"key": key, "operator": "DoesNotExist"} for key in LIMITING]
    assert others["namespaceSelector"]["matchExpressions"][1:] == absent


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
def test_failure_policy(helm: Helm, policy: str) -> None:
    """As the values say for pods; never Fail for what is only told early what its pods would be told."""
    rendered = helm.render({"webhook": {"failurePolicy": policy}})
    entries = rendered.one("MutatingWebhookConfiguration")["webhooks"]
    early = {"workloads.podrate.io", "namespaces.podrate.io"}
    early |= {each["name"] for each in entries if each["name"].endswith(".workloads.podrate.io")}
    assert early < {each["name"] for each in entries}
    for each in entries:
        assert each["failurePolicy"] == ("Ignore" if each["name"] in early else policy)


def test_what_the_pods_get(helm: Helm) -> None:
    chosen: dict[str, Any] = {
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    }
    more: dict[str, Any] = {
        "podLabels": {"tier": "control"},
        "podAnnotations": {"why": "tests"},
        "imagePullSecrets": ["pull", "more"],
    }
    more |= {"nodeSpread": "DoNotSchedule", "priorityClassName": "", "image": {"tag": "2"}, "replicas": 3}
    rendered = helm.render({"webhook": {**chosen, **more}})
    spec = rendered.pod["spec"]
    assert chosen["nodeSelector"].items() <= spec.pop("nodeSelector").items()
    assert spec.items() >= {key: value for key, value in chosen.items() if key != "nodeSelector"}.items()
    assert spec["imagePullSecrets"] == [{"name": "pull"}, {"name": "more"}]
    assert "priorityClassName" not in spec
    assert rendered.of("ResourceQuota") == []
    assert [each["whenUnsatisfiable"] for each in spec["topologySpreadConstraints"]] == [
        "DoNotSchedule",
        "ScheduleAnyway",
    ]
    metadata = rendered.pod["metadata"]
    assert metadata["labels"]["tier"] == "control"
    assert metadata["annotations"] == {"why": "tests"}
    assert "tier" not in rendered.one("Deployment")["metadata"]["labels"]
    assert rendered.container["image"] == "podrate/webhook:2"
    assert rendered.one("Deployment")["spec"]["replicas"] == 3


def test_a_digest_wins_over_a_tag(helm: Helm) -> None:
    digest = "sha256:" + 64 * "b"
    rendered = helm.render({"webhook": {"image": {"digest": digest, "tag": "1"}}})
    assert rendered.container["image"] == f"podrate/webhook@{digest}"


def test_what_may_be_left_out(helm: Helm) -> None:
    without = {"podDisruptionBudget": {"enabled": False}, "networkPolicy": {"enabled": False}}
    rendered = helm.render({"webhook": {**without, "priorityClassName": "of-our-own"}})
    for kind in ("PodDisruptionBudget", "NetworkPolicy", "ResourceQuota"):
        assert rendered.of(kind) == []
    assert rendered.pod["spec"]["priorityClassName"] == "of-our-own"


def test_whom_the_network_policy_lets_in(helm: Helm) -> None:
    reviews, metrics = [{"ipBlock": {"cidr": "10.1.0.0/24"}}], [{"namespaceSelector": {"matchLabels": {"it": "prom"}}}]
    policy = {"reviewsFrom": reviews, "metricsFrom": metrics, "apiServerPorts": [6443]}
    spec = helm.render({"webhook": {"networkPolicy": policy}}).one("NetworkPolicy")["spec"]
    assert [(each["ports"][0]["port"], each["from"]) for each in spec["ingress"]] == [
        ("https", reviews),
        ("health", metrics),
    ]
    assert spec["egress"] == [{"ports": [{"port": 6443, "protocol": "TCP"}]}]


def test_an_upgrade_replaces_one_by_one(rendered: Rendered) -> None:
    spec = rendered.one("Deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert rendered.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_what_helm_test_makes(helm: Helm) -> None:
    """It is removed again, and nothing takes its pod for a webhook."""
    rendered = helm.render({"test": {"namespace": "sandbox"}, "loader": {"imagePullSecrets": ["pull"]}})
    assert {each["kind"]: each["metadata"]["namespace"] for each in rendered.tests} == {
        "ServiceAccount": NAMESPACE,
        "Pod": NAMESPACE,
        "Role": "sandbox",
        "RoleBinding": "sandbox",
    }
    for each in rendered.tests:
        policy = each["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
        assert {"hook-succeeded", "hook-failed"} < set(policy.split(","))
        assert not rendered.one("Service")["spec"]["selector"].items() <= each["metadata"]["labels"].items()
    (role,) = [each for each in rendered.tests if each["kind"] == "Role"]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "delete"]}]
