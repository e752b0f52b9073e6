"""How much of a thing that is scarce each network address holds, so that none takes all of it."""

from __future__ import annotations

import math
from collections import Counter


class AddressShares:
    """Counts what is held, by address. An address that holds nothing is forgotten."""

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
        return self._held[address]

    def take(self, address: str) -> None:
        """Counts one more."""
        self._held[address] += 1

    def give_back(self, address: str) -> None:
        """Counts one less. Raises ValueError if the address holds nothing."""
        held = self._held[address]
        if not held:
            raise ValueError(f"{address} has nothing to give back")
        if held == 1:
            del self._held[address]
        else:
            self._held[address] = held - 1

    def may_take(self, address: str, capacity: int, share: float) -> bool:
        """Returns whether an address may have one more: never more than its share of a capacity,
        rounded up."""
        return self._held[address] + 1 <= math.ceil(share * capacity)
