"""Whom the API server trusts when it calls us: the caBundle of each entry of our MutatingWebhookConfiguration."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from webhook import log
from webhook.api import Api, Object

COLLECTION = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"


@dataclass(frozen=True)
class Entry:
    """One webhook of the configuration.

    name:  its own
    host:  what the API server takes us for: the certificate must be good for it
    trusted:  the authorities that it trusts, PEM
    """

    name: str
    host: str
    trusted: bytes


class Configuration:
    """The MutatingWebhookConfiguration `name`. Both methods block, and raise Unavailable."""

    def __init__(self, api: Api, name: str) -> None:
        self._api = api
        self._name = name
        self._path = f"{COLLECTION}/{name}"
        self._version = ""

    def read(self) -> list[Entry]:
        """The entries as they are now."""
        return self._entries(self._api.get(self._path))

    def trust(self, wanted: Sequence[bytes]) -> list[Entry]:
        """Give each of the entries that were read its authorities; the entries as they are then.

        Raises Conflict when the configuration was written since it was read.
        """
        change: list[dict[str, str]] = [{"op": "add", "path": "/metadata/resourceVersion", "value": self._version}]
        for index, authorities in enumerate(wanted):
            bundle = base64.b64encode(authorities).decode()
            change.append({"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle})
        entries = self._entries(self._api.patch(self._path, change))
        log.event("caBundle set", configuration=self._name)
        return entries

    def _entries(self, found: Object) -> list[Entry]:
        self._version = found["metadata"]["resourceVersion"]
        return [_entry(each) for each in found.get("webhooks") or ()]


def _entry(webhook: dict[str, Any]) -> Entry:
    client = webhook["clientConfig"]
    if service := client.get("service"):
        host = f"{service['name']}.{service['namespace']}.svc"
    else:
        host = urlsplit(client["url"]).hostname or ""
    try:
        trusted = base64.b64decode(client.get("caBundle") or "", validate=True)
    except binascii.Error:
        trusted = b""
    return Entry(webhook["name"], host, trusted)
