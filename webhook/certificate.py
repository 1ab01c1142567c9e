"""Where the served certificate comes from: files that somebody else keeps, or a Secret that the replicas keep.

Both are asked again and again, for both change while we run. All methods block, and raise Unavailable.
"""

import base64
import binascii
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from webhook import tls, trust
from webhook.api import Api, Object
from webhook.options import Files, SelfSigned
from webhook.selfsigned import Agreed, agree
from webhook.unavailable import NotFound, Unavailable

_UNINSTALL = 1.0  # seconds
_HELM = "meta.helm.sh/"
_MANAGED_BY = "app.kubernetes.io/managed-by"


class Source(Protocol):
    """A certificate to serve."""

    def leaf(self, settled: bool) -> tls.Pair:
        """The one to serve by now. `settled`: the last one has been served for so long that what led to it can go."""

    def authorities(self, trusted: bytes) -> bytes:
        """What the API server should trust, where it trusts `trusted` now (both PEM)."""


class FromFiles:
    """A certificate from elsewhere, cert-manager's or the operator's own."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def leaf(self, settled: bool) -> tls.Pair:  # noqa: ARG002  who made the files sees to that
        """As Source says."""
        pair = tls.Pair(_content(self._files.certificate), _content(self._files.key))
        try:
            tls.load(tls.server_context(), pair)
            pair.x509  # noqa: B018  that it can be read
        except (ssl.SSLError, ValueError) as error:
            raise Unavailable(
                f"{self._files.certificate}, {self._files.key}: "
                f"not a certificate and its own key, both PEM and not encrypted ({getattr(error, 'reason', error)})"
            ) from None
        return pair

    def authorities(self, trusted: bytes) -> bytes:
        """As Source says: without a file of authorities, somebody else tells the API server whom to trust.

        Ours beside those that it trusts: the kubelet brings new files to one replica a minute before the next, and
        each must be trusted meanwhile. Those whose time is over go.
        """
        if self._files.authorities is None:
            return trusted
        ours = tls.certificates(_content(self._files.authorities))
        if not ours:
            raise Unavailable(f"{self._files.authorities}: no certificate in PEM")
        return tls.bundle((*ours, *tls.certificates(trusted)))


class FromSecret:
    """A certificate of our own, the same for all replicas."""

    def __init__(self, api: Api, names: SelfSigned, configuration: str) -> None:
        """`configuration`: the name of ours, of whose release the Secret is too."""
        self._store = Secret(api, names.namespace, names.secret, configuration)
        self._names = tls.service_names(names.service, names.namespace)
        self._agreed: Agreed | None = None

    def leaf(self, settled: bool) -> tls.Pair:
        """As Source says."""
        self._agreed = agree(self._store, self._names, self._agreed, settled)
        return self._agreed.leaf

    def authorities(self, trusted: bytes) -> bytes:
        """As Source says: of our own authorities those of the Secret. Others stay: replicas of another tls.mode may
        run beside us while it is changed."""
        ours = self._agreed.authorities if self._agreed else b""
        return tls.bundle((*tls.certificates(ours), *tls.foreign(trusted)))


def secrets(namespace: str) -> str:
    """The path of the Secrets of a namespace."""
    return f"/api/v1/namespaces/{namespace}/secrets"


class Secret:
    """The Secret `namespace`/`name`, as a Store."""

    def __init__(self, api: Api, namespace: str, name: str, configuration: str) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._path = f"{secrets(namespace)}/{name}"
        self._configuration = f"{trust.COLLECTION}/{configuration}"

    def read(self) -> tuple[Mapping[str, bytes], str]:
        """As Store says. One that was deleted is made anew; a value that is not base64 reads as one that is missing."""
        try:
            found = self._api.get(self._path)
        except NotFound:
            # `helm uninstall` takes our right to make it just before it: once that is known everywhere, we can't.
            time.sleep(_UNINSTALL)
            found = self._api.ensure(self._path, self._anew())
        data = {key: _decoded(value) for key, value in (found.get("data") or {}).items()}
        return data, found["metadata"]["resourceVersion"]

    def _anew(self) -> Object:
        """An empty one, of the same release as the configuration: helm deletes nothing that does not say so.

        It has no label with a chart's version: the next chart's value would conflict with ours, and the upgrade fail.
        """
        release = self._api.get(self._configuration)["metadata"]
        labels = release.get("labels") or {}
        metadata = {
            "name": self._name,
            "namespace": self._namespace,
            "labels": {_MANAGED_BY: labels[_MANAGED_BY]} if _MANAGED_BY in labels else {},
            "annotations": {
                key: value for key, value in (release.get("annotations") or {}).items() if key.startswith(_HELM)
            },
        }
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}

    def write(self, data: Mapping[str, bytes], version: str) -> None:
        """As Store says: with the resourceVersion that was read, by which the API server decides."""
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        self._api.patch(self._path, {"metadata": {"resourceVersion": version}, "data": encoded})


def _decoded(value: str | None) -> bytes:
    try:
        return base64.b64decode(value or "", validate=True)
    except binascii.Error:
        return b""


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Unavailable(f"{file}: {error.strerror}") from None
