"""Control messages of the protocol (docs/protocol.md, "Control"). Each text message is one JSON
object, whose `type` names it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.descriptions import Digest as Digest
from earshot.protocol.descriptions import Kbps, Message, Microseconds
from earshot.protocol.descriptions import Limits as Limits
from earshot.protocol.descriptions import ModelInfo as ModelInfo
from earshot.protocol.descriptions import Name as Name
from earshot.protocol.descriptions import PeerId as PeerId
from earshot.protocol.descriptions import PeerInfo as PeerInfo
from earshot.protocol.descriptions import Send as Send
from earshot.protocol.descriptions import Want as Want
from earshot.protocol.descriptions import WindowModel as WindowModel
from earshot.protocol.text import clean

PROTOCOL = 1
SUBPROTOCOL = "earshot.v1"
ROOM_PATTERN = r"[A-Za-z0-9_-]{1,64}"
MAX_CONTROL_BYTES = 4096
MAX_ECHO = 300
"""Characters that an error says about a malformed message, in which the message may be quoted."""
MAX_ALSO = 16
"""Models of windows that a hello may name."""
MAX_LANGUAGE_MODELS = 4
"""Language models that a hello may name."""
MAX_TOKEN = 2048
"""Characters of a token."""
MAX_SECRET = 64
"""Characters of the secret of a seat."""
MAX_FRAMES_WANTED = 8
"""Frames that a client may ask to have in one message: as many as a short header can tell."""

MAX_SERVERS = 8
Servers = Annotated[
    list[Annotated[str, Field(max_length=200, pattern=r"^wss?://[!-~]+$")]], Field(max_length=MAX_SERVERS)
]
"""Addresses of servers, as the option --server has them."""

Grant = Literal["speak", "listen", "record", "moderate"]
Moderation = Literal["mute", "unmute", "remove", "lock", "unlock"]
FramesWanted = Annotated[int, Field(ge=1, le=MAX_FRAMES_WANTED)]


# From the client


class Hello(Message):
    """The first message of a client."""

    type: Literal["hello"] = "hello"
    protocol: int
    name: Name = ""
    model: Digest | None = None
    """Digest of the room's codec. None where the client neither sends nor wants codes of it."""
    send: Send = "pcm"
    want: Want = "codes"
    send_kbps: Kbps = 6.0
    max_kbps: Kbps = 12.0
    trace: bool = False
    """Whether packets to this listener shall have the traces that their speakers send."""
    send_model: WindowModel | None = None
    """The model that makes this client's codes, where that is not the room's."""
    also: Annotated[list[Digest], Field(max_length=MAX_ALSO)] = []  # noqa: RUF012 -- pydantic copies it
    """Digests of the models whose windows this client can play. It gets no windows of others."""
    entropy: Annotated[list[Digest], Field(max_length=MAX_LANGUAGE_MODELS)] = []  # noqa: RUF012
    """Digests of the language models with which this client can code packets."""
    token: Annotated[Annotated[str, Field(max_length=MAX_TOKEN)] | None, Field(repr=False)] = None
    """What lets this client in where not everyone may enter."""
    short_headers: bool = False
    """Whether this client can read and write short headers (short_headers.py)."""
    silence: bool = False
    """Whether this client is told of silence that is not sent (silence.py)."""
    frames: FramesWanted = 1
    """Frames of each speaker that a message to this client should hold."""
    stats_every_s: Annotated[float, Field(ge=1, le=60)] = 1.0
    """How often this client wants `stats`."""
    resume: Annotated[Annotated[str, Field(max_length=MAX_SECRET)] | None, Field(repr=False)] = None
    """The secret of the seat that this client had, "" if it had none and wants to come back to the
    one that it gets now, should its connection break."""


class SetRate(Message):
    """Changes the rates that the hello said, and the frames of a message."""

    type: Literal["set_rate"] = "set_rate"
    send_kbps: Kbps | None = None
    max_kbps: Kbps | None = None
    frames: FramesWanted | None = None


class Mute(Message):
    """Says that the client is muted or is not."""

    type: Literal["mute"] = "mute"
    muted: bool


class Ping(Message):
    """Asks for the server's time. `sent_us` is of any clock of the client's; it comes back
    unread."""

    type: Literal["ping"] = "ping"
    sent_us: Microseconds


class Record(Message):
    """Asks for a recording of the room to begin or end."""

    type: Literal["record"] = "record"
    on: bool


class Moderate(Message):
    """Mutes or removes a peer, or locks the room. For moderators."""

    type: Literal["moderate"] = "moderate"
    action: Moderation
    peer: PeerId | None = None
    """Who is muted, unmuted or removed."""


class Report(Message):
    """Tells how well a listener hears, about once a second."""

    type: Literal["report"] = "report"
    playout_delay_ms: Annotated[float, Field(ge=0)]
    underruns: Annotated[int, Field(ge=0)]
    frames_played: Annotated[int, Field(ge=0)]
    frames_missing: Annotated[int, Field(ge=0)]


# From the server


class Welcome(Message):
    """Answers a hello."""

    type: Literal["welcome"] = "welcome"
    protocol: int = PROTOCOL
    peer: int
    """The id of the client that said hello."""
    room: str
    model: ModelInfo
    limits: Limits
    clock_us: Microseconds
    peers: list[PeerInfo]
    windows: bool = False
    """Whether this server passes on windows of other models."""
    recording: bool = False
    """Whether what is said in this room is recorded."""
    entropy: Digest | None = None
    """Digest of the language model with which packets of codes may be coded here. None if all are
    plain."""
    may: list[Grant] | None = None
    """What this client may do here. None if the server does not say."""
    locked: bool = False
    """Whether a moderator has locked the room."""
    short_headers: bool = False
    """Whether short headers may be used in both directions."""
    silence: bool = False
    """Whether this server passes on signs of silence."""
    resume: Annotated[str | None, Field(repr=False)] = None
    """The secret with which this client may take its seat again. None if it is not kept."""
    resume_within_s: float = 0.0
    """How long the seat is kept after the connection broke."""
    resumed: bool = False
    """Whether this is the seat that the client had before."""
    next_sequence: Annotated[int, Field(ge=0, lt=1 << 16)] | None = None
    """In a seat that the client had before: the sequence that the server expects next of it. None
    if nothing came of it so far."""
    servers: Servers = []  # noqa: RUF012 -- pydantic copies it
    """Addresses of other servers with the same rooms, for when this one is lost."""


class PeerJoined(Message):
    """Says that a peer came into the room."""

    type: Literal["peer_joined"] = "peer_joined"
    peer: PeerInfo


class PeerLeft(Message):
    """Says that a peer left the room."""

    type: Literal["peer_left"] = "peer_left"
    id: int
    reason: str = ""


class PeerChanged(Message):
    """Says what a peer is like now."""

    type: Literal["peer_changed"] = "peer_changed"
    peer: PeerInfo


class Recording(Message):
    """Says that the room is recorded from now on, or no longer. It also answers a `record` that
    changes nothing."""

    type: Literal["recording"] = "recording"
    on: bool
    by: Annotated[int, Field(ge=1, lt=1 << 16)] | None = None
    """The peer that asked for it. None where the server does it of itself."""
    reason: str = ""
    """Why the recording ended or did not begin."""


class Moderated(Message):
    """Says what a moderator did to the room, or to a peer that stays in it."""

    type: Literal["moderated"] = "moderated"
    action: Moderation
    by: PeerId | None = None
    """The moderator. None where one did it that is not in the room."""
    peer: PeerId | None = None


class Draining(Message):
    """Says that the server ends, within so many seconds at the latest, and takes no new rooms until
    then. Who is in a room may stay."""

    type: Literal["draining"] = "draining"
    within_s: int
    servers: Servers = []  # noqa: RUF012
    """Addresses of other servers with the same rooms, to go to."""


class Pong(Message):
    """Answers a ping with three of NTP's four times; the client adds the fourth. `ping_us` is the
    client's, `received_us` and `sent_us` are the server's."""

    type: Literal["pong"] = "pong"
    ping_us: Microseconds
    received_us: Microseconds
    sent_us: Microseconds


class Stats(Message):
    """Tells what the server did with this client's audio since it joined, about once a second."""

    type: Literal["stats"] = "stats"
    frames_received: int
    """Frames that came from this client."""
    frames_discarded: int
    """Those of them that were late, or more than the server could encode in time."""
    samples_replaced: int
    """NaN, infinite or impossibly loud samples that became silence."""
    frames_sent: int
    """Frames of others sent to this client."""
    frames_dropped: int
    """Frames of others that were dropped because this client reads too slowly."""
    codebooks_cut: int
    """Codebooks within the agreed rate that were cut for the same reason, summed over frames."""
    queue_ms: float
    """Age of the oldest frame that waits for this client."""


class Error(Message):
    """Says why the server closes the connection right after. `code` is the close code."""

    type: Literal["error"] = "error"
    code: int
    message: str


ClientMessage = Annotated[Hello | SetRate | Mute | Ping | Record | Moderate | Report, Field(discriminator="type")]
ServerMessage = Annotated[
    Welcome | PeerJoined | PeerLeft | PeerChanged | Recording | Moderated | Draining | Pong | Stats | Error,
    Field(discriminator="type"),
]
_client: TypeAdapter[ClientMessage] = TypeAdapter(ClientMessage)
_server: TypeAdapter[ServerMessage] = TypeAdapter(ServerMessage)


def _parse(adapter: TypeAdapter[ClientMessage] | TypeAdapter[ServerMessage], text: str, limit: int) -> object:
    if len(text) > limit:
        raise ProtocolError(f"control message of {len(text)} characters: at most {limit}", CloseCode.MESSAGE_TOO_BIG)
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = clean(f"{where or 'type'}: {first['msg']}", MAX_ECHO)  # both may hold what the sender wrote
        raise ProtocolError(f"malformed control message: {said}") from error


def parse_client(text: str) -> ClientMessage:
    """Reads a text message from a client. Raises ProtocolError, also for types that only servers
    send."""
    return _parse(_client, text, MAX_CONTROL_BYTES)  # type: ignore[return-value]


def parse_server(text: str) -> ServerMessage:
    """Reads a text message from a server, which may list many peers. Raises ProtocolError."""
    return _parse(_server, text, 1 << 20)  # type: ignore[return-value]
