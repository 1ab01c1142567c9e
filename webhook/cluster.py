"""The two objects of the cluster that the webhook touches: the Secret of its certificate, and its configuration.

Importing `kubernetes` takes half a second and 20 MB: only a webhook that makes its own certificate does.
"""

import base64
import binascii
import json
import os
import ssl
from collections.abc import Mapping
from typing import Any

import urllib3
import yaml  # of kubernetes
from kubernetes import client, config

from webhook import log, tls
from webhook.certificate import Unavailable
from webhook.options import SelfSigned
from webhook.selfsigned import Conflict, agree

_TIMEOUT = 5  # seconds a call
_MANAGER = "podrate"  # who set a field, as `kubectl get --show-managed-fields` tells


class Cluster:
    """A certificate of our own, as a Source: kept in the Secret, trusted by the configuration."""

    def __init__(self, names: SelfSigned) -> None:
        """Raises Unavailable when there is no API server to ask; it is not asked yet."""
        self._api = _connect()
        self._names = names
        self._secret = Secret(self._api, names.namespace, names.secret)
        self._authority = b""

    def context(self) -> ssl.SSLContext:
        """As Source says. The leaf is the one that all replicas serve."""
        leaf, self._authority = agree(self._secret, tls.service_names(self._names.service, self._names.namespace))
        return tls.server_context(leaf)

    def publish(self) -> None:
        """As Source says."""
        publish(self._api, self._names.configuration, self._authority)


def _connect() -> client.ApiClient:
    """A client of the cluster that we run in, or of the one that KUBECONFIG names. Raises Unavailable."""
    settings = client.Configuration()
    try:
        if path := os.environ.get("KUBECONFIG"):
            config.load_kube_config(path, client_configuration=settings)  # type: ignore[no-untyped-call]
        else:
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except (config.ConfigException, yaml.YAMLError) as error:
        where = "KUBECONFIG" if path else "the service account of this pod"
        raise Unavailable(f"no API server to ask: {where}: {_one_line(error)}") from None
    settings.retries = False  # we retry ourselves, and say so
    return client.ApiClient(settings)


class Secret:
    """The existing Secret `namespace`/`name`, as a Store."""

    def __init__(self, api: client.ApiClient, namespace: str, name: str) -> None:
        self._api = client.CoreV1Api(api)
        self._namespace = namespace
        self._name = name
        self._read: dict[str, Any] = {}

    def read(self) -> tuple[Mapping[str, bytes], str]:
        """As Store says. A value that is not base64, or empty, reads as one that is missing."""
        self._read = _call(
            self._api.read_namespaced_secret, self._what("read"), name=self._name, namespace=self._namespace
        )
        data = {key: _decoded(value) for key, value in (self._read.get("data") or {}).items()}
        return data, self._read["metadata"]["resourceVersion"]

    def write(self, data: Mapping[str, bytes], version: str) -> None:
        """As Store says: an update with the resourceVersion that was read, by which the API server decides."""
        body = self._read | {"data": {key: base64.b64encode(value).decode() for key, value in data.items()}}
        body["metadata"] = self._read["metadata"] | {"resourceVersion": version}
        _call(
            self._api.replace_namespaced_secret,
            self._what("update"),
            name=self._name,
            namespace=self._namespace,
            body=body,
            field_manager=_MANAGER,
        )

    def _what(self, verb: str) -> str:
        return f"{verb} Secret {self._namespace}/{self._name}"


def publish(api: client.ApiClient, name: str, authority: bytes) -> None:
    """Make every webhook of the MutatingWebhookConfiguration `name` trust `authority`; no write when they all do.

    Returns once the configuration as the API server keeps it holds our authority. Raises Unavailable.
    """
    calls = client.AdmissionregistrationV1Api(api)
    what = f"MutatingWebhookConfiguration {name}"
    found = _call(calls.read_mutating_webhook_configuration, f"read {what}", name=name)
    if _trusts(found, authority):
        return
    bundle = base64.b64encode(authority).decode()
    operations: list[dict[str, str]] = []
    for index, hook in enumerate(found.get("webhooks") or ()):
        # The list may have changed since we read it.
        operations.append({"op": "test", "path": f"/webhooks/{index}/name", "value": hook["name"]})
        operations.append({"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle})
    if operations:
        found = _call(
            calls.patch_mutating_webhook_configuration,
            f"patch {what}",
            name=name,
            body=operations,
            field_manager=_MANAGER,
        )
    if not _trusts(found, authority):
        raise Unavailable(f"{what} does not hold our authority, though it was patched")
    log.event("caBundle set", configuration=name)


def _trusts(configuration: Mapping[str, Any], authority: bytes) -> bool:
    bundles = [_decoded(hook["clientConfig"].get("caBundle")) for hook in configuration.get("webhooks") or ()]
    return bool(bundles) and all(authority.strip() in bundle for bundle in bundles)


def _call(method: Any, what: str, **arguments: object) -> dict[str, Any]:  # noqa: ANN401  kubernetes is not typed
    """The raw object that an API call answers. Raw, for the client's models drop what they do not know."""
    try:
        answer = method(**arguments, _preload_content=False, _request_timeout=_TIMEOUT)
        return json.loads(answer.data)  # type: ignore[no-any-return]
    except client.ApiException as error:
        if error.status == 409:
            raise Conflict from None
        raise Unavailable(f"{what}: {error.status} {_message(error)}") from None
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise Unavailable(f"{what}: {_one_line(error)}") from None


def _message(error: client.ApiException) -> str:
    """What the API server said, from its Status."""
    try:
        return _one_line(json.loads(error.body or "")["message"])
    except (ValueError, TypeError, KeyError):
        return _one_line(error.reason)


def _decoded(value: str | None) -> bytes:
    try:
        return base64.b64decode(value or "", validate=True)
    except binascii.Error:
        return b""


def _one_line(what: object) -> str:
    return " ".join(str(what).split())
