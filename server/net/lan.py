"""The address by which others reach this machine."""

from __future__ import annotations

import ipaddress
import socket

ROUTES = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses of documentation (RFC 5737, RFC 3849): nothing is sent there, the system is only asked
by which of its own addresses it would."""


def address_for_others(host: str) -> str | None:
    """Returns the address that others call when a server listens on `host`: that itself, or this
    machine's own where it listens on all. None if only this machine reaches it, or nobody."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None if host == "localhost" else host
    if address.is_loopback:
        return None
    if not address.is_unspecified:
        return host
    for family in (socket.AF_INET, socket.AF_INET6) if address.version == 6 else (socket.AF_INET,):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as asking:
                asking.connect((ROUTES[family], 9))
                return str(asking.getsockname()[0])
        except OSError:
            continue  # there is no way to anywhere
    return None
