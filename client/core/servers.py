"""The servers that a call may be held at: those that the user named, and those that the server in
use names beside itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

MAX_SERVERS = 16
"""Servers that are kept in mind."""
BACKOFF_S, BACKOFF_MAX_S = 0.25, 8.0
"""Wait before the first try to connect again, and the longest."""


class Servers:
    """Says which server is next. Addresses are compared as they are written."""

    def __init__(self, given: Sequence[str], address: Callable[[str], str] = str) -> None:
        """`given` are one server or more, the first choice first; `address` makes of one the
        address that is called, and raises what it likes for one that is none."""
        self._address = address
        self._given = list(dict.fromkeys(map(address, given)))[:MAX_SERVERS]
        self._told: list[str] = []
        self.url = self._given[0]
        """Where the call is, or is tried next."""
        self._failed = 0
        self.wait_s = 0.0
        """How long to wait before that, at most."""

    @property
    def all(self) -> list[str]:
        """Every server that there is to try."""
        return list(dict.fromkeys([*self._given, *self._told]))[:MAX_SERVERS]

    @property
    def alone(self) -> bool:
        return len(self.all) == 1

    @property
    def none(self) -> bool:
        """Whether every server has been tried in vain."""
        return self._failed >= len(self.all)

    def tell(self, servers: Iterable[str]) -> None:
        """Takes in the other servers that the one in use names. None that would give up TLS is
        taken."""
        safe = self.url.startswith("wss:")
        self._told = [self._address(each) for each in servers if not safe or each.startswith("wss:")]

    def lost(self, joined: bool, ends: bool) -> None:
        """Takes in that the connection is gone, or could not be made, and decides where the next
        try goes. `ends` says that the server does.

        After a loss the same server is tried first, because it may have kept the place in the
        room; from one that ends the way leads at once to another that it has named."""
        self._failed = 0 if joined else self._failed + 1
        self.wait_s = BACKOFF_S if self._failed < 2 else min(2 * self.wait_s, BACKOFF_MAX_S)
        if joined and ends and self._told:
            self.wait_s = 0.0
        if ends and self._told:
            self.url = next((each for each in self._told if each != self.url), self.url)
        elif ends or not joined:
            places = self.all
            at = places.index(self.url) if self.url in places else -1
            self.url = places[(at + 1) % len(places)]
