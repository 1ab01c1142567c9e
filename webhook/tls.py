"""Certificates: our own authority, the leaf that it signs, the TLS context that serves it, and who would trust it.

ECDSA on P-256: every API server takes it, and a handshake costs a tenth of RSA's. A private key is in no file,
no log and no repr.
"""

import os
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Both are renewed without anybody's help, so both are short: a leaf that was stolen is of use for a month.
AUTHORITY_LIFE = timedelta(days=365)
LEAF_LIFE = timedelta(days=30)
RENEW_BELOW = LEAF_LIFE / 3
_AUTHORITY = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "podrate authority")])
_CLOCK_SKEW = timedelta(hours=1)  # between our node and the API server's


@dataclass(frozen=True)
class Pair:
    """A certificate, with those that lead to its authority if need be, and its private key; PEM, not encrypted."""

    certificate: bytes
    key: bytes = field(repr=False)

    @property
    def x509(self) -> x509.Certificate:
        """The certificate, parsed. Raises ValueError."""
        return x509.load_pem_x509_certificate(self.certificate)

    @property
    def private(self) -> ec.EllipticCurvePrivateKey:
        """The key, parsed. Raises ValueError, also when it is not the certificate's."""
        key = serialization.load_pem_private_key(self.key, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != self.x509.public_key():
            raise ValueError("the key is not the certificate's")
        return key


def service_names(service: str, namespace: str) -> tuple[str, ...]:
    """The names by which a Service is called; the API server uses the first and checks the certificate against it."""
    return tuple(f"{service}.{namespace}{suffix}" for suffix in (".svc", "", ".svc.cluster.local"))


def new_authority(now: datetime | None = None) -> Pair:
    """A new certificate authority, good for AUTHORITY_LIFE."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _AUTHORITY
    builder = (
        _builder(name, key.public_key(), now, AUTHORITY_LIFE)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
    )
    return _signed(builder, key, key)


def issue(authority: Pair, names: Sequence[str], now: datetime | None = None) -> Pair:
    """A new server certificate for the DNS `names`, signed by `authority`, good for LEAF_LIFE."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = authority.private
    builder = (
        _builder(_name("podrate webhook"), key.public_key(), now, LEAF_LIFE)
        .issuer_name(authority.x509.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return _signed(builder, key, signer)


def authority_fault(authority: Pair, now: datetime | None = None) -> str | None:
    """Why `authority` can't sign one more leaf, in a few words; None when it can."""
    try:
        certificate, _ = authority.x509, authority.private
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature):
        return "the authority is missing or unreadable"
    if certificate.not_valid_before_utc > _now(now):
        return (
            f"the authority begins on {certificate.not_valid_before_utc:%Y-%m-%d}: a clock was ahead when it was made"
        )
    if certificate.not_valid_after_utc < _now(now) + LEAF_LIFE:
        return "the authority would end before a leaf that it signs"
    return None


def leaf_fault(leaf: Pair, authority: Pair, names: Sequence[str], now: datetime | None = None) -> str | None:
    """Why `leaf` must be issued anew, in a few words; None when it serves `names` well."""
    try:
        certificate, _ = leaf.x509, leaf.private
        certificate.verify_directly_issued_by(authority.x509)
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return "the leaf is missing, unreadable or another authority's"
    if missing := set(names) - set(alternative.get_values_for_type(x509.DNSName)):
        return f"the leaf lacks {', '.join(sorted(missing))}"
    if certificate.not_valid_before_utc > _now(now):
        return f"the leaf begins on {certificate.not_valid_before_utc:%Y-%m-%d}: a clock was ahead when it was issued"
    if certificate.not_valid_after_utc - _now(now) < RENEW_BELOW:
        return f"the leaf ends on {certificate.not_valid_after_utc:%Y-%m-%d}"
    return None


def server_context() -> ssl.SSLContext:
    """A context that serves nothing yet."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def load(context: ssl.SSLContext, leaf: Pair) -> None:
    """Let `context` serve `leaf` from the next handshake on; the connections that there are stay as they are.

    Not while another thread makes handshakes: OpenSSL does not lock this. Raises ssl.SSLError when the key is not the
    certificate's, or encrypted.
    """
    # The ssl module reads files only: it gets one that is nowhere but in memory.
    file = os.memfd_create("leaf")
    try:
        with open(file, "wb", closefd=False) as writer:
            writer.write(leaf.key.rstrip() + b"\n" + leaf.certificate)
        context.load_cert_chain(f"/proc/self/fd/{file}", password="")  # asks nobody for one
    finally:
        os.close(file)


def distrust(leaf: Pair, authorities: bytes, host: str) -> str | None:
    """Why a client that trusts `authorities` (PEM) does not accept `leaf` for `host`, in a few words; None if it does.

    Told by a handshake, in memory: nobody's reading of a chain can differ from that.
    """
    server, client = server_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # As Go does, which the API server is written in: the subject's name is no address.
    client.hostname_checks_common_name = False
    try:
        load(server, leaf)
        client.load_verify_locations(cadata=authorities.decode("ascii"))
    except (ssl.SSLError, ValueError):
        return "there is no authority" if not authorities.strip() else "it is not PEM"
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server, server_hostname=host), server.wrap_bio(to_server, to_client, True)]
    while ends:
        for end in ends[:]:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
            except ssl.SSLError as error:
                return error.reason
            ends.remove(end)
    return None


def certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Those in `pem`, in their order; none when it can't be read."""
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        return ()


def foreign(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Those in `pem` that are no authorities of ours, of whatever time."""
    return tuple(each for each in certificates(pem) if each.subject != _AUTHORITY)


def bundle(several: Iterable[x509.Certificate], now: datetime | None = None) -> bytes:
    """PEM of `several`, each once and in their order, without those whose time is over."""
    current = dict.fromkeys(each for each in several if each.not_valid_after_utc > _now(now))
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in current)


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime | None, life: timedelta
) -> x509.CertificateBuilder:
    now = _now(now)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _signed(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> Pair:
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    return Pair(
        builder.sign(signer, hashes.SHA256()).public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain),
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*uses: str) -> x509.KeyUsage:
    every = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{use: use in uses for use in every})


def _now(now: datetime | None) -> datetime:
    return now or datetime.now(UTC)
