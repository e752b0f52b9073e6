"""What a call keeps of one WebSocket. The ids of peers and the server's clock may be different ones
in the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from earshot.client.core.coding_meter import CodingMeter
from earshot.client.core.receiver import Receiver
from earshot.client.core.sender import MediaSender
from earshot.codec.pcm import Pcm
from earshot.protocol.messages import PeerInfo
from earshot.protocol.packet import Packet, PcmBlock

MAX_NAMES = 256


class PacketCoder(Protocol):
    """What makes the packets of one connection smaller, next to its socket."""

    digest: str
    """Digest of the language model that it codes with."""
    sent: CodingMeter
    heard: CodingMeter
    failed: bool
    """Whether something came that could not be decoded."""

    async def encode(self, message: bytes) -> bytes:
        """Returns a media message of this client as it is to be sent."""
        ...

    async def decode(self, message: bytes) -> Sequence[Packet | PcmBlock]:
        """Returns what is in a media message that came. Raises Lost where no message can be decoded
        any more."""
        ...

    def close(self) -> None:
        """Ends its work."""
        ...


@dataclass(frozen=True)
class PacketCoding:
    """A way to make packets smaller that a server may agree to."""

    digest: str
    """Digest of the language model that both ends must have."""
    make_coder: Callable[[], PacketCoder]
    """Makes a coder for a new connection."""


class Mix(Protocol):
    """What makes one stream for the loudspeaker out of everything that is heard."""

    def pull(self, n: int, now_us: int, heard_us: int) -> Pcm:
        """Returns the next samples, which are taken at `now_us`; the first is heard at
        `heard_us`."""
        ...


@dataclass
class Connection:
    """One WebSocket's state. Its figures stay when the socket is gone."""

    receiver: Receiver
    mix: Mix
    coder: PacketCoder | None = None
    """Codes packets once more, where this is agreed on."""
    sender: MediaSender | None = None
    """None until the clocks are compared."""
    names: dict[int, str] = field(default_factory=dict)
    """Names of all peers by id, also of those that have left."""
    clock_known: asyncio.Event = field(default_factory=asyncio.Event)

    def leave(self, peer: int) -> None:
        """Takes note that a peer left."""
        self.receiver.peer_left(peer)

    def meet(self, peer: PeerInfo) -> None:
        """Takes note of a peer, or of what has changed about it."""
        if len(self.names) < MAX_NAMES:
            self.names[peer.id] = peer.name
        self.receiver.meet(peer)

    def close(self) -> None:
        """Ends the work for a socket that is gone."""
        if self.coder is not None:
            self.coder.close()

    async def put(self, message: bytes, now_us: int, audible: bool) -> None:
        """Takes a media message that arrived at `now_us`. One that cannot be played yet only keeps
        the decoder in step.

        Raises ProtocolError, and Lost if the connection is of no more use."""
        if self.coder is not None:
            parts = await self.coder.decode(message)
            if audible:
                self.receiver.take(parts, len(message), now_us)
        elif audible:
            self.receiver.put(message, now_us)
