"""The other nodes' part of one room that is open here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from earshot.protocol import messages
from earshot.protocol.messages import Moderate
from earshot.protocol.packet import Packet
from earshot.protocol.silence import Silence
from earshot.server.core.bus_messages import AskModeration, Body, Change, Left, Moderated, entry
from earshot.server.core.guests import Guest, Speaker
from earshot.server.core.room import Peer
from earshot.server.core.shared_room import SharedRoom, member

Tell = Callable[[str | None, Body], None]
Say = Callable[[str, bytes], None]


class Part:
    """The other nodes' part of one room that is open here."""

    def __init__(self, shared: SharedRoom, tell: Tell, say: Say, closed: Callable[[SharedRoom], None]) -> None:
        """`tell` sends a control message to a node, `say` an entry of media; `closed` is called
        when nobody is in the room here any more."""
        self.shared, self._send, self._say, self._closed = shared, tell, say, closed

    @property
    def recorded(self) -> bool:
        return self.shared.recorded

    @property
    def name(self) -> str:
        return self.shared.room.name

    def _tell(self, body: Body) -> None:
        for node in self.shared.parts:
            self._send(node, body)

    def _change(self, **fields: Any) -> None:
        self._tell(self.shared.change(Change(room=self.name, version=0, **fields)))

    def changed(self, peer: Peer) -> None:
        self._change(member=member(peer))

    def left(self, peer: Peer, reason: str) -> None:
        self._change(left=peer.id, reason=reason[:200])

    def spoke(self, peer: Peer, packet: Packet) -> None:
        if self.shared.parts:
            for node, cut in self.shared.wanted(peer, packet).items():
                self._say(node, entry(self.shared.number, cut))

    def hushed(self, peer: Peer, silence: Silence) -> None:
        for node in self.shared.listening(peer):
            self._say(node, entry(self.shared.number, silence._replace(source=peer.id)))

    def moderated(self, message: messages.Moderated) -> None:
        by, peer = self.shared.there(message.by), self.shared.there(message.peer)
        self._tell(Moderated(room=self.name, action=message.action, by=by, peer=peer))

    def ask(self, guest: Guest, message: Moderate, by: Speaker | None, name: str) -> None:
        who = self.shared.there(by.id if by else None)
        asked = AskModeration(room=self.name, action=message.action, peer=guest.id_there, by=who, name=name[:64])
        self._send(guest.node, asked)

    def recording(self, on: bool) -> None:
        self.shared.recording = on
        self._change(recording=on)

    def close(self) -> None:
        self._tell(Left(room=self.name))
        self._closed(self.shared)
