"""Why a connection could not be made, in a sentence that says what to do."""

from __future__ import annotations

import errno
import ssl
from urllib.parse import urlsplit

from websockets.exceptions import InvalidMessage, InvalidProxyStatus, InvalidStatus, ProxyError, SecurityError

OPEN_TIMEOUT_S = 10.0
"""How long a connection may take to be made."""


def why_not(error: Exception, server: str, proxy: str | None) -> str:
    """Returns what is to be said of an error. `server` is what was asked for, `proxy` what stands
    before it, if anything does."""
    if isinstance(error, InvalidProxyStatus):
        status = error.response.status_code
        return f"the proxy {proxy} does not lead to {server}: it answered {status}{_unset(server)}"
    if isinstance(error, ProxyError):
        return f"the proxy {proxy} does not answer as a proxy ({error}){_unset(server)}"
    if isinstance(error, TimeoutError):
        through = f" through the proxy {proxy}" if proxy else ""
        return f"{server} did not answer{through} within {OPEN_TIMEOUT_S:g} s"
    if isinstance(error, SecurityError):
        return f"{server} sends on to an address without TLS, which is not followed"
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        tls = "; where it has TLS, write wss://" if status in (400, 426, 497) and server.startswith("ws://") else ""
        return f"{server} refused the connection (HTTP status {status}); is it an Earshot server?{tls}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"{server} has a certificate that nobody vouches for ({error.verify_message}); if it is your friend's, "
            "give the fingerprint that their server shows (--tls-fingerprint)"
        )
    if isinstance(error, ssl.SSLError):
        return f"{server} does not speak TLS ({error.reason or error}); where it has no TLS, write ws://"
    if isinstance(error, OSError):
        return _unreachable(error, server, proxy)
    tls = "; where it has TLS, write wss://" if isinstance(error, InvalidMessage) and server.startswith("ws://") else ""
    return f"{server} is no Earshot server: {error}{tls}"


def _unreachable(error: OSError, server: str, proxy: str | None) -> str:
    # A name with several addresses fails with one error whose text lists those of all.
    refused = isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error)
    why = "connection refused" if refused else error.strerror or error
    if proxy is not None:
        return f"the proxy {proxy} is not there ({why}){_unset(server)}"
    if isinstance(error, ConnectionResetError | ConnectionAbortedError) or not str(why):
        other = "where it has no TLS, write ws://" if server.startswith("wss") else "where it has TLS, write wss://"
        return f"{server} broke off the connection; {other}"
    return f"no server at {server} ({why}); `earshot serve` starts one"


def _unset(server: str) -> str:
    return f"; to do without it, name {urlsplit(server).hostname} in no_proxy"
