"""The webhook as what it is in a cluster: replicas that come and go, and a certificate of the operator's own."""

import base64
import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.webhook.load import load
from webhook.api import Api

from .conftest import CHART, NAMESPACE, RELEASE, SYSTEM, Figures
from .kubectl import Cluster, eventually
from .serving import PODS, bundles, replicas

pytestmark = pytest.mark.usefixtures("release")

RATE = 50  # reviews a second: the node, its API server and the tests share two cores


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
    assert all((tmp_path / "ca.crt").read_bytes() in base64.b64decode(bundle) for bundle in bundles(cluster))
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
