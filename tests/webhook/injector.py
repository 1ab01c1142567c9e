"""Another webhook beside ours, that does to pods what Istio's and Linkerd's do."""

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from webhook import tls

PATCHED = ("proxy-init", "proxy")


class _Handler(BaseHTTPRequestHandler):
    """Puts its own init containers, one of them a native sidecar, before all others, and a variable into each."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))["request"]
        spec = request["object"]["spec"]
        inits = spec.get("initContainers") or []
        operations: list[dict[str, Any]] = []
        if not any(each["name"] == PATCHED[0] for each in inits):
            variable = {"name": "MESH", "value": "on"}
            ours = [{"name": name, "image": "mesh"} for name in PATCHED]
            ours[1]["restartPolicy"] = "Always"
            for key in ("initContainers", "containers"):
                for each in spec.get(key) or []:
                    each["env"] = [*each.get("env", []), variable]
            operations = [
                {"op": "add", "path": "/spec/initContainers", "value": [*ours, *inits]},
                {"op": "add", "path": "/spec/containers", "value": spec["containers"]},
            ]
        patch = base64.b64encode(json.dumps(operations).encode()).decode()
        response = {"uid": request["uid"], "allowed": True, "patchType": "JSONPatch", "patch": patch}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not on our terminal."""


@contextlib.contextmanager
def injector(name: str, directory: Path) -> Iterator[dict[str, Any]]:
    """A running one; yields the MutatingWebhookConfiguration that calls it. They are called in the order of names."""
    authority = tls.new_authority()
    leaf = tls.issue(authority, ["localhost"])
    (directory / "leaf").write_bytes(leaf.key + leaf.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "leaf")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [
                {
                    "name": "mesh.example.com",
                    "admissionReviewVersions": ["v1"],
                    "sideEffects": "None",
                    "clientConfig": {
                        "url": f"https://localhost:{server.server_port}/",
                        "caBundle": base64.b64encode(authority.certificate).decode(),
                    },
                    "rules": [
                        {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]},
                    ],
                }
            ],
        }
        server.shutdown()
