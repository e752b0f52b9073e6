"""The seats of clients whose connection broke: each is kept for a while, and whoever has its secret
takes it again (docs/protocol.md, "Coming back")."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.messages import Hello, ServerMessage
from earshot.protocol.packet import Packet
from earshot.server.core import refusals
from earshot.server.core.address_shares import AddressShares
from earshot.server.core.jobs import Job
from earshot.server.core.packet_coding import PacketCoding
from earshot.server.core.recipient import Recipient
from earshot.server.core.room import Peer
from earshot.server.live_room import LiveRoom

SECRET_BYTES = 24


class Place(NamedTuple):
    """A client's place in a room."""

    live: LiveRoom
    peer: Peer


@dataclass(frozen=True, eq=False)
class Seat:
    """A client's place in a room, with all that it holds there until `Hub.leave`."""

    live: LiveRoom
    peer: Peer
    coding: PacketCoding
    relay: Callable[[Packet], None]
    """Passes a packet of the client on to everyone else."""
    encode: Callable[[Job], int]
    """Gives a frame to the client's encoder; returns how many of the oldest were dropped for it."""
    held: ExitStack
    """Gives back what the client has beside its place in the room."""
    resumed: bool = False
    """Whether the client had this place before."""


@dataclass(eq=False)
class _Away:
    """Stands in for the connection of a client that is away. What it would be told is in its next
    welcome."""

    address: str
    vacate: Callable[[str], None]
    timer: asyncio.TimerHandle | None = field(default=None)

    def tell(self, message: ServerMessage) -> None:
        """Tells nobody."""

    def wake(self) -> None:
        """Wakes nobody."""

    def fail(self, error: ProtocolError) -> None:
        """Gives up the seat."""
        self.vacate(str(error))


class Seats:
    """Keeps seats for `grace_s`: `most` in all, and `most_per_address`. A seat whose client has not
    come back then is given up by `vacate`, with a reason."""

    def __init__(
        self, grace_s: float, most: int, most_per_address: int, vacate: Callable[[LiveRoom, Peer, str], None]
    ) -> None:
        self.grace_s = grace_s
        self.resumed = self.expired = 0
        self._most, self._most_per_address, self._vacate = most, most_per_address, vacate
        self._places: dict[bytes, Place] = {}
        """By the hash of the secret, so that no comparison takes a time that tells of it."""
        self._secrets: dict[Peer, str] = {}
        self._away: dict[Peer, _Away] = {}
        self._addresses = AddressShares()

    def __len__(self) -> int:
        """Returns how many clients are away."""
        return len(self._away)

    def secret(self, live: LiveRoom, peer: Peer) -> str:
        """Returns the secret of a seat. It stays the same, because a client may lose a connection
        before it has read a new one."""
        if peer not in self._secrets:
            self._secrets[peer] = secret = secrets.token_urlsafe(SECRET_BYTES)
            self._places[_hash(secret)] = Place(live, peer)
        return self._secrets[peer]

    def forget(self, peer: Peer) -> None:
        """Lets nobody take this seat again."""
        secret = self._secrets.pop(peer, None)
        if secret is not None:
            del self._places[_hash(secret)]

    def keep(self, live: LiveRoom, peer: Peer, address: str) -> bool:
        """Keeps the seat of a client whose connection broke; returns False where it is not kept."""
        if peer not in self._secrets or len(self._away) >= self._most:
            return False
        if self._addresses.held(address) >= self._most_per_address:
            return False
        away = _Away(address, lambda reason: self._give_up(live, peer, reason))
        away.timer = asyncio.get_running_loop().call_later(self.grace_s, self._expire, away)
        self._addresses.take(address)
        self._away[peer], live.connections[peer.id] = away, away
        live.set_away(peer)
        return True

    def take(self, room: str, hello: Hello, connection: Recipient) -> Place | None:
        """Gives a client its seat again if it has the secret, and returns None if there is no such
        seat in this room, or for a client of another kind. A connection that holds the seat is
        closed. Raises ProtocolError, and changes nothing, for what it may not have."""
        place = self._places.get(_hash(hello.resume)) if hello.resume else None
        if place is None or place.live.room.name != room or not place.peer.is_as(hello):
            return None
        live, peer = place
        live.come_back(peer, hello)
        holder, live.connections[peer.id] = live.connections[peer.id], connection
        if not self._back(peer):
            holder.fail(refusals.came_back())
        self.resumed += 1
        return place

    def close(self) -> None:
        """Gives up all seats whose clients are away."""
        for away in list(self._away.values()):
            away.vacate("this server shuts down")

    def _expire(self, away: _Away) -> None:
        self.expired += 1
        away.vacate(f"connection lost for {self.grace_s:g} s")

    def _give_up(self, live: LiveRoom, peer: Peer, reason: str) -> None:
        if self._back(peer):
            self._vacate(live, peer, reason)

    def _back(self, peer: Peer) -> bool:
        """Returns whether a client was away, which it is no longer."""
        away = self._away.pop(peer, None)
        if away is None:
            return False
        if away.timer is not None:
            away.timer.cancel()
        self._addresses.give_back(away.address)
        return True


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
