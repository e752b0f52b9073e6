"""What a session (session.py) says is to be done: one type for each kind of effect."""

from __future__ import annotations

from typing import NamedTuple

from earshot.protocol.messages import Hello, Moderate, PeerChanged, Record, SetRate
from earshot.protocol.packet import CodedPacket, Packet
from earshot.protocol.silence import Silence
from earshot.server.core.jobs import Job


class Join(NamedTuple):
    """Find a place in the room for this client: `joined` or `fail` must follow."""

    hello: Hello


Relay = Packet
"""Pass this packet on to the others in the room."""
Encode = Job
"""Give this frame of PCM to the encoder; `encoded` follows. Both come with every frame of every
speaker, so they have no type around them."""


class Decode(NamedTuple):
    """Decode an entropy-coded packet, and read nothing more meanwhile; `decoded` follows."""

    packet: CodedPacket
    admitted: CodedPacket | None


class Hush(NamedTuple):
    """Tell the others in the room, after what this client has said, that it is silent now."""

    silence: Silence


class Announce(NamedTuple):
    """Tell everyone else in the room, soon, what this peer is like now."""

    message: PeerChanged


class NoteMuted(NamedTuple):
    """Note in a recording that this peer is muted, or no longer."""


class ChangeRate(NamedTuple):
    """Change the rates of this peer, if the server has time for that."""

    message: SetRate


class AskRecording(NamedTuple):
    """Begin or end a recording of the room, if this peer may."""

    message: Record


class AskModeration(NamedTuple):
    """Mute or remove a peer, or lock the room, if this peer may."""

    message: Moderate


class Close(NamedTuple):
    """Take the client out of its room, tell it why, and close with this code."""

    code: int
    reason: str


class Leave(NamedTuple):
    """Take the client out of its room: it has gone, with this code."""

    code: int
    reason: str


Effect = (
    Join
    | Relay
    | Encode
    | Decode
    | Hush
    | Announce
    | NoteMuted
    | ChangeRate
    | AskRecording
    | AskModeration
    | Close
    | Leave
)
Effects = tuple[Effect, ...]
