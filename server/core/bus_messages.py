"""What nodes tell each other: control messages as JSON, and media in binary messages that hold
what was said lately in all rooms that two nodes share. No bus."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from earshot.codec.errors import DataError
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.descriptions import Digest, Message, Microseconds, PeerInfo
from earshot.protocol.messages import MAX_ALSO, ROOM_PATTERN, Moderation
from earshot.protocol.packet import CodedPacket, Packet, Reader, packet_entry, read_packet
from earshot.protocol.silence import BANDS, Silence

NODE_PATTERN = r"[A-Za-z0-9_-]{1,32}"
MAX_NODES = 64
MAX_MEMBERS = 1250
"""People of one node in one room."""
MAX_ROOMS = 4096
MAX_CONTROL_BYTES = 1 << 19
MAX_MEDIA_BYTES = 1 << 17
MAX_ADDRESS = 200
_REASON = 200

NodeName = Annotated[str, Field(pattern=f"^{NODE_PATTERN}$")]
RoomName = Annotated[str, Field(pattern=f"^{ROOM_PATTERN}$")]
Number = Annotated[int, Field(ge=0, lt=1 << 32)]
Version = Annotated[int, Field(ge=0, lt=1 << 53)]
PeerNumber = Annotated[int, Field(ge=1, lt=1 << 16)]
Address = Annotated[str, Field(max_length=MAX_ADDRESS, pattern=r"^([!-~]*)$")]


class BusError(DataError):
    """Says that what came over the bus is none of what nodes say."""


class Member(Message):
    """Somebody in a room, as the node says that has the connection."""

    info: PeerInfo
    also: Annotated[list[Digest], Field(max_length=MAX_ALSO)] = []  # noqa: RUF012 -- pydantic copies it


class Who(Message):
    """Somebody in a room, by the node that has the connection and the id there."""

    node: NodeName
    id: PeerNumber


class RoomState(Message):
    """A node's part of a room, as a whole."""

    type: Literal["room"] = "room"
    room: RoomName
    number: Number
    """Stands for the room in media messages of this node."""
    version: Version
    """Grows by one with each change."""
    locked: bool = False
    recording: bool = False
    members: Annotated[list[Member], Field(max_length=MAX_MEMBERS)] = []  # noqa: RUF012


class Change(Message):
    """What has changed in a node's part of a room. One field is set beside the first two."""

    type: Literal["change"] = "change"
    room: RoomName
    version: Version
    member: Member | None = None
    """Who came in, or what somebody is like now."""
    left: PeerNumber | None = None
    reason: Annotated[str, Field(max_length=_REASON)] = ""
    recording: bool | None = None


class Moderated(Message):
    """What a moderator did, to somebody or to the room."""

    type: Literal["moderated"] = "moderated"
    room: RoomName
    action: Moderation
    by: Who | None = None
    peer: Who | None = None


class AskModeration(Message):
    """Asks to mute or remove one of the node's peers, for a moderator who may."""

    type: Literal["moderate"] = "moderate"
    room: RoomName
    action: Moderation
    peer: PeerNumber
    by: Who | None = None
    name: Annotated[str, Field(max_length=64)] = ""


class Removed(Message):
    """Says that the bearer of a token does not come into a room again."""

    type: Literal["removed"] = "removed"
    room: RoomName
    token: Annotated[str, Field(max_length=64)]


class Left(Message):
    """Says that nobody of the node is in a room any more."""

    type: Literal["left"] = "left"
    room: RoomName


class Find(Message):
    """Asks every node for its part of a room."""

    type: Literal["find"] = "find"
    room: RoomName
    ask: Number


class Found(Message):
    """Answers `find`."""

    type: Literal["found"] = "found"
    ask: Number
    state: RoomState | None = None


class AskState(Message):
    """Asks one node for its part of a room anew: something was missed."""

    type: Literal["ask"] = "ask"
    room: RoomName


class Versions(Message):
    """The versions of a node's part of all rooms that it shares with the one that is told, so that
    what was missed is noticed."""

    type: Literal["versions"] = "versions"
    rooms: Annotated[dict[RoomName, Version], Field(max_length=MAX_ROOMS)]


class Echo(Message):
    """When a beat of another node came, and what time that beat told."""

    sent_us: Microseconds
    came_us: Microseconds


class Beat(Message):
    """Says that a node is there, again and again."""

    type: Literal["beat"] = "beat"
    digest: Digest
    """Of its model: nodes of different models share no rooms."""
    clock_us: Microseconds
    takes_calls: bool
    address: Address = ""
    """Where clients reach it; "" if it does not say."""
    echoes: Annotated[dict[NodeName, Echo], Field(max_length=MAX_NODES)] = {}  # noqa: RUF012


class Bye(Message):
    """Says that a node ends."""

    type: Literal["bye"] = "bye"


Body = RoomState | Change | Moderated | AskModeration | Removed | Left | Find | Found | AskState | Versions | Beat | Bye


class Control(Message):
    """A control message, and who sends it."""

    node: NodeName
    boot: Number
    """Differs each time that a node starts."""
    body: Annotated[Body, Field(discriminator="type")]


_control: TypeAdapter[Control] = TypeAdapter(Control)


class Heard(NamedTuple):
    """What was said in one room of the sender."""

    number: int
    media: Packet | Silence
    """`source` is the speaker's id there."""


class Media(NamedTuple):
    """A media message."""

    node: str
    boot: int
    heard: list[Heard]


_MEDIA, _SPOKEN, _SILENT = 1, 0, 1
_HEAD = struct.Struct("<BBI")
"""1, bytes of the node's name, boot"""
_ENTRY = struct.Struct("<BI")
"""kind, number of the room"""
_SILENCE = struct.Struct("<HHI")
"""source, sequence, timestamp"""


def entry(number: int, media: Packet | Silence) -> bytes:
    """Writes what was said in the room of this number."""
    if isinstance(media, Silence):
        return (
            _ENTRY.pack(_SILENT, number) + _SILENCE.pack(media.source, media.sequence, media.timestamp) + media.levels
        )
    return b"".join((_ENTRY.pack(_SPOKEN, number), *packet_entry(media)))


def media_message(node: str, boot: int, entries: Sequence[bytes]) -> bytes:
    """Writes entries as one message."""
    name = node.encode()
    return b"".join((_HEAD.pack(_MEDIA, len(name), boot), name, *entries))


def read_media(data: bytes) -> Media:
    """Reads a media message. Raises BusError."""
    if len(data) > MAX_MEDIA_BYTES:
        raise BusError(f"a media message of {len(data)} bytes")
    reader, heard = Reader(data), list[Heard]()
    try:
        _, size, boot = reader.unpack(_HEAD)
        node = reader.take(size).decode("ascii")
        while reader.at < len(data):
            kind, number = reader.unpack(_ENTRY)
            heard.append(Heard(number, _read(reader, kind)))
    except (ProtocolError, UnicodeDecodeError) as error:
        raise BusError(str(error)) from error
    return Media(node, boot, heard)


def _read(reader: Reader, kind: int) -> Packet | Silence:
    if kind == _SILENT:
        source, sequence, timestamp = reader.unpack(_SILENCE)
        return Silence(sequence, timestamp, reader.take(BANDS), source)
    if kind != _SPOKEN:
        raise BusError(f"an entry of kind {kind}")
    packet = read_packet(reader)
    if isinstance(packet, CodedPacket):
        raise BusError("an entropy-coded packet")
    return packet


def is_media(data: bytes) -> bool:
    """Returns whether a message is one of media, not of control."""
    return data[:1] == bytes([_MEDIA])


def read_control(data: bytes) -> Control:
    """Reads a control message. Raises BusError."""
    if len(data) > MAX_CONTROL_BYTES:
        raise BusError(f"a control message of {len(data)} bytes")
    try:
        return _control.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BusError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
