"""Which proxy stands between this machine and an address, as the environment or the system says.

Loopback and private addresses are never reached through one: what is near is asked for directly."""

from __future__ import annotations

import ipaddress
import urllib.request
from importlib.util import find_spec
from urllib.parse import urlsplit

from earshot.codec.errors import UsageError

_ASKED = {
    "ws": ("ws", "socks", "https", "http", "all"),
    "wss": ("wss", "socks", "https", "all"),
    "http": ("http", "socks", "all"),
    "https": ("https", "socks", "all"),
}
"""The variables (with _proxy behind) that count for a scheme, the first that is set."""
_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_PORTS = {"http": 80, "https": 443}


def proxy_for(url: str, socks: str = "python_socks") -> str | None:
    """Returns the address of the proxy for an address, None where there is none.

    `socks` is the module that is needed for a SOCKS proxy. Raises UsageError, which names the proxy
    without its password, for one that cannot be used."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_near(host) or urllib.request.proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
        return None
    known = urllib.request.getproxies()
    named = next(((name, known[name]) for name in _ASKED.get(parts.scheme, ("all",)) if known.get(name)), None)
    if named is None:
        return None
    name, proxy = named
    if "://" not in proxy:  # as curl reads it
        proxy = f"http://{proxy}"
    if name == "socks" and proxy.startswith("http://"):  # as the settings of a system give it
        proxy = "socks5h://" + proxy.removeprefix("http://")
    shown = shown_as(proxy)
    try:
        there = urlsplit(proxy)
        good = there.scheme in _SCHEMES and bool(there.hostname) and there.port != 0
    except ValueError:  # a port that is none
        good = False
    if not good:
        raise UsageError(
            f"the proxy {shown} ({name}_proxy) is none that can be used: it looks like http://HOST:PORT; unset it, or "
            f"name {host} in no_proxy"
        )
    if there.scheme.startswith("socks") and find_spec(socks) is None:
        package = {"python_socks": "'python-socks[asyncio]'"}.get(socks, socks)
        raise UsageError(
            f"the proxy {shown} ({name}_proxy) speaks SOCKS, which needs a package more: pip install {package}; or "
            f"name {host} in no_proxy"
        )
    return proxy


def shown_as(proxy: str) -> str:
    """Returns the address of a proxy as it may be shown: without user and password."""
    scheme, _, rest = proxy.rpartition("://")
    rest = rest.rpartition("@")[2].partition("/")[0]
    return f"{scheme}://{rest}" if scheme else rest


def is_near(host: str) -> bool:
    """Returns whether a host is this machine or in a private network: by its address, or by a name
    that no public host has."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        name = host.rstrip(".").lower()
        return "." not in name or name.endswith((".localhost", ".local", ".lan", ".internal", ".home.arpa"))
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return not address.is_global
