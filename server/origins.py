"""Whether a request may come from where its headers say: a web page of another site may not use the
browser of its visitor to enter a server. Native clients send no Origin and are let in."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit


def is_own_origin(origins: Sequence[str], host: str | None, allowed: Collection[str]) -> bool:
    """Returns whether every Origin header names the host that the request went to, or one of the
    allowed origins (`https://calls.example.org`)."""
    return all(origin.lower() in allowed or _netloc(origin) == (host or "").lower() for origin in origins)


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def is_own_host(host: str | None, local_address: str, allowed: Collection[str]) -> bool:
    """Returns whether a Host header may name this server. A page whose own name was made to point
    at the loopback of its visitor has that name in Origin and in Host: so on a loopback address,
    only `localhost`, IP addresses and the allowed hosts are names of this server."""
    if host is None or not is_on_loopback(local_address):
        return True
    try:
        name = urlsplit("//" + host).hostname or ""
    except ValueError:
        return False
    return name == "localhost" or name in allowed or _is_address(name)


def is_on_loopback(address: str) -> bool:
    """Returns whether an address is one of this machine's own, as it has for itself."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
