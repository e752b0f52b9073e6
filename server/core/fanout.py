"""What peers change, on its way to everyone else in their rooms: only the newest state of each, and
no more copies a second than a room and an address may cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from earshot.server.core.rate_limit import AddressBuckets, TokenBucket


class ChangedPeers:
    """The peers of one room whose newest state the others have not been told."""

    def __init__(self, room: TokenBucket, addresses: AddressBuckets, counts: Counter[str]) -> None:
        """`room` and `addresses` have a token for each copy. `addresses` and `counts`, which counts
        the changes that were `told` and those that were `replaced` by newer ones before that, are
        of the whole server."""
        self._room, self._addresses, self._counts = room, addresses, counts
        self._waiting: dict[int, str] = {}
        """By the id of the peer: the address that the copies count for."""

    def __len__(self) -> int:
        """Returns how many peers wait."""
        return len(self._waiting)

    def add(self, peer_id: int, address: str) -> None:
        """Notes that a peer has changed. One that waits already keeps its turn."""
        if peer_id in self._waiting:
            self._counts["replaced"] += 1
        else:
            self._waiting[peer_id] = address

    def forget(self, peer_id: int) -> None:
        """Notes that a peer has left."""
        self._waiting.pop(peer_id, None)

    def due(self, copies: int, now_us: int) -> Iterator[int]:
        """Yields the peers whose state is to be told now, at `copies` copies each. The others wait;
        they come first the next time."""
        for peer_id, address in list(self._waiting.items()):
            if not self._room.has(copies, now_us):
                return
            if self._addresses.take(address, copies, now_us):
                self._room.take(copies, now_us)
                del self._waiting[peer_id]
                self._counts["told"] += 1
                yield peer_id
