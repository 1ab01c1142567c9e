"""The API server, by paths and raw objects: the transport of the official client, and nothing of its models.

The models would drop the fields that they do not know. They, and the generated API classes, are half of the client:
only `rest`, `Configuration` and `config` may be imported here (the image leaves the others out).

Every call blocks, up to `timeout` seconds, and may come from any thread. All raise Unavailable or one of its family.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import urllib3
import yaml  # of kubernetes
from kubernetes import config
from kubernetes.client import Configuration, rest
from kubernetes.client.exceptions import ApiException

from webhook.unavailable import Conflict, Gone, NotFound, Unavailable

Object = dict[str, Any]

TIMEOUT = 5.0  # seconds a call takes at most, unless the caller says otherwise
_MANAGER = "podrate"  # who set a field, as `kubectl get --show-managed-fields` tells
# An end that has gone without a word, as when its node is lost, is noticed after 11 s: on a watch nothing is sent, and
# it would be believed until its time is over.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
)
_MERGE, _OPERATIONS = "application/merge-patch+json", "application/json-patch+json"
_APPLY = "application/apply-patch+yaml"
_FAMILY: Mapping[int, type[Unavailable]] = {404: NotFound, 409: Conflict, 410: Gone}


class Api:
    """The API server of the cluster that we run in, or of the one that KUBECONFIG names."""

    def __init__(self) -> None:
        """Raises Unavailable when no API server is known; it is not asked yet."""
        self._settings = Configuration()
        try:
            if path := os.environ.get("KUBECONFIG"):
                config.load_kube_config(path, client_configuration=self._settings)  # type: ignore[no-untyped-call]
            else:
                config.load_incluster_config(client_configuration=self._settings)  # type: ignore[no-untyped-call]
        except (config.ConfigException, yaml.YAMLError) as error:
            where = "KUBECONFIG" if path else "the service account of this pod"
            raise Unavailable(f"no API server to ask: {where}: {_one_line(error)}") from None
        self._settings.socket_options = [*urllib3.connection.HTTPConnection.default_socket_options, *_KEEPALIVE]
        self._settings.retries = False  # we retry ourselves, and say so
        self._rest = rest.RESTClientObject(self._settings)

    def get(self, path: str, timeout: float = TIMEOUT) -> Object:
        """The object at `path`, for example /api/v1/namespaces/default."""
        return self._call("GET", path, timeout)

    def list(self, path: str, timeout: float = TIMEOUT, **query: str) -> tuple[list[Object], str]:
        """The objects of the collection at `path`, and the resourceVersion to watch from.

        `query` is the API's own, for example fieldSelector="metadata.name=web".
        """
        found = self._call("GET", _with(path, query), timeout)
        return found.get("items") or [], found["metadata"]["resourceVersion"]

    def create(self, path: str, body: Mapping[str, Any], timeout: float = TIMEOUT) -> Object:
        """Create `body` in the collection at `path`; the object as it is kept. Raises Conflict when it is there."""
        return self._call("POST", _with(path, {"fieldManager": _MANAGER}), timeout, body)

    def delete(self, path: str, timeout: float = TIMEOUT) -> Object:
        """Delete the object at `path`; what the API server says to that."""
        return self._call("DELETE", path, timeout)

    def patch(
        self, path: str, change: Mapping[str, Any] | Sequence[Mapping[str, Any]], timeout: float = TIMEOUT
    ) -> Object:
        """Change the object at `path`; the object as it is kept afterwards.

        `change` is a merge patch (RFC 7386), or, when it is a list, a JSON Patch (RFC 6902). A merge patch that holds
        metadata.resourceVersion raises Conflict when the object is not of that version.
        """
        kind = _MERGE if isinstance(change, Mapping) else _OPERATIONS
        return self._call("PATCH", _with(path, {"fieldManager": _MANAGER}), timeout, change, kind)

    def ensure(self, path: str, body: Mapping[str, Any], timeout: float = TIMEOUT) -> Object:
        """Create `body` as the object at `path` unless it is there; of one that is, fields set by others stay.

        A server-side apply: unlike a POST it names the object, so that RBAC can allow the creation of this one alone.
        """
        return self._call("PATCH", _with(path, {"fieldManager": _MANAGER}), timeout, body, _APPLY)

    def watch(self, path: str, version: str, timeout: float = 240, **query: str) -> Iterator[Object]:
        """The changes of the collection at `path` since `version`, as they come: {"type": ADDED, "object": {...}}.

        Ends after about `timeout` seconds: then watch again from the last object's metadata.resourceVersion. An event
        of type BOOKMARK, about once a minute, brings nothing but a newer one. Raises Gone when `version` is too old.
        Reading it blocks, so it wants a thread of its own: a daemon, which nobody waits for at the end.
        """
        query |= {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        query["timeoutSeconds"] = str(int(timeout))
        what = f"watch {path}"
        # The API server ends it in time; if not, the connection is dead.
        response = self._request("GET", _with(path, query), what, (TIMEOUT, timeout + TIMEOUT))
        try:
            for line in _lines(response):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise _refused(what, status.get("code", 0), status.get("message"))
                yield event
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Unavailable(f"{what}: {_one_line(error)}") from None
        finally:
            response.close()

    def _call(self, method: str, path: str, timeout: float, body: object = None, kind: str = "") -> Object:
        what = f"{method.lower()} {path.partition('?')[0]}"
        response = self._request(method, path, what, timeout, body, kind)
        try:
            answer = json.loads(response.data)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Unavailable(f"{what}: {_one_line(error)}") from None
        if not isinstance(answer, dict):
            raise Unavailable(f"{what}: not an object came back")
        return answer

    def _request(
        self, method: str, path: str, what: str, timeout: object, body: object = None, kind: str = ""
    ) -> urllib3.BaseHTTPResponse:
        """The response to a request that succeeded, its body not read yet."""
        headers = {"Accept": "application/json", "Content-Type": kind or "application/json"}
        try:
            # Asked for at each request: the service account's token is a new one every hour.
            if token := self._settings.get_api_key_with_prefix("BearerToken", alias="authorization"):
                headers["Authorization"] = token
            url = self._settings.host + path
            answer: Any = self._rest.request(method, url, headers, body, _request_timeout=timeout)  # type: ignore[no-untyped-call]
            response: urllib3.BaseHTTPResponse = answer.response
            if response.status >= HTTPStatus.BAD_REQUEST:
                raise _refused(what, response.status, _message(response.data) or response.reason)
        except (ApiException, config.ConfigException, urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(f"{what}: {_one_line(getattr(error, 'reason', None) or error)}") from None
        return response


def _refused(what: str, status: int, message: object) -> Unavailable:
    return _FAMILY.get(status, Unavailable)(f"{what}: {status} {_one_line(message)}")


def _message(body: bytes) -> object:
    """What the API server says of its refusal, in its Status."""
    try:
        return json.loads(body)["message"]
    except (ValueError, TypeError, KeyError):
        return None


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The lines of a body, each as soon as it is there."""
    begun = bytearray()
    for chunk in response.stream(None):
        begun += chunk
        *lines, begun = begun.split(b"\n")
        yield from filter(None, lines)


def _with(path: str, query: Mapping[str, str]) -> str:
    return path + ("&" if "?" in path else "?") + urlencode(query) if query else path


def _one_line(what: object) -> str:
    return " ".join(str(what).split())
