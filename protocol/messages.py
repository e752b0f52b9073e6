"""Control messages of the protocol (docs/protocol.md, "Control"). Each text message is one JSON
object, whose `type` names it."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from earshot.codec.config import ModelConfig
from earshot.codec.errors import UsageError
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.packet import MAX_CODEBOOKS, MAX_WINDOW_FRAMES
from earshot.protocol.text import clean

PROTOCOL = 1
SUBPROTOCOL = "earshot.v1"
ROOM_PATTERN = r"[A-Za-z0-9_-]{1,64}"
MAX_CONTROL_BYTES = 4096
MAX_ECHO = 300
"""Characters that an error says about a malformed message, in which the message may be quoted."""
MAX_SPOKEN_KBPS = 128.0
"""The highest rate of a model that is not the room's."""
MAX_ALSO = 16
"""Models of windows that a hello may name."""
MAX_LANGUAGE_MODELS = 4
"""Language models that a hello may name."""
MAX_TOKEN = 2048
"""Characters of a token."""

Send = Literal["pcm", "codes", "none"]
Want = Literal["codes", "pcm", "none"]
Name = Annotated[str, Field(max_length=64, pattern=r"^[^\p{C}\p{Zl}\p{Zp}]*$")]
"""A name has no control or format characters, because terminals of others show it and would obey
them."""
Kbps = Annotated[float, Field(gt=0, le=1000)]
Microseconds = Annotated[int, Field(ge=0, lt=1 << 63)]
Digest = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
PeerId = Annotated[int, Field(ge=1, lt=1 << 16)]
Grant = Literal["speak", "listen", "record", "moderate"]
Moderation = Literal["mute", "unmute", "remove", "lock", "unlock"]


class _Message(BaseModel):
    """Ignores unknown fields, so that later versions may add some, and refuses wrong types and
    NaN."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    @cached_property
    def text(self) -> str:
        """The message as JSON, made once for all that it is sent to."""
        return self.model_dump_json()


class ModelInfo(_Message):
    """Describes the room's codec."""

    name: str
    digest: Digest
    sample_rate: int
    hop_length: int
    n_codebooks: int
    codebook_size: int
    bandwidths: list[float]

    @classmethod
    def of(cls, config: ModelConfig, digest: str) -> ModelInfo:
        """Describes a model."""
        return cls(
            name=config.name,
            digest=digest,
            sample_rate=config.sample_rate,
            hop_length=config.hop_length,
            n_codebooks=config.n_codebooks,
            codebook_size=config.codebook_size,
            bandwidths=list(config.bandwidths),
        )


class WindowModel(_Message):
    """Describes the model of a speaker that codes in windows. A server passes windows on and cannot
    decode them."""

    name: Name
    digest: Digest
    sample_rate: Annotated[int, Field(ge=8000, le=192_000)]
    channels: Annotated[int, Field(ge=1, le=2)]
    hop_length: Annotated[int, Field(ge=1, le=1 << 16)]
    n_codebooks: Annotated[int, Field(ge=1, le=MAX_CODEBOOKS)]
    codebook_size: Literal[1024] = 1024
    bandwidths: Annotated[list[Kbps], Field(min_length=1, max_length=16)]
    window_frames: Annotated[int, Field(ge=1, le=MAX_WINDOW_FRAMES)]
    """Frames in a window, at most."""
    window_stride: Annotated[int, Field(ge=1)]
    """Samples from the start of a window to that of the next."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        window = self.window_frames * self.hop_length
        if not window <= 2 * self.window_stride <= 2 * window:
            raise ValueError("window_stride must be half a window to a whole one")
        if self.n_codebooks * self.kbps_per_codebook > MAX_SPOKEN_KBPS:
            raise ValueError(f"all codebooks make more than {MAX_SPOKEN_KBPS:g} kbps")
        if any(kbps < self.kbps_per_codebook for kbps in self.bandwidths):
            raise ValueError("a bandwidth is below one codebook")
        return self

    @property
    def latency_s(self) -> float:
        """How long a sample may wait for its codes: a window."""
        return self.window_frames * self.hop_length / self.sample_rate

    @property
    def kbps_per_codebook(self) -> float:
        """The codec rate of one codebook."""
        return 10 * self.sample_rate / self.hop_length / 1000

    def n_q_at_most(self, kbps: float) -> int:
        """Returns the largest number of codebooks whose rate is at most `kbps`, but at least
        one."""
        return max(1, min(self.n_codebooks, int(kbps / self.kbps_per_codebook + 1e-9)))

    @classmethod
    def of(cls, config: ModelConfig, digest: str) -> WindowModel:
        """Describes a model. Raises UsageError for one that codes without windows, or whose windows
        no packet could hold."""
        if config.window_length is None or config.window_stride is None:
            raise UsageError(f"{config.name} does not code in windows")
        try:
            return cls(
                name=config.name,
                digest=digest,
                sample_rate=config.sample_rate,
                channels=config.channels,
                hop_length=config.hop_length,
                n_codebooks=config.n_codebooks,
                codebook_size=config.codebook_size,  # type: ignore[arg-type]
                bandwidths=[float(kbps) for kbps in config.bandwidths],
                window_frames=-(-config.window_length // config.hop_length),
                window_stride=config.window_stride,
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise UsageError(f"{config.name} cannot be sent: {where} {first['msg']}") from error


class PeerInfo(_Message):
    """Describes a peer to the others in its room."""

    id: Annotated[int, Field(ge=1, lt=1 << 16)]
    name: Name
    send: Send
    want: Want
    send_kbps: Kbps
    max_kbps: Kbps
    muted: bool = False
    model: WindowModel | None = None
    """The model that makes its codes, where that is not the room's. Its codes reach only peers that
    have the same model."""


class Limits(_Message):
    """What the server allows a client. It closes the connection of a client that goes beyond."""

    max_message_bytes: int
    messages_per_second: float
    audio_burst_ms: float
    """How far audio may be ahead of real time."""


# From the client


class Hello(_Message):
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
    also: Annotated[list[Digest], Field(max_length=MAX_ALSO)] = []
    """Digests of the models whose windows this client can play. It gets no windows of others."""
    entropy: Annotated[list[Digest], Field(max_length=MAX_LANGUAGE_MODELS)] = []
    """Digests of the language models with which this client can code packets."""
    token: Annotated[Annotated[str, Field(max_length=MAX_TOKEN)] | None, Field(repr=False)] = None
    """What lets this client in where not everyone may enter."""


class SetRate(_Message):
    """Changes the rates that the hello said."""

    type: Literal["set_rate"] = "set_rate"
    send_kbps: Kbps | None = None
    max_kbps: Kbps | None = None


class Mute(_Message):
    """Says that the client is muted or is not."""

    type: Literal["mute"] = "mute"
    muted: bool


class Ping(_Message):
    """Asks for the server's time. `sent_us` is of any clock of the client's; it comes back
    unread."""

    type: Literal["ping"] = "ping"
    sent_us: Microseconds


class Record(_Message):
    """Asks for a recording of the room to begin or end."""

    type: Literal["record"] = "record"
    on: bool


class Moderate(_Message):
    """Mutes or removes a peer, or locks the room. For moderators."""

    type: Literal["moderate"] = "moderate"
    action: Moderation
    peer: PeerId | None = None
    """Who is muted, unmuted or removed."""


class Report(_Message):
    """Tells how well a listener hears, about once a second."""

    type: Literal["report"] = "report"
    playout_delay_ms: Annotated[float, Field(ge=0)]
    underruns: Annotated[int, Field(ge=0)]
    frames_played: Annotated[int, Field(ge=0)]
    frames_missing: Annotated[int, Field(ge=0)]


# From the server


class Welcome(_Message):
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


class PeerJoined(_Message):
    """Says that a peer came into the room."""

    type: Literal["peer_joined"] = "peer_joined"
    peer: PeerInfo


class PeerLeft(_Message):
    """Says that a peer left the room."""

    type: Literal["peer_left"] = "peer_left"
    id: int
    reason: str = ""


class PeerChanged(_Message):
    """Says what a peer is like now."""

    type: Literal["peer_changed"] = "peer_changed"
    peer: PeerInfo


class Recording(_Message):
    """Says that the room is recorded from now on, or no longer. It also answers a `record` that
    changes nothing."""

    type: Literal["recording"] = "recording"
    on: bool
    by: Annotated[int, Field(ge=1, lt=1 << 16)] | None = None
    """The peer that asked for it. None where the server does it of itself."""
    reason: str = ""
    """Why the recording ended or did not begin."""


class Moderated(_Message):
    """Says what a moderator did to the room, or to a peer that stays in it."""

    type: Literal["moderated"] = "moderated"
    action: Moderation
    by: PeerId | None = None
    """The moderator. None where one did it that is not in the room."""
    peer: PeerId | None = None


class Pong(_Message):
    """Answers a ping with three of NTP's four times; the client adds the fourth. `ping_us` is the
    client's, `received_us` and `sent_us` are the server's."""

    type: Literal["pong"] = "pong"
    ping_us: Microseconds
    received_us: Microseconds
    sent_us: Microseconds


class Stats(_Message):
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


class Error(_Message):
    """Says why the server closes the connection right after. `code` is the close code."""

    type: Literal["error"] = "error"
    code: int
    message: str


ClientMessage = Annotated[Hello | SetRate | Mute | Ping | Record | Moderate | Report, Field(discriminator="type")]
ServerMessage = Annotated[
    Welcome | PeerJoined | PeerLeft | PeerChanged | Recording | Moderated | Pong | Stats | Error,
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
