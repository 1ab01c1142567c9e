"""How the replicas come to serve one certificate of their own making: by what they find in a shared store.

The store holds the authority (ca.crt, ca.key) and the leaf (tls.crt, tls.key). The replicas agree without talking:
whoever finds something missing or old makes it anew and writes it on condition that nobody wrote in between;
who comes second reads again, and takes the winner's.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from webhook import log, tls
from webhook.unavailable import Conflict, Unavailable

# A replica of another version may want other names than we do: two of them must not write in turns for ever.
_ATTEMPTS = 10


class Store(Protocol):
    """Where the replicas agree: one small map of bytes, with a version that changes at each write."""

    def read(self) -> tuple[Mapping[str, bytes], str]:
        """The data and its version. Raises Unavailable."""

    def write(self, data: Mapping[str, bytes], version: str) -> None:
        """Replace the data that was read as `version`. Raises Conflict when it is another by now, or Unavailable."""


def agree(store: Store, names: Sequence[str], now: datetime | None = None) -> tuple[tls.Pair, bytes]:
    """The leaf that serves `names`, the same for every replica, and its authority's certificate.

    What is in `store` is used as it is when it is good; else the leaf is issued anew, from the same authority when
    that is good. Raises Unavailable.
    """
    for _ in range(_ATTEMPTS):
        data, version = store.read()
        authority = tls.Pair(data.get("ca.crt", b""), data.get("ca.key", b""))
        leaf = tls.Pair(data.get("tls.crt", b""), data.get("tls.key", b""))
        fault = tls.authority_fault(authority, now)
        if fault is not None:
            authority = tls.new_authority(now)
        fault = fault or tls.leaf_fault(leaf, authority, names, now)
        if fault is None:
            return leaf, authority.certificate
        leaf = tls.issue(authority, names, now)
        made = {"ca.crt": authority.certificate, "ca.key": authority.key}
        made |= {"tls.crt": leaf.certificate, "tls.key": leaf.key}
        try:
            store.write({**data, **made}, version)
        except Conflict:
            continue
        log.event("certificate issued", reason=fault)
        return leaf, authority.certificate
    raise Unavailable(f"the certificate's Secret was written by others {_ATTEMPTS} times in a row")
