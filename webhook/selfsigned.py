"""How the replicas come to serve one certificate of their own making: by what they find in a shared store.

The store holds the leaf (tls.crt, tls.key), the authority that signs (ca.key), and all authorities that the API
server should trust (ca.crt, the one that signs first). The replicas agree without talking: whoever finds something
missing or old makes it anew and writes it on condition that nobody wrote in between; who comes second reads again,
and takes the winner's. See docs/decisions/0006-certificate-rotation.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography.hazmat.primitives.serialization import Encoding

from webhook import log, tls
from webhook.unavailable import Conflict, Unavailable

# A replica of another version may want other names than we do: two of them must not write in turns for ever.
_ATTEMPTS = 10


class Store(Protocol):
    """Where the replicas agree: one small map of bytes, with a version that changes at each write."""

    def read(self) -> tuple[Mapping[str, bytes], str]:
        """The data and its version. Raises Unavailable."""

    def write(self, data: Mapping[str, bytes], version: str) -> None:
        """Set the keys of `data` in what was read as `version`. Raises Conflict when it is another now, Unavailable."""


@dataclass(frozen=True)
class Agreed:
    """What all replicas hold: the leaf to serve, and all authorities to trust (PEM, the leaf's own first)."""

    leaf: tls.Pair
    authorities: bytes


def agree(
    store: Store, names: Sequence[str], before: Agreed | None = None, settled: bool = False, now: datetime | None = None
) -> Agreed:
    """What is in `store` when it is good for `names`; else what is missing or old is made anew, and written.

    before:   what was agreed on last time: its authorities stay trusted beside a new one
    settled:  the leaf that was agreed on has been served for so long that older authorities can go

    Raises Unavailable.
    """
    for _ in range(_ATTEMPTS):
        data, version = store.read()
        trusted = tls.certificates(data.get("ca.crt", b""))
        first = trusted[0].public_bytes(Encoding.PEM) if trusted else b""
        authority, leaf = tls.Pair(first, data.get("ca.key", b"")), _pair(data, "tls")
        if fault := tls.authority_fault(authority, now):
            authority = tls.new_authority(now)
            trusted = (authority.x509, *trusted, *(tls.certificates(before.authorities) if before else ()))
        elif settled and len(trusted) > 1 and before and before.leaf == leaf:
            fault, trusted = "the leaf of the new authority is served everywhere", trusted[:1]
        if leaf_fault := tls.leaf_fault(leaf, authority, names, now):
            leaf = tls.issue(authority, names, now)
        agreed = Agreed(leaf, tls.bundle(trusted, now))
        if not (fault or leaf_fault):
            return agreed
        made = {"ca.crt": agreed.authorities, "ca.key": authority.key}
        made |= {"tls.crt": leaf.certificate, "tls.key": leaf.key}
        try:
            store.write(made, version)
        except Conflict:
            continue
        log.event("certificate written", reason=fault or leaf_fault or "")
        return agreed
    raise Unavailable(f"the certificate's Secret was written by others {_ATTEMPTS} times in a row")


def _pair(data: Mapping[str, bytes], name: str) -> tls.Pair:
    return tls.Pair(data.get(f"{name}.crt", b""), data.get(f"{name}.key", b""))
