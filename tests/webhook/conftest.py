"""A real `python -m webhook`, over real TLS, on free ports of this machine."""

import base64
import contextlib
import http.client
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.webhook.control_plane import ENDS_WITH_US, ControlPlane, control_plane, obstacle
from webhook import tls
from webhook.api import Api
from webhook.trust import COLLECTION

ROOT = Path(__file__).parents[2]
IMAGE = "example/loader:1"


class Answer(NamedTuple):
    status: int
    body: str
    headers: dict[str, str]


class Webhook:
    """A running webhook and how to call it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, authority: Path | None) -> None:
        self.process = process
        self._log = log
        listening = self.event("listening")
        self.port, self.health_port = listening["port"], listening["health_port"]
        self.tls = ssl.create_default_context(cafile=authority) if authority else None

    def text(self) -> str:
        """All that it wrote so far."""
        return self._log.read_text()

    def log(self) -> list[dict[str, Any]]:
        """All lines so far. That each is JSON is part of what is tested."""
        return [json.loads(line) for line in self.text().splitlines(keepends=True) if line.endswith("\n")]

    def event(self, what: str, **fields: str) -> dict[str, Any]:
        """The first line of this event with these fields, once it is there."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self.log():
                if line["event"] == what and fields.items() <= line.items():
                    return line
            time.sleep(0.02)
        pytest.fail(f"no {what} in the log:\n{self.text()}")

    def connection(self) -> http.client.HTTPSConnection:
        """A TLS connection that trusts our authority and nobody else."""
        return http.client.HTTPSConnection("localhost", self.port, timeout=10, context=self.tls)

    def call(self, method: str, path: str, body: bytes | None = None) -> Answer:
        return ask(self.connection(), method, path, body)

    def health(self, method: str, path: str) -> Answer:
        return ask(http.client.HTTPConnection("localhost", self.health_port, timeout=10), method, path)

    def reviews(self) -> list[dict[str, Any]]:
        """The lines of the reviews so far."""
        return [line for line in self.log() if line["event"] == "review"]

    def certificate(self) -> bytes:
        """The one that is served to who connects now, PEM."""
        served = ssl.get_server_certificate(("localhost", self.port), timeout=10)
        return x509.load_pem_x509_certificate(served.encode()).public_bytes(Encoding.PEM)

    def review(self, review: dict[str, Any]) -> dict[str, Any]:
        """The response to `review`, as the API server reads it."""
        answer = self.call("POST", "/mutate?timeout=5s", json.dumps(review).encode())
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        answered: dict[str, Any] = json.loads(answer.body)
        assert (answered["apiVersion"], answered["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        response: dict[str, Any] = answered["response"]
        assert response["uid"] == review["request"]["uid"]
        return response


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> Answer:
    """One request on a connection of its own."""
    with contextlib.closing(connection):
        connection.request(method, path, body)
        response = connection.getresponse()
        return Answer(response.status, response.read().decode(), {k.lower(): v for k, v in response.getheaders()})


@contextlib.contextmanager
def running(directory: Path, *options: str, authority: Path | None = None, **environment: str) -> Iterator[Webhook]:
    """A webhook until the end of the block."""
    log = directory / "log"
    command = [*ENDS_WITH_US, sys.executable, "-m", "webhook", "--loader-image", IMAGE]
    command += ["--port=0", "--health-port=0", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=os.environ | environment
        )
    try:
        yield Webhook(process, log, authority)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def serving(directory: Path, *more: str) -> Iterator[Webhook]:
    """A webhook that is ready, with a certificate for localhost."""
    authority = tls.new_authority()
    leaf = tls.issue(authority, ["localhost"])
    for name, content in (("ca.crt", authority.certificate), ("tls.crt", leaf.certificate), ("tls.key", leaf.key)):
        (directory / name).write_bytes(content)
    options = ("--certificate", str(directory / "tls.crt"), "--key", str(directory / "tls.key"))
    with running(directory, *options, *more, authority=directory / "ca.crt") as webhook:
        webhook.event("ready")
        yield webhook


@pytest.fixture(scope="session")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    with serving(tmp_path_factory.mktemp("webhook")) as it:
        yield it


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The one API server that these tests share."""
    if reason := obstacle():
        if os.environ.get("CI") == "true":
            pytest.fail(f"no API server: {reason}", pytrace=False)  # in CI nothing is skipped
        pytest.skip(f"no API server: {reason}")
    with control_plane(tmp_path_factory.mktemp("plane")) as it:
        yield it


@pytest.fixture(scope="session")
def api(plane: ControlPlane) -> Api:
    """The API server, as its admin."""
    with mock.patch.dict(os.environ, KUBECONFIG=str(plane.kubeconfig)):
        return Api()


@pytest.fixture(scope="session")
def account(plane: ControlPlane) -> Path:
    """The chart installed, in tls.mode self, and a kubeconfig of its ServiceAccount."""
    plane.install()
    return plane.account()


def bundles(api: Api) -> set[bytes]:
    """Whom the API server trusts when it calls the webhook: one bundle for all entries, if all is well."""
    found = api.get(f"{COLLECTION}/podrate")["webhooks"]
    return {base64.b64decode(each["clientConfig"].get("caBundle", "")) for each in found}


def eventually(what: str, condition: Callable[[], bool], seconds: float = 30) -> None:
    """Until `condition` is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
