"""Certificates, and how replicas agree on one."""

import base64
import os
import ssl
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from webhook import tls
from webhook.certificate import FromFiles
from webhook.options import Files
from webhook.selfsigned import agree
from webhook.unavailable import Conflict, Unavailable

NAMES = tls.service_names("podrate", "podrate-system")
NOW = datetime.now(UTC)
AUTHORITY = tls.new_authority(NOW)


def serving(leaf: tls.Pair) -> ssl.SSLContext:
    context = tls.server_context()
    tls.load(context, leaf)
    return context


def handshake(server: ssl.SSLContext, authority: bytes, name: str) -> None:
    """A TLS handshake in memory, by a client as strict as OpenSSL can be."""
    client = ssl.create_default_context(cadata=authority.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server, server_hostname=name), server.wrap_bio(to_server, to_client, True)]
    while ends:
        for end in ends[:]:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


def test_the_names_are_those_of_a_service() -> None:
    assert NAMES == (
        "podrate.podrate-system.svc",
        "podrate.podrate-system",
        "podrate.podrate-system.svc.cluster.local",
    )


def test_a_strict_client_accepts_the_leaf_for_its_names_only() -> None:
    server = serving(tls.issue(AUTHORITY, NAMES))
    for name in NAMES:
        handshake(server, AUTHORITY.certificate, name)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(server, AUTHORITY.certificate, "other.podrate-system.svc")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, tls.new_authority().certificate, NAMES[0])


def test_a_key_is_shown_nowhere_and_left_nowhere() -> None:
    leaf = tls.issue(AUTHORITY, NAMES)
    assert b"PRIVATE" in leaf.key
    assert "PRIVATE" not in repr(leaf)
    before = os.listdir("/proc/self/fd")  # noqa: PTH208  what is open, as the kernel tells
    serving(leaf)
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


def test_when_a_leaf_is_issued_anew() -> None:
    leaf = tls.issue(AUTHORITY, NAMES, NOW)
    third = tls.LEAF_LIFE / 3
    day = timedelta(days=1)
    assert tls.leaf_fault(leaf, AUTHORITY, NAMES, NOW) is None
    assert tls.leaf_fault(leaf, AUTHORITY, NAMES[:1], NOW) is None
    assert tls.leaf_fault(leaf, AUTHORITY, NAMES, NOW + 2 * third - day) is None
    assert "ends on" in str(tls.leaf_fault(leaf, AUTHORITY, NAMES, NOW + 2 * third + day))
    assert "a clock was ahead" in str(tls.leaf_fault(leaf, AUTHORITY, NAMES, NOW - day))
    assert tls.leaf_fault(leaf, AUTHORITY, ["new.svc", *NAMES], NOW) == "the leaf lacks new.svc"
    unreadable = "the leaf is missing, unreadable or another authority's"
    other = tls.issue(AUTHORITY, NAMES, NOW)
    assert tls.leaf_fault(leaf, tls.new_authority(), NAMES, NOW) == unreadable
    assert tls.leaf_fault(tls.Pair(leaf.certificate, other.key), AUTHORITY, NAMES, NOW) == unreadable
    assert tls.leaf_fault(tls.Pair(b"", b""), AUTHORITY, NAMES, NOW) == unreadable


def test_when_an_authority_is_made_anew() -> None:
    leaf = tls.issue(AUTHORITY, NAMES, NOW)
    assert tls.authority_fault(AUTHORITY, NOW) is None
    assert "a clock was ahead" in str(tls.authority_fault(AUTHORITY, NOW - timedelta(days=1)))
    assert tls.authority_fault(AUTHORITY, NOW + tls.AUTHORITY_LIFE - tls.LEAF_LIFE / 2) is not None
    for bad in (tls.Pair(b"", b""), tls.Pair(b"x", b"y"), tls.Pair(AUTHORITY.certificate, leaf.key), leaf):
        assert tls.authority_fault(bad, NOW) == "the authority is missing or unreadable"


class Memory:
    """A store with the API server's rule: who writes names the version that was read."""

    def __init__(self, data: Mapping[str, bytes] | None = None, rivals: int = 0) -> None:
        self.data = dict(data or {})
        self.version = 0
        self._lock = threading.Lock()
        # So many readers wait for each other: each has then read before any writes.
        self._barrier = threading.Barrier(rivals) if rivals else None

    def read(self) -> tuple[Mapping[str, bytes], str]:
        with self._lock:
            found = dict(self.data), str(self.version)
        if self._barrier and found[1] == "0":
            self._barrier.wait(10)
        return found

    def write(self, data: Mapping[str, bytes], version: str) -> None:
        with self._lock:
            if version != str(self.version):
                raise Conflict("conflict")
            self.data, self.version = self.data | dict(data), self.version + 1


def test_the_first_replica_makes_it_and_the_next_uses_it() -> None:
    store = Memory({"other": b"kept"})
    agreed = agree(store, NAMES)
    handshake(serving(agreed.leaf), agreed.authorities, NAMES[0])
    assert store.data == {
        "other": b"kept",
        "ca.crt": agreed.authorities,
        "ca.key": store.data["ca.key"],
        "tls.crt": agreed.leaf.certificate,
        "tls.key": agreed.leaf.key,
    }
    assert agree(store, NAMES) == agreed
    assert store.version == 1


def test_replicas_that_start_at_once_serve_one_certificate() -> None:
    store = Memory(rivals=6)
    with ThreadPoolExecutor(6) as replicas:
        agreed = list(replicas.map(lambda _: agree(store, NAMES), range(6)))
    assert len(set(agreed)) == 1
    assert store.version == 1


@pytest.mark.parametrize("lost", ["tls.crt", "tls.key"])
def test_the_authority_outlives_its_leaves(lost: str) -> None:
    store = Memory()
    first = agree(store, NAMES)
    store.data[lost] = b"garbage"
    anew = agree(store, NAMES, first)
    assert anew.authorities == first.authorities
    assert anew.leaf != first.leaf
    late = agree(store, NAMES, anew, now=NOW + tls.LEAF_LIFE * 0.7)
    assert late.authorities == first.authorities
    assert late.leaf != anew.leaf
    moved = agree(store, ["elsewhere.svc"], late)
    assert moved.authorities == first.authorities
    handshake(serving(moved.leaf), moved.authorities, "elsewhere.svc")


@pytest.mark.parametrize("lost", [("ca.key",), ("ca.crt",), ("ca.crt", "ca.key", "tls.crt", "tls.key")])
def test_a_new_authority_is_trusted_beside_the_old_until_all_is_settled(lost: Sequence[str]) -> None:
    store = Memory()
    old = agree(store, NAMES)
    for key in lost:
        del store.data[key]
    new = agree(store, NAMES, old)
    assert new.leaf != old.leaf
    for each in (old.leaf, new.leaf):
        handshake(serving(each), new.authorities, NAMES[0])
    assert agree(store, NAMES, new) == new
    # A replica that has another leaf in mind has not settled on this one.
    assert agree(store, NAMES, old, settled=True) == new
    settled = agree(store, NAMES, new, settled=True)
    assert settled.leaf == new.leaf
    assert tls.distrust(new.leaf, settled.authorities, NAMES[0]) is None
    assert tls.distrust(old.leaf, settled.authorities, NAMES[0]) is not None
    assert agree(store, NAMES, settled, settled=True) == settled


def test_an_authority_is_followed_before_it_ends() -> None:
    store = Memory()
    old = agree(store, NAMES, now=NOW)
    late = NOW + tls.AUTHORITY_LIFE - tls.LEAF_LIFE / 2
    new = agree(store, NAMES, old, now=late)
    assert tls.certificates(new.authorities)[1:] == tls.certificates(old.authorities)
    # One whose time is over is of no use to anybody.
    after = agree(store, NAMES, new, now=late + tls.LEAF_LIFE)
    assert after.authorities == tls.bundle(tls.certificates(new.authorities)[:1])


def test_writing_in_turns_ends() -> None:
    class Contested(Memory):
        def write(self, data: Mapping[str, bytes], version: str) -> None:  # noqa: ARG002  always too late
            raise Conflict("conflict")

    with pytest.raises(Unavailable, match="10 times in a row"):
        agree(Contested(), NAMES)


def test_provided_files_that_can_not_be_served(tmp_path: Path) -> None:
    leaf = tls.issue(AUTHORITY, NAMES)
    encryption = serialization.BestAvailableEncryption(b"secret")
    files = {
        "tls.crt": leaf.certificate,
        "tls.key": leaf.key,
        "other.key": tls.issue(AUTHORITY, NAMES).key,
        "encrypted.key": leaf.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        ),
        "der.crt": base64.b64decode("".join(leaf.certificate.decode().splitlines()[1:-1])),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    handshake(
        serving(FromFiles(Files(tmp_path / "tls.crt", tmp_path / "tls.key")).leaf(False)),
        AUTHORITY.certificate,
        NAMES[0],
    )
    for certificate, key in (("tls.crt", "other.key"), ("tls.crt", "encrypted.key"), ("der.crt", "tls.key")):
        with pytest.raises(Unavailable, match="not a certificate and its own key, both PEM and not encrypted"):
            FromFiles(Files(tmp_path / certificate, tmp_path / key)).leaf(False)


def test_why_a_certificate_is_not_trusted() -> None:
    leaf = tls.issue(AUTHORITY, NAMES)
    assert tls.distrust(leaf, AUTHORITY.certificate, NAMES[0]) is None
    assert tls.distrust(leaf, tls.new_authority().certificate + AUTHORITY.certificate, NAMES[0]) is None
    assert tls.distrust(leaf, b" ", NAMES[0]) == "there is no authority"
    assert tls.distrust(leaf, b"x", NAMES[0]) == "it is not PEM"
    assert tls.distrust(leaf, b"\xff", NAMES[0]) == "it is not PEM"
    assert "Hostname mismatch" in str(tls.distrust(leaf, AUTHORITY.certificate, "other.svc"))
    assert "issuer" in str(tls.distrust(leaf, tls.new_authority().certificate, NAMES[0]))
    old = tls.issue(AUTHORITY, NAMES, NOW - 2 * tls.LEAF_LIFE)
    assert tls.distrust(old, AUTHORITY.certificate, NAMES[0]) == "certificate has expired"


def test_files_are_trusted_beside_what_was(tmp_path: Path) -> None:
    """One replica has the new files before the next: until the old end, both authorities are trusted."""
    old, over = tls.new_authority(), tls.new_authority(NOW - 2 * tls.AUTHORITY_LIFE)
    (tmp_path / "ca.crt").write_bytes(AUTHORITY.certificate)
    source = FromFiles(Files(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt"))
    assert source.authorities(b"") == AUTHORITY.certificate
    assert source.authorities(old.certificate + over.certificate) == AUTHORITY.certificate + old.certificate
    assert source.authorities(AUTHORITY.certificate + old.certificate) == AUTHORITY.certificate + old.certificate
    (tmp_path / "ca.crt").write_bytes(b"")
    with pytest.raises(Unavailable, match="ca.crt: no certificate in PEM"):
        source.authorities(b"")
    somebody_else = FromFiles(Files(tmp_path / "tls.crt", tmp_path / "tls.key"))
    assert somebody_else.authorities(b"theirs") == b"theirs"


def test_of_our_own_authorities_those_of_the_secret_and_others_stay() -> None:
    """A replica of another tls.mode may run beside us: two that write in turns would never end."""
    ours, stale = tls.new_authority(), tls.new_authority()
    theirs = x509.load_pem_x509_certificate(_OPERATORS)
    assert tls.foreign(ours.certificate + _OPERATORS + stale.certificate) == (theirs,)
    assert tls.foreign(b"x") == ()


_OPERATORS = b"""
-----BEGIN CERTIFICATE-----
MIIBfTCCASOgAwIBAgIUBLD1TxaN33cpDlN0ttmASZFY/fkwCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIb3BlcmF0b3IwIBcNMjYxMTI1MTAyMTQ1WhgPMjEyNjExMDEx
MDIxNDVaMBMxETAPBgNVBAMMCG9wZXJhdG9yMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEafCb1GkFPzpSMgZ3t0QtJrTB+TbcJeDtldmRcW5jwLJGC+QPlWlRYtuK
X4RNkSlPYyZOxdYHSJE9v0itE+UNk6NTMFEwHQYDVR0OBBYEFDmwxNrzikK1o1/o
QOe8Ykby5wPDMB8GA1UdIwQYMBaAFDmwxNrzikK1o1/oQOe8Ykby5wPDMA8GA1Ud
EwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgUrIINCKchX5OwTcY96Fe+GOr
vQRkn5+jePhe+8zCZqcCIQDhofXYB66u0TDozHx7kyfBSKkByTehbvdWWVpdd/Ag
6w==
-----END CERTIFICATE-----
"""
