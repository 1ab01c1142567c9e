"""What kubectl is asked to do, and what it prints."""

import json
import time
from collections.abc import Callable
from typing import Any

from tests.webhook.control_plane import ControlPlane
from tests.webhook.reviews import pod

ASKS = {"podrate.io/bandwidth": "10M"}
TEN = '{"v":1,"egress":10000000,"ingress":10000000}'
DENIED = 'admission webhook "{}" denied the request: '
CREATE = ("create", "--dry-run=server", "-o", "json", "-f", "-")


def named(name: str, labels: object = None, annotations: object = None, **spec: object) -> dict[str, Any]:
    it = pod(labels, annotations, **spec)
    it["metadata"] |= {"name": name}
    del it["metadata"]["namespace"]
    return it


def created(plane: ControlPlane, manifest: dict[str, Any], namespace: str = "default") -> dict[str, Any]:
    it: dict[str, Any] = json.loads(plane.kubectl("-n", namespace, *CREATE, stdin=json.dumps(manifest)))
    return it


def refused(plane: ControlPlane, manifest: dict[str, Any], namespace: str = "default", by: str = "pods") -> str:
    """The one line after the webhook's name."""
    said = plane.kubectl("-n", namespace, *CREATE, stdin=json.dumps(manifest), check=False)
    _, denied, line = said.partition(DENIED.format(f"{by}.podrate.io"))
    assert denied, said
    return line.removesuffix("\n")


def eventually(what: str, condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def limit_of(it: dict[str, Any]) -> str | None:
    limit: str | None = it["metadata"].get("annotations", {}).get("podrate.io/limit")
    return limit


def patched(plane: ControlPlane, name: str, change: object, *options: str) -> str:
    """What kubectl prints."""
    return plane.kubectl("patch", "pod", name, "--type=merge", "-p", json.dumps(change), *options, check=False)
