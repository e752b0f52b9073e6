"""How a client knows its server where no authority vouches for it: by the fingerprint of the
certificate, as `earshot serve --tls self-signed` shows it."""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
from urllib.parse import urlsplit

from earshot.client.net.failures import OPEN_TIMEOUT_S
from earshot.codec.errors import CallError, UsageError


def pinned(server: str, fingerprint: str) -> ssl.SSLContext:
    """Returns a context that takes the certificate with this fingerprint (SHA-256, hexadecimal,
    colons or not) and no other. `server` is a wss:// or https:// address, which is asked for the
    certificate. Raises UsageError, and CallError if the server has another."""
    wanted = re.sub(r"[:\s]", "", fingerprint).lower()
    if not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise UsageError("a fingerprint has 64 hexadecimal digits; the server shows it when it starts")
    parts = urlsplit(server)
    if parts.scheme not in ("wss", "https") or not parts.hostname:
        raise UsageError("--tls-fingerprint is for servers at wss://HOST:PORT")
    try:
        found = ssl.get_server_certificate((parts.hostname, parts.port or 443), timeout=OPEN_TIMEOUT_S)
        der = ssl.PEM_cert_to_DER_cert(found)
    except (OSError, ValueError) as error:
        raise CallError(f"{server} shows no certificate ({getattr(error, 'strerror', None) or error})") from error
    if not hmac.compare_digest(hashlib.sha256(der).hexdigest(), wanted):
        raise CallError(
            f"{server} has another certificate than the one with this fingerprint: it is not the server that you "
            "mean, or has a new certificate"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # this one certificate is trusted, whatever name it has
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # though none that signed it is known
    context.load_verify_locations(cadata=der)
    return context
