"""Certificates of others, from files, on a real API server: tls.mode provided and certManager."""

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.webhook.conftest import Webhook, bundles, eventually, running
from tests.webhook.control_plane import SYSTEM, ControlPlane
from tests.webhook.load import load
from webhook import tls
from webhook.api import Api
from webhook.trust import COLLECTION

NAMES = tls.service_names("podrate", SYSTEM)


def trust(api: Api, authorities: bytes) -> None:
    """What cainjector does, or the operator: put `authorities` in the place of those before."""
    entries = len(api.get(f"{COLLECTION}/podrate")["webhooks"])
    bundle = base64.b64encode(authorities).decode()
    paths = [f"/webhooks/{index}/clientConfig/caBundle" for index in range(entries)]
    api.patch(f"{COLLECTION}/podrate", [{"op": "add", "path": path, "value": bundle} for path in paths])


def write(directory: Path, authority: tls.Pair) -> tls.Pair:
    """A leaf of `authority`, as the files that the kubelet makes of a Secret."""
    leaf = tls.issue(authority, NAMES)
    for name, content in (("ca.crt", authority.certificate), ("tls.crt", leaf.certificate), ("tls.key", leaf.key)):
        (directory / name).write_bytes(content)
    return leaf


@contextlib.contextmanager
def from_files(plane: ControlPlane, account: Path, directory: Path, *more: str) -> Iterator[Webhook]:
    """A webhook that serves the files in `directory`, and is called by the API server."""
    files = [f"--certificate={directory / 'tls.crt'}", f"--key={directory / 'tls.key'}"]
    options = ["--configuration=podrate", "--overlap=2", *files, *more]
    with running(directory, *options, KUBECONFIG=str(account)) as webhook:
        plane.service.ports[:] = [webhook.port]
        try:
            yield webhook
        finally:
            plane.service.ports.clear()


@pytest.fixture(autouse=True)
def trusts_nobody(api: Api, account: Path) -> None:  # noqa: ARG001  the chart is installed by it
    trust(api, b"")


def test_provided_files_are_published_and_rotated(plane: ControlPlane, account: Path, api: Api, tmp_path: Path) -> None:
    old, new = tls.new_authority(), tls.new_authority()
    write(tmp_path, old)
    with from_files(plane, account, tmp_path, f"--authorities={tmp_path / 'ca.crt'}") as webhook:
        webhook.event("ready")
        assert bundles(api) == {old.certificate}
        with load(api, rate=50) as reviews:
            leaf = write(tmp_path, new)
            eventually("it is served", lambda: webhook.certificate() == leaf.certificate)
            # Another replica may have the old files still.
            assert bundles(api) == {new.certificate + old.certificate}
        assert reviews.failures == []
        assert reviews.done > 50


def test_an_injected_authority_is_awaited_and_followed(
    plane: ControlPlane, account: Path, api: Api, tmp_path: Path
) -> None:
    old, new = tls.new_authority(), tls.new_authority()
    first = write(tmp_path, old)
    with from_files(plane, account, tmp_path) as webhook:
        host = f"the caBundle of pods.podrate.io does not trust our certificate for {NAMES[0]}"
        webhook.event("not ready", certificate=f"{host}: there is no authority")
        assert webhook.health("GET", "/readyz").status == 503
        trust(api, old.certificate)
        webhook.event("ready")
        with load(api, rate=50) as reviews:
            # The same authority, as at every renewal: no review meets the change.
            leaf = write(tmp_path, old)
            eventually("it is served", lambda: webhook.certificate() == leaf.certificate)
        assert reviews.failures == []
        # Another authority: not served before it is trusted, and at once when the old one no longer is.
        other = write(tmp_path, new)
        with pytest.raises(AssertionError):
            eventually("it is served", lambda: webhook.certificate() == other.certificate, 4)
        assert webhook.health("GET", "/readyz").status == 200
        trust(api, new.certificate)
        eventually("it is served", lambda: webhook.certificate() == other.certificate, 3)
        eventually("it is ready", lambda: webhook.health("GET", "/readyz").status == 200, 3)
        with load(api, rate=50) as reviews:
            eventually("some reviews", lambda: reviews.done > 25)
        assert reviews.failures == []
        assert bundles(api) == {new.certificate}
    assert first != leaf
