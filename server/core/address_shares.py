"""How much of a thing that is scarce each network address holds, so that none takes all of it."""

from __future__ import annotations

import ipaddress
import math
from collections import Counter
from functools import lru_cache

IPV6_SITE_BITS = 64
"""One visitor is given at least this network of IPv6, so it counts as one address."""


@lru_cache(maxsize=4096)
def address_key(address: str) -> str:
    """Returns what an address counts as: the /64 of one of IPv6, the IPv4 address that one of IPv6
    stands for, and else the address itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), IPV6_SITE_BITS), strict=False))


class AddressShares:
    """Counts what is held, by `address_key`. An address that holds nothing is forgotten."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        """Returns how many addresses hold something."""
        return len(self._held)

    def total(self) -> int:
        """Returns how much all addresses hold together."""
        return self._held.total()

    def held(self, address: str) -> int:
        """Returns how much one address holds."""
        return self._held[address_key(address)]

    def take(self, address: str) -> None:
        """Counts one more."""
        self._held[address_key(address)] += 1

    def give_back(self, address: str) -> None:
        """Counts one less. Raises ValueError if the address holds nothing."""
        key = address_key(address)
        held = self._held[key]
        if not held:
            raise ValueError(f"{address} has nothing to give back")
        if held == 1:
            del self._held[key]
        else:
            self._held[key] = held - 1

    def may_take(self, address: str, capacity: int, share: float) -> bool:
        """Returns whether an address may have one more: never more than its share of a capacity,
        rounded up."""
        return self.held(address) + 1 <= math.ceil(share * capacity)
