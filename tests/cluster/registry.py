"""registry.py DIRECTORY PORT: serve the image of an unpacked docker-archive on 127.0.0.1, by any name.

As much of a registry as a pull asks for (OCI Distribution Specification). Ends with its standard input.
"""

import hashlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DOCKER = "application/vnd.docker"
DIRECTORY = Path(sys.argv[1])
(image,) = json.loads((DIRECTORY / "manifest.json").read_text())
# Files are named by the hash of what is in them.
FILES = {f"sha256:{Path(name).stem}": DIRECTORY / name for name in (image["Config"], *image["Layers"])}


def described(name: str, kind: str) -> dict[str, object]:
    digest = f"sha256:{Path(name).stem}"
    return {"mediaType": f"{DOCKER}.{kind}", "digest": digest, "size": FILES[digest].stat().st_size}


MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": f"{DOCKER}.distribution.manifest.v2+json",
        "config": described(image["Config"], "container.image.v1+json"),
        "layers": [described(each, "image.rootfs.diff.tar") for each in image["Layers"]],
    }
).encode()


class Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.1"  # of what is no HTTP: a client that tried TLS first looks for a status line

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        digest = path.rpartition("/")[2]
        if "/manifests/" in path:
            digest = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
            self.answer(200, MANIFEST, f"{DOCKER}.distribution.manifest.v2+json", digest)
        elif digest in FILES:
            self.answer(200, FILES[digest].read_bytes(), "application/octet-stream", digest)
        else:
            self.answer(200 if path == "/v2/" else 404, b"{}", "application/json", "")

    do_HEAD = do_GET  # noqa: N815  http.server names both

    def answer(self, status: int, body: bytes, kind: str, digest: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_input, daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Registry).serve_forever()
