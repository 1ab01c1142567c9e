"""The two objects of the cluster that the webhook touches: the Secret of its certificate, and its configuration."""

import base64
import binascii
import ssl
from collections.abc import Mapping
from typing import Any

from webhook import log, tls
from webhook.api import Api
from webhook.options import SelfSigned
from webhook.selfsigned import agree
from webhook.unavailable import Unavailable


class Cluster:
    """A certificate of our own, as a Source: kept in the Secret, trusted by the configuration."""

    def __init__(self, api: Api, names: SelfSigned) -> None:
        self._api = api
        self._names = names
        self._secret = Secret(api, names.namespace, names.secret)
        self._authority = b""

    def context(self) -> ssl.SSLContext:
        """As Source says. The leaf is the one that all replicas serve."""
        leaf, self._authority = agree(self._secret, tls.service_names(self._names.service, self._names.namespace))
        return tls.server_context(leaf)

    def publish(self) -> None:
        """As Source says."""
        publish(self._api, self._names.configuration, self._authority)


class Secret:
    """The existing Secret `namespace`/`name`, as a Store."""

    def __init__(self, api: Api, namespace: str, name: str) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/secrets/{name}"

    def read(self) -> tuple[Mapping[str, bytes], str]:
        """As Store says. A value that is not base64, or empty, reads as one that is missing."""
        found = self._api.get(self._path)
        data = {key: _decoded(value) for key, value in (found.get("data") or {}).items()}
        return data, found["metadata"]["resourceVersion"]

    def write(self, data: Mapping[str, bytes], version: str) -> None:
        """As Store says: with the resourceVersion that was read, by which the API server decides."""
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        self._api.patch(self._path, {"metadata": {"resourceVersion": version}, "data": encoded})


def publish(api: Api, name: str, authority: bytes) -> None:
    """Make every webhook of the MutatingWebhookConfiguration `name` trust `authority`; no write when they all do.

    Returns once the configuration as the API server keeps it holds our authority. Raises Unavailable.
    """
    path = f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{name}"
    found = api.get(path)
    if _trusts(found, authority):
        return
    bundle = base64.b64encode(authority).decode()
    operations: list[dict[str, str]] = []
    for index, hook in enumerate(found.get("webhooks") or ()):
        # The list may have changed since we read it.
        operations.append({"op": "test", "path": f"/webhooks/{index}/name", "value": hook["name"]})
        operations.append({"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle})
    if operations:
        found = api.patch(path, operations)
    if not _trusts(found, authority):
        raise Unavailable(f"MutatingWebhookConfiguration {name} does not hold our authority, though it was patched")
    log.event("caBundle set", configuration=name)


def _trusts(configuration: Mapping[str, Any], authority: bytes) -> bool:
    bundles = [_decoded(hook["clientConfig"].get("caBundle")) for hook in configuration.get("webhooks") or ()]
    return bool(bundles) and all(authority.strip() in bundle for bundle in bundles)


def _decoded(value: str | None) -> bytes:
    try:
        return base64.b64decode(value or "", validate=True)
    except binascii.Error:
        return b""
