"""One room that several nodes serve: each node keeps those who are connected to it, tells the
others of them, and has theirs as guests. The room is all of them together, so it has no home that
could be lost. No bus, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from earshot.codec.config import ModelConfig
from earshot.protocol import messages
from earshot.protocol.messages import PeerChanged, PeerJoined, PeerLeft, ServerMessage
from earshot.protocol.packet import Packet
from earshot.protocol.text import MAX_REASON, clean
from earshot.server.core.bus_messages import Change, Member, Moderated, RoomState, Who
from earshot.server.core.guests import Guest, Speaker
from earshot.server.core.room import Peer, Room

NODE_GONE = "the connection to another server was lost"


@dataclass
class Part:
    """Another node's part of the room."""

    number: int
    version: int
    recording: bool
    guests: dict[int, Guest] = field(default_factory=dict)
    """By their ids there."""
    most: int | None = None
    """Codebooks that they take at most of speakers with the room's model; None if not yet known."""

    def wants(self, speaker: Speaker, config: ModelConfig) -> int:
        """Returns the codebooks that anybody there takes of a speaker, at most; 0 for none."""
        if speaker.model is not None:
            return max((guest.takes(speaker, config) for guest in self.guests.values()), default=0)
        if self.most is None:
            self.most = max((guest.takes(speaker, config) for guest in self.guests.values()), default=0)
        return self.most


def member(peer: Peer) -> Member:
    """Describes a peer of this node to the others."""
    return Member(info=peer.info(), also=sorted(peer.also))


class SharedRoom:
    """A room and what other nodes said of it. What their messages change is returned as what those
    who are connected here are to be told."""

    def __init__(self, me: str, room: Room, config: ModelConfig, number: int) -> None:
        """`number` stands for the room in this node's media messages."""
        self._me, self.room, self._config, self.number = me, room, config, number
        self.version = 0
        self.recording = False
        """Whether this node records it."""
        self.parts: dict[str, Part] = {}

    @property
    def recorded(self) -> bool:
        """Whether another node records it."""
        return any(part.recording for part in self.parts.values())

    def state(self) -> RoomState:
        """Returns this node's part."""
        return RoomState(
            room=self.room.name,
            number=self.number,
            version=self.version,
            locked=self.room.locked,
            recording=self.recording,
            members=[member(peer) for peer in self.room.peers.values()],
        )

    def change(self, change: Change) -> Change:
        """Returns the change with its version, which is the part's from now on."""
        self.version += 1
        return change.model_copy(update={"version": self.version})

    # What other nodes say

    def take_state(self, node: str, state: RoomState) -> list[ServerMessage]:
        """Takes in a node's part as a whole."""
        part = self.parts.get(node)
        was = self.recorded
        if part is None:
            part = self.parts[node] = Part(state.number, state.version, state.recording)
        part.number, part.version, part.recording = state.number, state.version, state.recording
        told: list[ServerMessage] = []
        present = {each.info.id for each in state.members}
        for gone in set(part.guests) - present:
            told += self._dismiss(part, gone, "")
        for each in state.members:
            told += self._meet(node, part, each)
        if state.locked and not self.room.locked:
            self.room.locked = True
            told.append(messages.Moderated(action="lock"))
        return told + self._recording_told(was)

    def take_change(self, node: str, change: Change) -> list[ServerMessage] | None:
        """Takes in what changed in a node's part. Returns None if a change before it was missed:
        the part must be asked for anew."""
        part = self.parts.get(node)
        if part is None or change.version != part.version + 1:
            return None
        part.version, was = change.version, self.recorded
        if change.member is not None:
            return self._meet(node, part, change.member)
        if change.left is not None:
            return self._dismiss(part, change.left, change.reason)
        if change.recording is not None:
            part.recording = change.recording
        return self._recording_told(was)

    def drop(self, node: str, reason: str = "") -> list[ServerMessage]:
        """Takes in that a node has no part any more, or is gone."""
        part, was = self.parts.get(node), self.recorded
        if part is None:
            return []
        told: list[ServerMessage] = []
        for gone in list(part.guests):
            told += self._dismiss(part, gone, reason)
        del self.parts[node]
        return told + self._recording_told(was)

    def moderated(self, message: Moderated) -> messages.Moderated:
        """Takes in what a moderator did elsewhere. Returns what is told here."""
        if message.action in ("lock", "unlock"):
            self.room.locked = message.action == "lock"
        return messages.Moderated(action=message.action, by=self.here(message.by), peer=self.here(message.peer))

    def _recording_told(self, was: bool) -> list[ServerMessage]:
        return [] if self.recorded == was or self.recording else [messages.Recording(on=self.recorded)]

    def _meet(self, node: str, part: Part, each: Member) -> list[ServerMessage]:
        known, part.most = part.guests.get(each.info.id), None
        if known is None:
            guest = self.room.receive(node, each.info, frozenset(each.also))
            if guest is None:  # the room has no place left; it is as if this one had not come
                return []
            part.guests[each.info.id] = guest
            return [PeerJoined(peer=guest.info_here())]
        if known.info == each.info and known.also == frozenset(each.also):
            return []
        known.info, known.also = each.info, frozenset(each.also)
        return [PeerChanged(peer=known.info_here())]

    def _dismiss(self, part: Part, id_there: int, reason: str) -> list[ServerMessage]:
        guest, part.most = part.guests.pop(id_there, None), None
        if guest is None:
            return []
        self.room.dismiss(guest)
        return [PeerLeft(id=guest.id, reason=clean(reason, MAX_REASON))]

    # Who is who

    def guest(self, node: str, id_there: int) -> Guest | None:
        """Returns the guest whom a node calls so."""
        part = self.parts.get(node)
        return None if part is None else part.guests.get(id_there)

    def here(self, who: Who | None) -> int | None:
        """Returns the id here of somebody in the room; None if nobody is meant, or nobody here
        knows who that is."""
        if who is None:
            return None
        if who.node == self._me:
            return who.id if who.id in self.room.peers else None
        guest = self.guest(who.node, who.id)
        return None if guest is None else guest.id

    def there(self, peer_id: int | None) -> Who | None:
        """Returns whom other nodes know this one as."""
        if peer_id is None:
            return None
        guest = self.room.guests.get(peer_id)
        return Who(node=self._me, id=peer_id) if guest is None else Who(node=guest.node, id=guest.id_there)

    # What is said

    def wanted(self, speaker: Speaker, packet: Packet) -> dict[str, Packet]:
        """Returns what goes to which node of a packet of this node's: cut to the most that anybody
        there takes."""
        out: dict[str, Packet] = {}
        for node, part in self.parts.items():
            n_q = part.wants(speaker, self._config)
            if n_q:
                out[node] = packet.cut(n_q)._replace(source=speaker.id)
        return out

    def listening(self, speaker: Speaker) -> list[str]:
        """Returns the nodes where anybody hears a speaker of this one."""
        return [node for node, part in self.parts.items() if part.wants(speaker, self._config)]
