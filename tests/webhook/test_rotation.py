"""Certificates of our own on a real API server: agreed on, trusted, rotated, repaired; and no review fails."""

import base64
import contextlib
import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.webhook.conftest import Webhook, bundles, eventually, running
from tests.webhook.control_plane import SYSTEM, ControlPlane
from tests.webhook.load import load
from tests.webhook.reviews import pod
from webhook import tls
from webhook.api import Api
from webhook.trust import COLLECTION
from webhook.unavailable import NotFound

OWN = ["--self-signed", "--service=podrate", f"--namespace={SYSTEM}", "--secret=podrate-tls", "--configuration=podrate"]
OVERLAP = 4
CONFIGURATION = f"{COLLECTION}/podrate"


@contextlib.contextmanager
def replica(plane: ControlPlane, account: Path, directory: Path, *options: str) -> Iterator[Webhook]:
    """A replica that is ready and called by the API server, until it stops being ready or the block ends."""
    directory.mkdir()
    more = [*OWN, f"--overlap={OVERLAP}", *options]
    with running(directory, *more, KUBECONFIG=str(account)) as webhook:
        webhook.event("ready")
        plane.service.ports.append(webhook.port)
        try:
            yield webhook
        finally:
            if webhook.port in plane.service.ports:
                plane.service.ports.remove(webhook.port)


@pytest.fixture(scope="module")
def replicas(plane: ControlPlane, account: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Webhook]]:
    directory = tmp_path_factory.mktemp("replicas")
    with replica(plane, account, directory / "a") as a, replica(plane, account, directory / "b") as b:
        yield [a, b]


def secret(api: Api) -> dict[str, bytes]:
    """What it holds; nothing when it is not there."""
    try:
        data = api.get(f"/api/v1/namespaces/{SYSTEM}/secrets/podrate-tls").get("data") or {}
    except NotFound:
        return {}
    return {key: base64.b64decode(value) for key, value in data.items()}


def test_replicas_that_start_at_once_make_one_certificate(account: Path, api: Api, tmp_path: Path) -> None:
    assert secret(api) == {}
    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as threads:

        def start(name: str) -> Webhook:
            (tmp_path / name).mkdir()
            return stack.enter_context(running(tmp_path / name, *OWN, KUBECONFIG=str(account)))

        started = list(threads.map(start, "abc"))
        for each in started:
            each.event("ready")
        assert {each.certificate() for each in started} == {secret(api)["tls.crt"]}
        written = [line for each in started for line in each.log() if line["event"] == "certificate written"]
        assert len(written) == 1


def test_replicas_agree_and_the_api_server_trusts_them(plane: ControlPlane, replicas: list[Webhook], api: Api) -> None:
    kept = secret(api)
    assert set(kept) == {"ca.crt", "ca.key", "tls.crt", "tls.key"}
    assert len(tls.certificates(kept["ca.crt"])) == 1
    assert bundles(api) == {kept["ca.crt"]}
    for each in replicas:
        assert each.health("GET", "/readyz")[:2] == (200, "ok\n")
        assert each.certificate() == kept["tls.crt"]
    create = ["create", "--dry-run=server", "-o", "json", "-f", "-"]
    limited = json.loads(plane.kubectl(*create, stdin=json.dumps(pod({"podrate.io/bandwidth": "10M"}))))
    assert limited["metadata"]["annotations"]["podrate.io/limit"] == '{"v":1,"egress":10000000,"ingress":10000000}'
    refused = plane.kubectl(*create, stdin=json.dumps(pod({"podrate.io/bandwidth": "10m"})), check=False)
    assert 'admission webhook "pods.podrate.io" denied the request: podrate.io/bandwidth: "10m": m means' in refused


def test_a_rotation_fails_no_review(plane: ControlPlane, replicas: list[Webhook], api: Api) -> None:
    """Whoever deletes the Secret asks for a new authority and a new leaf."""
    before, logged = secret(api), [len(each.log()) for each in replicas]
    with load(api, rate=100) as reviews:
        time.sleep(1)
        plane.kubectl("-n", SYSTEM, "delete", "secret", "podrate-tls", "--wait=false")
        eventually("a Secret again", lambda: "tls.crt" in secret(api))
        between = secret(api)
        assert between["tls.crt"] != before["tls.crt"]
        # The new authority beside the old one, of which the leaf is still served.
        assert tls.certificates(between["ca.crt"])[1:] == tls.certificates(before["ca.crt"])
        eventually("both are trusted", lambda: bundles(api) == {between["ca.crt"]}, 5)
        assert {each.certificate() for each in replicas} == {before["tls.crt"]}
        eventually("the new leaf is served", lambda: {each.certificate() for each in replicas} == {between["tls.crt"]})
        eventually("the old authority is gone", lambda: len(tls.certificates(secret(api)["ca.crt"])) == 1)
        eventually("and not trusted", lambda: bundles(api) == {secret(api)["ca.crt"]}, 5)
        time.sleep(1)
    assert reviews.failures == []
    assert reviews.done > 50 * 2 * OVERLAP  # of 100 a second that are due; other tests may share the machine
    assert {each.certificate() for each in replicas} == {secret(api)["tls.crt"]} != {before["tls.crt"]}
    for each, index in zip(replicas, logged, strict=True):
        assert {line["event"] for line in each.log()[index:]} - {"review"} <= {
            *("certificate written", "certificate served", "caBundle set"),
        }


def test_no_key_is_in_a_log(replicas: list[Webhook], account: Path, api: Api) -> None:
    """After a rotation: of no key a piece, neither in PEM nor as the Secret has it; nor of the account's token."""
    kept = secret(api)
    pieces = {base64.b64encode(kept[key]).decode()[:40] for key in ("tls.key", "ca.key")}
    for key in ("tls.key", "ca.key"):
        pieces |= {line for line in kept[key].decode().splitlines() if len(line) >= 16}
    (user,) = yaml.safe_load(account.read_text())["users"]
    pieces |= {part for part in user["user"]["token"].split(".") if len(part) >= 16}
    assert len(pieces) >= 8
    for each in replicas:
        log = each.text()
        assert "certificate served" in log
        assert [piece for piece in pieces if piece in log] == []


@pytest.mark.parametrize("reset", [None, base64.b64encode(tls.new_authority().certificate).decode(), "eA=="])
def test_a_reset_caBundle_is_repaired(  # noqa: N802
    replicas: list[Webhook], api: Api, reset: str | None
) -> None:
    right = bundles(api)
    change = [{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": reset}]
    api.patch(CONFIGURATION, change)
    eventually("repaired", lambda: bundles(api) == right, 3)
    eventually("trusted", lambda: all(each.health("GET", "/readyz").status == 200 for each in replicas), 3)
    with load(api, rate=50) as reviews:
        time.sleep(0.5)  # until the API server, which keeps what it trusts, has seen it too
        seen = reviews.now()
        time.sleep(0.5)
    assert [each for each in reviews.failures if each.made > seen] == []


def test_a_replica_that_ends_fails_no_review(
    plane: ControlPlane, replicas: list[Webhook], account: Path, api: Api, tmp_path: Path
) -> None:
    others = [each.port for each in replicas]
    with replica(plane, account, tmp_path / "third", "--drain=3") as third:
        plane.service.ports[:] = [third.port]
        plane.service.disconnect()
        time.sleep(0.5)  # until the API server has seen it
        with load(api, rate=100) as reviews:
            # It is the one that the API server is connected to.
            eventually("reviews", lambda: len(third.reviews()) > 50)
            plane.service.ports += others
            third.process.send_signal(signal.SIGTERM)
            time.sleep(1)  # until kube-proxy hears of it
            plane.service.ports.remove(third.port)
            assert third.process.wait(30) == 0
            time.sleep(1)
    assert reviews.failures == []
    assert reviews.done > 200


def test_the_api_server_away_and_back(plane: ControlPlane, replicas: list[Webhook], api: Api) -> None:
    """It can't ask us meanwhile; what is important is that we are there when it comes back."""
    plane.process.send_signal(signal.SIGSTOP)
    try:
        for each in replicas:
            each.event("unavailable")
            assert each.health("GET", "/readyz").status == 200
    finally:
        plane.process.send_signal(signal.SIGCONT)
    with load(api, rate=50) as reviews:
        time.sleep(1)
    assert reviews.failures == []
