"""TLS of a server without a proxy: a certificate of one's own, or one that the server makes, which
clients know by its fingerprint."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import logging
import os
import ssl
import time
from pathlib import Path

from earshot.codec.errors import UsageError
from earshot.protocol.text import MAX_SHOWN, clean
from earshot.server.access.keys import default_key_file

log = logging.getLogger(__name__)

SELF_SIGNED = "self-signed"
DAYS = 3650
"""Clients know the certificate by its fingerprint, which must not change by itself."""


LOOK_EVERY_S = 60.0
"""Time between two looks whether the certificate was renewed."""


class Tls:
    """What a server proves itself with. A certificate that is renewed in its file is taken for
    connections that begin later."""

    def __init__(self, certificate: Path, key: Path | None, self_signed: bool) -> None:
        """Raises OSError or ValueError for a certificate or a key that cannot be used."""
        self._certificate, self._key = certificate, key
        self.self_signed = self_signed
        self._seen = self._versions()
        self._context = _context(certificate, key)
        self.fingerprint = _fingerprint(certificate)
        """SHA-256 of the certificate at the start, 64 hexadecimal digits."""
        self._looked_s = time.monotonic()

    def context(self, now_s: float | None = None) -> ssl.SSLContext:
        """Returns what a new connection is greeted with. Files that cannot be used, as in the
        middle of a renewal, are tried again later."""
        now_s = time.monotonic() if now_s is None else now_s
        if now_s - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now_s
            self._look()
        return self._context

    def _look(self) -> None:
        try:
            versions = self._versions()
            if versions != self._seen:
                self._context, self._seen = _context(self._certificate, self._key), versions
                log.info("the certificate was renewed, its fingerprint is %s", _fingerprint(self._certificate))
        except (OSError, ValueError) as error:
            log.warning("the renewed certificate cannot be used: %s", clean(_why(error), MAX_SHOWN))

    def _versions(self) -> list[tuple[int, int]]:
        files = [self._certificate, *([self._key] if self._key else [])]
        return [(about.st_mtime_ns, about.st_ino) for about in map(Path.stat, files)]


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
    try:
        return Tls(path, None if made else key, made)
    except (OSError, ValueError) as error:
        raise UsageError(f"the certificate {path} or its key cannot be used ({_why(error)})") from error


def _context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key, password=_no_password)
    return context


def _no_password() -> str:
    """OpenSSL would ask on the terminal, and the server would stand still meanwhile."""
    raise ValueError("its key asks for a password")


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)


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
