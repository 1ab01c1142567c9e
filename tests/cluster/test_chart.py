"""The chart, as helm sees it, without a cluster's answer."""

import base64

import pytest
import yaml

from .conftest import CHART
from .kubectl import Cluster, Manifest

# Without a version, some helms take a Kubernetes for granted that is older than the chart's least.
TEMPLATE = ("helm", "template", "podrate", str(CHART), "--kube-version", "1.36", "--no-hooks")


@pytest.mark.parametrize(
    "option",
    [
        *("webhook.replica=3", "webhook.replicas=0", "loader.image.digest=sha256:12", "webhook.image.pullPolicy=never"),
        *("loader.imagePullSecrets[0]=A", "loader.resources.requests.cpu=fast", "loader.resources.limits=null"),
        *("loader.once=1", "loader.metricsPort=65536", "loader.once=true,loader.metricsPort=9095"),
        *("kubernetesAnnotations=1", "sandboxedRuntimeClasses[0]=A"),
        *("webhook.tls.mode=Self", "webhook.tls.provided.secretName=A", "webhook.tls.provided.caBundle=1"),
    ],
)
def test_schema_rejects(cluster: Cluster, option: str) -> None:
    rendered = cluster.run(*TEMPLATE, "--set", option, check=False)
    assert rendered.returncode != 0
    assert "schema" in rendered.stderr


def test_what_the_operator_chooses_about_pods(cluster: Cluster) -> None:
    options = ["--set", "kubernetesAnnotations=true,loader.imagePullSecrets[0]=a,loader.imagePullSecrets[1]=b"]
    options += ["--set-json", "sandboxedRuntimeClasses=[]", "--set", "loader.resources.requests.cpu=0.05"]
    options += ["--set", "loader.metricsPort=9095"]
    printed = cluster.run(*TEMPLATE, *options).stdout
    it = {each["kind"]: each for each in yaml.safe_load_all(printed)}
    (container,) = it["Deployment"]["spec"]["template"]["spec"]["containers"]
    for argument in (
        "--loader-image-pull-secrets=a,b",
        "--loader-requests=cpu=0.05,memory=16Mi",
        "--sandboxed-runtime-classes=",
        "--kubernetes-annotations",
        "--loader-metrics-port=9095",
    ):
        assert argument in container["args"]
    assert "--loader-once" not in container["args"]
    assert "- --loader-once\n" in cluster.run(*TEMPLATE, "--set", "loader.once=true").stdout
    conditions = [each["expression"] for each in it["MutatingWebhookConfiguration"]["webhooks"][0]["matchConditions"]]
    assert "'kubernetes.io/egress-bandwidth'" in conditions[0]


ISSUER = "webhook.tls.mode=certManager,webhook.tls.certManager.issuerRef.name=internal-ca"
SECRET = "webhook.tls.mode=provided,webhook.tls.provided.secretName=mine"
PEM = "-----BEGIN CERTIFICATE-----"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("webhook.tls.mode=certManager", "webhook.tls.certManager.issuerRef.name is empty: name an Issuer"),
        ("webhook.tls.mode=provided", "webhook.tls.provided.secretName is empty: name a Secret"),
        ("webhook.tls.certManager.issuerRef.name=ca", "an issuer is for --set webhook.tls.mode=certManager"),
        (f"{ISSUER},webhook.tls.provided.secretName=mine", "webhook.tls.provided.secretName is set, and webhook.tls"),
        (f"{ISSUER},webhook.tls.provided.caBundle={PEM}", "webhook.tls.provided.caBundle is set, and webhook.tls.mode"),
        (
            f"{SECRET},webhook.tls.provided.caBundle=LS0tLS1C",
            "caBundle is not the PEM of certificates alone",
        ),
        (f"{SECRET},webhook.tls.certManager.issuerRef.name=ca", "an issuer is for --set webhook.tls.mode=certManager"),
    ],
)
def test_a_certificate_of_two_minds_is_refused(cluster: Cluster, options: str, line: str) -> None:
    rendered = cluster.run(*TEMPLATE, "--set-string", options, check=False)
    assert rendered.returncode != 0
    assert line in rendered.stderr


def rendered(cluster: Cluster, options: str) -> dict[str, Manifest]:
    """What the chart makes, by kind; there is one of each."""
    printed = cluster.run(*TEMPLATE, "-n", "limits", "--set-string", options).stdout
    return {each["kind"]: each for each in yaml.safe_load_all(printed)}


def patches_its_configuration(manifests: dict[str, Manifest]) -> bool:
    (rule,) = (it for it in manifests["ClusterRole"]["rules"] if "mutatingwebhookconfigurations" in it["resources"])
    return "patch" in rule["verbs"]


def test_a_certificate_of_cert_manager(cluster: Cluster) -> None:
    it = rendered(cluster, ISSUER)
    spec = it["Certificate"]["spec"]
    assert spec["issuerRef"] == {"name": "internal-ca", "kind": "Issuer", "group": "cert-manager.io"}
    client = it["MutatingWebhookConfiguration"]["webhooks"][0]["clientConfig"]
    assert f"{client['service']['name']}.{client['service']['namespace']}.svc" in spec["dnsNames"]
    assert "caBundle" not in client
    annotations = it["MutatingWebhookConfiguration"]["metadata"]["annotations"]
    assert annotations["cert-manager.io/inject-ca-from"] == f"limits/{it['Certificate']['metadata']['name']}"
    volume = it["Deployment"]["spec"]["template"]["spec"]["volumes"][0]
    assert volume["secret"]["secretName"] == spec["secretName"]
    assert not patches_its_configuration(it)
    assert not {"Secret", "Role", "RoleBinding"} & it.keys()


def test_a_certificate_of_the_operator(cluster: Cluster) -> None:
    it = rendered(cluster, SECRET)
    (container,) = it["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert "--authorities=/etc/podrate/tls/ca.crt" in container["args"]
    assert patches_its_configuration(it)
    assert not {"Secret", "Role", "RoleBinding", "Certificate"} & it.keys()
    it = rendered(cluster, f"{SECRET},webhook.tls.provided.caBundle={PEM}")
    (container,) = it["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert not [each for each in container["args"] if each.startswith("--authorities")]
    assert not patches_its_configuration(it)
    bundles = {each["clientConfig"]["caBundle"] for each in it["MutatingWebhookConfiguration"]["webhooks"]}
    assert bundles == {base64.b64encode(PEM.encode()).decode()}
