"""TLS of a server without a proxy: a certificate of one's own, or one that the server makes, which
clients know by its fingerprint."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import ssl
from pathlib import Path
from typing import NamedTuple

from earshot.codec.errors import UsageError
from earshot.server.access.keys import default_key_file

SELF_SIGNED = "self-signed"
DAYS = 3650
"""Clients know the certificate by its fingerprint, which must not change by itself."""


class Tls(NamedTuple):
    """What a server proves itself with."""

    context: ssl.SSLContext
    fingerprint: str
    """SHA-256 of the certificate, 64 hexadecimal digits."""
    self_signed: bool


def server_tls(certificate: str, key: Path | None) -> Tls | None:
    """Returns what the settings `tls` and `tls_key` ask for; None for "". The certificate is a PEM
    file, which may have the key too, or "self-signed". Raises UsageError."""
    if not certificate:
        if key is not None:
            raise UsageError("--tls-key asks for --tls CERTIFICATE")
        return None
    made = certificate == SELF_SIGNED
    path = _own() if made else Path(certificate)
    if made and not path.exists():
        _make(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(path, None if made else key)
        return Tls(context, _fingerprint(path), made)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise UsageError(f"the certificate {path} or its key cannot be used ({why})") from error


def own_fingerprint() -> str | None:
    """Returns the fingerprint of the certificate that `self-signed` made; None if it made none."""
    try:
        return _fingerprint(_own())
    except (OSError, ValueError):
        return None


def _own() -> Path:
    return default_key_file().with_name("tls.pem")


def _fingerprint(certificate: Path) -> str:
    pem = certificate.read_text("ascii")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    first = pem[pem.index(begin) : pem.index(end) + len(end)]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()


def _make(path: Path) -> None:
    """Writes a key and a certificate for it to a file that its owner alone can read."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError as error:
        raise UsageError("a certificate is made with a package more: pip install 'earshot[tls]'") from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Earshot")])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(certificate.public_bytes(pem) + private)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error
