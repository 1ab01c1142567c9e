"""The webhook over real TLS, and us in the place of its API server."""

import base64
import copy
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPSConnection
from pathlib import Path
from types import TracebackType
from typing import Self

import jsonpatch

from bench.command import LabError, last_line, stop, undisturbed
from demo.node import Json
from webhook import tls

# The name that the API server asks for when the webhook is a Service: clientConfig.service of the configuration.
SERVICE = "podrate.podrate-system.svc"
IMAGE = "podrate-loader:demo"
_USER = {"username": "demo", "groups": ["system:authenticated"]}


@dataclass(frozen=True)
class Answer:
    """The webhook's answer: allowed with a patch (RFC 6902), or rejected with a code and a line."""

    allowed: bool
    patch: Sequence[Json]
    code: int
    message: str


class Webhook:
    """A context manager: `python -m webhook`, with a certificate made for this run, on a free port of loopback."""

    def __enter__(self) -> Self:
        self._files = tempfile.TemporaryDirectory(prefix="podrate-demo-")
        try:
            self._start(Path(self._files.name))
        except BaseException:
            self._files.cleanup()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with undisturbed():
            stop(self._process)
            self._files.cleanup()

    def _start(self, directory: Path) -> None:
        authority = tls.new_authority()
        leaf = tls.issue(authority, [SERVICE])
        certificate, key = directory / "tls.crt", directory / "tls.key"
        certificate.write_bytes(leaf.certificate)
        key.touch(mode=0o600)
        key.write_bytes(leaf.key)
        # What the webhook's configuration holds as caBundle: nothing else is trusted.
        self._trust = ssl.create_default_context(cadata=authority.certificate.decode())
        command = [sys.executable, "-m", "webhook", "--loader-image", IMAGE, "--port", "0", "--health-port", "0"]
        command += ["--certificate", str(certificate), "--key", str(key)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            self._port = _ready_port(self._process)
        except BaseException:
            stop(self._process)
            raise

    def create(self, pod: Json) -> Answer:
        """Ask as the API server does when a pod is created: before the pod has a UID."""
        return self._review("CREATE", pod, None)

    def update(self, pod: Json, old: Json) -> Answer:
        """Ask as the API server does when a stored pod is changed."""
        return self._review("UPDATE", pod, old)

    def _review(self, operation: str, pod: Json, old: Json | None) -> Answer:
        metadata = pod["metadata"]
        request = {
            "uid": str(uuid.uuid4()),
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "operation": operation,
            "userInfo": _USER,
            "object": pod,
            "oldObject": old,
            "dryRun": False,
            "options": {"kind": f"{operation.title()}Options", "apiVersion": "meta.k8s.io/v1"},
        }
        review = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
        response = self._post(review)["response"]
        if response["uid"] != request["uid"]:
            raise LabError("webhook: it answered another review than ours")
        status = response.get("status", {})
        patch = json.loads(base64.b64decode(response["patch"])) if "patch" in response else []
        return Answer(response["allowed"], patch, status.get("code", 200), status.get("message", ""))

    def _post(self, review: Json) -> Json:
        # The API server connects to the Service's address and checks the certificate against the Service's name.
        connection = HTTPSConnection(SERVICE, context=self._trust)
        plain = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        try:
            connection.sock = self._trust.wrap_socket(plain, server_hostname=SERVICE)
            body = json.dumps(review)
            connection.request("POST", "/mutate?timeout=10s", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
            plain.close()
        if answer.status != 200:
            raise LabError(f"webhook: HTTP {answer.status}: {last_line(text)}")
        parsed: Json = json.loads(text)
        return parsed


def submitted(manifest: Json) -> Json:
    """A manifest's pod as the API server hands it to its webhooks: defaults filled in, not stored yet."""
    pod = copy.deepcopy(manifest)
    pod["metadata"].setdefault("namespace", "default")
    pod["metadata"]["creationTimestamp"] = None
    spec = pod["spec"]
    defaults = {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30}
    for key, value in defaults.items():
        spec.setdefault(key, value)
    return pod


def patched(pod: Json, patch: Sequence[Json]) -> Json:
    """The pod with the webhook's patch applied."""
    result: Json = jsonpatch.apply_patch(pod, patch)
    return result


def stored(pod: Json, patch: Sequence[Json]) -> Json:
    """The pod that the API server stores: patched, and with what identifies it from its creation on."""
    result = patched(pod, patch)
    result["metadata"]["uid"] = pod["metadata"].get("uid") or str(uuid.uuid4())
    result["metadata"]["creationTimestamp"] = pod["metadata"]["creationTimestamp"] or f"{datetime.now(UTC):%FT%TZ}"
    return result


def labelled(pod: Json, labels: Mapping[str, str]) -> Json:
    """A copy of `pod` with some labels set."""
    changed = copy.deepcopy(pod)
    changed["metadata"].setdefault("labels", {}).update(labels)
    return changed


def _ready_port(process: subprocess.Popen[str]) -> int:
    """The port that the webhook says it serves on, once it is ready. Its log is one JSON object a line."""
    said, port = [], None
    for line in process.stdout or ():
        said.append(line)
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a traceback's
        port = event.get("port", port)  # of "listening"
        if event.get("event") == "ready" and port is not None:
            return int(port)
    raise LabError(f"webhook: it did not start: {last_line(''.join(said))}")
