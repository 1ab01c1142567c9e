"""python -m webhook.proof: what `helm test` runs, in a pod beside the release.

It asks the API server for a pod with a bad limit, which must be refused, and for one with a limit, which must get the
loader; that pod then sends to this one as fast as it can, and what arrives here must be the limit. What it receives is
not limited, and so tells whether the network would have carried more.
"""

import argparse
import contextlib
import socket
import struct
import sys
import time
from typing import Any

from webhook.api import Api, Object
from webhook.unavailable import NotFound, Unavailable

_PORT = 5201  # nobody else's: each pod has ports of its own
_LIMIT, _RATE = "10M", 10e6  # bit/s
_SECONDS = 3.0  # of each direction
_PATIENCE = 90.0  # seconds in which a pod has started, its images pulled
_COUNT = struct.Struct("!d")
# Payload is 5 % less than what the limit counts; a busy node may take a while to give the sender its CPU.
_LEAST, _MOST = 0.5, 1.1


class Unproven(Exception):
    """Something is not as it should be; says what, in one line."""


def main(arguments: list[str] | None = None) -> int:
    """0 when all is as it should be, 1 and one line when it isn't."""
    parser = argparse.ArgumentParser(prog="python -m webhook.proof", allow_abbrev=False)
    parser.add_argument("--namespace", help="where the pods are made; podrate must act there")
    parser.add_argument("--address", help="of this pod")
    parser.add_argument("--image", help="of the pods: that of this one")
    parser.add_argument("--pull-policy", default="IfNotPresent")
    parser.add_argument("--pull-secret", action="append", default=[], help="for the image")
    parser.add_argument("--send-to", metavar="ADDRESS", help="be the limited pod")
    given = parser.parse_args(arguments)
    if given.send_to:
        send(given.send_to)
        return 0
    try:
        prove(given)
    except (Unproven, Unavailable, OSError) as problem:
        print(f"podrate test: {problem}", flush=True)
        return 1
    return 0


def prove(given: argparse.Namespace) -> None:
    """Raises Unproven, Unavailable or OSError for the first thing that is not as it should be."""
    api = Api()
    path = f"/api/v1/namespaces/{given.namespace}/pods"
    _refused(api, path, given)
    with socket.create_server(("", _PORT)) as listener:
        name = api.create(path, _pod(given, _LIMIT))["metadata"]["name"]
        try:
            # First, as a pod without the loader sends at once.
            limited = _limited(api.get(f"{path}/{name}"))
            print(f"pod {name} was given the loader and {limited}", flush=True)
            up, down = _measured(listener, lambda: _status(api.get(f"{path}/{name}")))
        finally:
            _delete(api, f"{path}/{name}")
    print(
        f"it sends {up / 1e6:.1f} Mbit/s under a limit of {_LIMIT}, and receives {down / 1e6:.0f} without one",
        flush=True,
    )
    if not _LEAST * _RATE <= up <= _MOST * _RATE:
        raise Unproven(f"what it sends is not its limit, {_LIMIT}")
    if down < 2 * _RATE:
        raise Unproven(f"this network carries no more than the limit, {_LIMIT}: nothing is proven by what arrived")


def _refused(api: Api, path: str, given: argparse.Namespace) -> None:
    try:
        api.create(f"{path}?dryRun=All", _pod(given, "10m"))
    except Unavailable as answer:
        if "did you mean 10M?" not in str(answer):
            raise
        print(f"a bad limit is refused: {answer}", flush=True)
        return
    raise Unproven('a pod with podrate.io/egress: "10m" was accepted: is the namespace excluded?')


def _limited(pod: Object) -> str:
    limit = pod["metadata"].get("annotations", {}).get("podrate.io/limit")
    loaders = [each["name"] for each in pod["spec"].get("initContainers", ())]
    if "podrate" not in loaders or limit is None:
        raise Unproven("a pod with podrate.io/egress: 10M was not given the loader")
    return str(limit)


def _pod(given: argparse.Namespace, limit: str) -> Object:
    container: Object = {
        "name": "sender",
        "image": given.image,
        "imagePullPolicy": given.pull_policy,
        "args": ["-m", "webhook.proof", f"--send-to={given.address}"],
        "command": [sys.executable],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "activeDeadlineSeconds": int(2 * _PATIENCE),  # should nobody be there to delete it
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "imagePullSecrets": [{"name": name} for name in given.pull_secret],
        "containers": [container],
    }
    metadata: Object = {"generateName": "podrate-test-", "labels": {"podrate.io/egress": limit}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _status(pod: Object) -> str:
    """What a pod that does not start says of itself."""
    status: dict[str, Any] = pod.get("status", {})
    containers = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    waiting = [
        f"{each['name']}: {state.get('reason', '')} {state.get('message', '')}".strip()
        for each in containers
        for state in (each.get("state", {}).get("waiting"), each.get("lastState", {}).get("terminated"))
        if state
    ]
    conditions = [each["message"] for each in status.get("conditions", ()) if each.get("message")]
    return "; ".join((status.get("phase", ""), *waiting, *conditions))


def _measured(listener: socket.socket, status: Any) -> tuple[float, float]:  # noqa: ANN401
    """Payload from and to the pod, bit/s."""
    listener.settimeout(_PATIENCE)
    try:
        sending, _ = listener.accept()
    except TimeoutError:
        raise Unproven(f"the limited pod did not start within {_PATIENCE:.0f} s: {status()}") from None
    with sending:
        up = receive(sending)
    receiving, _ = listener.accept()
    with receiving:
        fill(receiving)
        down = _COUNT.unpack(receiving.recv(_COUNT.size, socket.MSG_WAITALL))[0]
    return up, down


def send(address: str) -> None:
    """The limited pod's part: send, then receive and say how fast that was."""
    with socket.create_connection((address, _PORT), _PATIENCE) as sending:
        fill(sending)
    with socket.create_connection((address, _PORT), _PATIENCE) as receiving:
        receiving.sendall(_COUNT.pack(receive(receiving)))


def fill(connection: socket.socket) -> None:
    """Send as fast as it takes it, for _SECONDS, and say that this was all."""
    data, end = bytes(1 << 16), time.monotonic() + _SECONDS
    connection.settimeout(_PATIENCE)
    while time.monotonic() < end:
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def receive(connection: socket.socket) -> float:
    """Payload from the first byte to the last, in bit/s."""
    connection.settimeout(_PATIENCE)
    count, began = len(connection.recv(1)), time.monotonic()
    while data := connection.recv(1 << 16):
        count += len(data)
    return 8 * count / max(time.monotonic() - began, 1e-3)


def _delete(api: Api, path: str) -> None:
    with contextlib.suppress(NotFound):
        api.delete(path)


if __name__ == "__main__":
    sys.exit(main())
