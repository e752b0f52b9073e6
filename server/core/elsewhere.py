"""What a room and a server ask of the other nodes, which hang in from outside (server/nodes), and
what serves where there are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from earshot.protocol.messages import Moderate, Moderated
from earshot.protocol.packet import Packet
from earshot.protocol.silence import Silence
from earshot.server.core.guests import Guest, Speaker
from earshot.server.core.room import Peer, Room


class Elsewhere(Protocol):
    """The other nodes' part of one room."""

    @property
    def recorded(self) -> bool:
        """Whether another node records the room."""
        ...

    def changed(self, peer: Peer) -> None:
        """Tells the others that a peer of this node came in, or what it is like now."""
        ...

    def left(self, peer: Peer, reason: str) -> None:
        """Tells the others that a peer of this node has left."""
        ...

    def spoke(self, peer: Peer, packet: Packet) -> None:
        """Passes on what a peer of this node said."""
        ...

    def hushed(self, peer: Peer, silence: Silence) -> None:
        """Passes on that a peer of this node says nothing for now."""
        ...

    def moderated(self, message: Moderated) -> None:
        """Tells the others what a moderator did on this node."""
        ...

    def ask(self, guest: Guest, message: Moderate, by: Speaker | None, name: str) -> None:
        """Asks the node of a guest to mute or remove it for a moderator."""
        ...

    def recording(self, on: bool) -> None:
        """Tells the others whether this node records the room."""
        ...

    def close(self) -> None:
        """Tells the others that nobody of this node is in the room any more."""
        ...


class Nodes(Protocol):
    """The nodes that serve the same rooms."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def find(self, room: str, admit: Callable[[], object]) -> None:
        """Asks the other nodes who is in a room, if it is not open here and `admit` raises no
        ProtocolError: strangers cause no traffic."""
        ...

    def furnish(self, room: Room) -> None:
        """Puts into a new room what `find` found."""
        ...

    def open(self, room: Room) -> Elsewhere:
        """Returns the other nodes' part of a room that was opened here."""
        ...

    def removed(self, room: str, token: str) -> None:
        """Tells the others that the bearer of a token does not come into a room again."""
        ...

    def servers(self) -> list[str]:
        """Returns the addresses of other nodes that take calls."""
        ...

    def faults(self) -> list[str]:
        """Returns why this node cannot reach the others; nothing while it can."""
        ...

    def stats(self) -> dict[str, Any]:
        """Returns what `/stats` shows of them; nothing where there are none."""
        ...


class _NowhereElse:
    """The other nodes' part of a room where there are none."""

    recorded = False

    def changed(self, peer: Peer) -> None: ...
    def left(self, peer: Peer, reason: str) -> None: ...
    def spoke(self, peer: Peer, packet: Packet) -> None: ...
    def hushed(self, peer: Peer, silence: Silence) -> None: ...
    def moderated(self, message: Moderated) -> None: ...
    def ask(self, guest: Guest, message: Moderate, by: Speaker | None, name: str) -> None: ...
    def recording(self, on: bool) -> None: ...
    def close(self) -> None: ...


NOWHERE_ELSE = _NowhereElse()


class _Alone:
    """The other nodes of a server that has none."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def find(self, room: str, admit: Callable[[], object]) -> None: ...
    def furnish(self, room: Room) -> None: ...
    def removed(self, room: str, token: str) -> None: ...

    def open(self, room: Room) -> Elsewhere:
        return NOWHERE_ELSE

    def servers(self) -> list[str]:
        return []

    def faults(self) -> list[str]:
        return []

    def stats(self) -> dict[str, Any]:
        return {}


ALONE = _Alone()
