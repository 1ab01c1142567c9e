"""The webhook as what it is in a cluster: two replicas that come and go, and a certificate that people reset."""

import base64
import json
import os
import subprocess
import time
from pathlib import Path
from unittest import mock

import pytest

from tests.webhook.load import load
from webhook.api import Api

from .conftest import CHART, NAMESPACE, RELEASE, SYSTEM, Figures
from .kubectl import Cluster, eventually

pytestmark = pytest.mark.usefixtures("release")

PODS = ("-n", SYSTEM, "pods", "-l", f"app.kubernetes.io/instance={RELEASE}")
RATE = 50  # reviews a second: the node, its API server and the tests share two cores


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    with mock.patch.dict(os.environ, KUBECONFIG=cluster.environment["KUBECONFIG"]):
        return Api()


def replicas(cluster: Cluster) -> list[str]:
    """The pods of the webhook that are ready and stay."""
    return [
        each["metadata"]["name"]
        for each in cluster.get(*PODS)["items"]
        if "deletionTimestamp" not in each["metadata"]
        and {"type": "Ready", "status": "True"}.items()
        <= next((it for it in each["status"].get("conditions", []) if it["type"] == "Ready"), {}).items()
    ]


def test_the_end_of_one_of_two_replicas_fails_no_review(cluster: Cluster, api: Api, figures: Figures) -> None:
    first, second = sorted(replicas(cluster))
    with load(api, RATE, NAMESPACE) as reviews:
        time.sleep(2)
        cluster.kubectl("-n", SYSTEM, "delete", "pod", first, "--wait=true", timeout=60)
        eventually("two replicas again", lambda: len(replicas(cluster)) == 2, 60)
        assert first not in replicas(cluster)
        # Whichever the API server was connected to, it has met the end of one.
        cluster.kubectl("-n", SYSTEM, "delete", "pod", second, "--wait=true", timeout=60)
        eventually("two replicas again", lambda: len(replicas(cluster)) == 2, 60)
        time.sleep(2)
    assert reviews.failures == []
    assert reviews.done > 10 * RATE
    figures[f"slowest of {reviews.done} reviews while replicas end, s"] = reviews.slowest


def test_a_rollout_fails_no_review(cluster: Cluster, api: Api) -> None:
    with load(api, RATE, NAMESPACE) as reviews:
        cluster.kubectl("-n", SYSTEM, "rollout", "restart", f"deployment/{RELEASE}")
        cluster.kubectl("-n", SYSTEM, "rollout", "status", f"deployment/{RELEASE}", "--timeout=90s")
        time.sleep(8)  # until those of before have drained
    assert reviews.failures == []
    assert reviews.done > 8 * RATE


def test_a_reset_caBundle_is_repaired(cluster: Cluster, api: Api, figures: Figures) -> None:  # noqa: N802
    right = _bundles(cluster)
    change = [{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": "eA=="}]
    began = time.monotonic()
    cluster.kubectl("patch", "mutatingwebhookconfiguration", RELEASE, "--type=json", "-p", json.dumps(change))
    eventually("repaired", lambda: _bundles(cluster) == right, 5, pause=0)
    figures["caBundle reset to seen repaired, s"] = time.monotonic() - began
    with load(api, RATE, NAMESPACE) as reviews:
        time.sleep(1)
    assert reviews.failures == []


def test_a_deleted_Secret_is_made_anew_and_fails_no_review(cluster: Cluster, api: Api) -> None:  # noqa: N802
    before = cluster.get("-n", SYSTEM, "secret", f"{RELEASE}-tls")["data"]
    owned = cluster.get("-n", SYSTEM, "secret", f"{RELEASE}-tls")["metadata"]
    with load(api, RATE, NAMESPACE) as reviews:
        time.sleep(1)
        cluster.kubectl("-n", SYSTEM, "delete", "secret", f"{RELEASE}-tls")
        after = eventually("a Secret again", lambda: _secret(cluster), 10)
        assert after["tls.crt"] != before["tls.crt"]
        # Whom the API server trusted it goes on to trust, until the new certificate is served everywhere.
        assert base64.b64decode(after["ca.crt"]).endswith(base64.b64decode(before["ca.crt"]))
        eventually("both are trusted", lambda: _bundles(cluster) == {after["ca.crt"]}, 5)
        time.sleep(3)
    assert reviews.failures == []
    assert reviews.done > 3 * RATE
    assert len(replicas(cluster)) == 2
    made = cluster.get("-n", SYSTEM, "secret", f"{RELEASE}-tls")["metadata"]
    assert (made["labels"], made["annotations"]) == (owned["labels"], owned["annotations"])  # helm will remove it


def _bundles(cluster: Cluster) -> set[str]:
    found = cluster.get("mutatingwebhookconfiguration", RELEASE)["webhooks"]
    return {each["clientConfig"].get("caBundle", "") for each in found}


def _secret(cluster: Cluster) -> dict[str, str]:
    """What the Secret holds, once there is a leaf in it."""
    found = cluster.kubectl("-n", SYSTEM, "get", "secret", f"{RELEASE}-tls", "-o", "json", check=False).stdout
    data: dict[str, str] = json.loads(found or "{}").get("data", {})
    return data if "tls.crt" in data else {}


def test_a_certificate_of_the_operators_own(cluster: Cluster, api: Api, values: list[str], tmp_path: Path) -> None:
    """tls.mode provided: a Secret whose authority the webhook publishes; and back to its own."""
    # As an operator makes it. The Service's name is what the API server asks for.
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    ca = ["-subj", "/CN=operator", "-addext", "keyUsage=critical,keyCertSign", "-keyout", "ca.key", "-out", "ca.crt"]
    leaf = ["-subj", "/CN=webhook", "-addext", f"subjectAltName=DNS:{RELEASE}.{SYSTEM}.svc", "-CA", "ca.crt"]
    leaf += ["-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "tls.key"]
    for command in ([*new, *ca], [*new, *leaf, "-out", "tls.crt"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    files = ("ca.crt", "tls.crt", "tls.key")
    data = {name: base64.b64encode((tmp_path / name).read_bytes()).decode() for name in files}
    mine = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mine"},
        "type": "kubernetes.io/tls",
        "data": data,
    }
    cluster.kubectl("-n", SYSTEM, "create", "-f", "-", stdin=json.dumps(mine | {"data": data}))
    provided = ["--set=webhook.tls.mode=provided", "--set=webhook.tls.provided.secretName=mine"]
    upgrade = ["helm", "upgrade", RELEASE, str(CHART), "-n", SYSTEM, "--wait", "--timeout", "90s", *values]
    cluster.run(*upgrade, *provided)
    assert all((tmp_path / "ca.crt").read_bytes() in base64.b64decode(bundle) for bundle in _bundles(cluster))
    with load(api, RATE, NAMESPACE) as reviews:
        time.sleep(2)
        # Either kind of replica runs for a while, and both are trusted.
        cluster.run(*upgrade)
        time.sleep(2)
    assert reviews.failures == []
    eventually("those of the operator's certificate are gone", lambda: len(cluster.get(*PODS)["items"]) == 2, 40)
    with load(api, RATE, NAMESPACE) as reviews:
        time.sleep(1)
    assert reviews.failures == []
