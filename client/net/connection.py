"""What a call keeps of one WebSocket: numbers of peers and the server's clock may be others in the
next."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from earshot.client.core.receiver import Receiver
from earshot.client.core.sender import Sender
from earshot.client.entropy.coder import EntropyLink
from earshot.client.music.mixer import Mixer
from earshot.client.music.window_sender import WindowSender
from earshot.protocol.messages import PeerInfo

MAX_NAMES = 256


@dataclass
class Connection:
    receiver: Receiver
    mixer: Mixer | None = None
    """Where there is music to be played too."""
    entropy: EntropyLink | None = None
    """Where packets are entropy-coded."""
    sender: Sender | WindowSender | None = None
    """None until the clocks are compared."""
    names: dict[int, str] = field(default_factory=dict)
    """Of all peers, those that left included."""
    clock_known: asyncio.Event = field(default_factory=asyncio.Event)

    def leave(self, peer: int) -> None:
        self.receiver.peer_left(peer)
        if self.receiver.music is not None:
            self.receiver.music.peer_left(peer)

    def meet(self, peer: PeerInfo) -> None:
        if len(self.names) < MAX_NAMES:
            self.names[peer.id] = peer.name
        self.receiver.peer_muted(peer.id, peer.muted)
        if self.receiver.music is not None:
            self.receiver.music.meet(peer.id, peer.model, peer.muted)

    def close(self) -> None:
        """The socket is gone; figures stay."""
        if self.entropy is not None:
            self.entropy.close()

    async def put(self, message: bytes, now_us: int, audible: bool) -> None:
        """A media message that arrived at `now_us`; one that nothing can play yet only keeps the
        decoder in step. Raises ProtocolError, and Lost if the connection is of no more use."""
        if self.entropy is not None:
            parts = await self.entropy.decode(message)
            if audible:
                self.receiver.take(parts, len(message), now_us)
        elif audible:
            self.receiver.put(message, now_us)
