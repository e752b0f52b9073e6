"""Control messages of the protocol (docs/protocol.md, "Control"): one JSON object a text message,
named by `type`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from earshot.codec.config import ModelConfig
from earshot.codec.errors import UsageError
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.packet import MAX_CODEBOOKS, MAX_WINDOW_FRAMES
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

PROTOCOL = 1
SUBPROTOCOL = "earshot.v1"
ROOM_PATTERN = r"[A-Za-z0-9_-]{1,64}"
MAX_CONTROL_BYTES = 4096
MAX_SPOKEN_KBPS = 128.0
"""What a model of a speaker's own may make at most."""
MAX_ALSO = 16
MAX_LANGUAGE_MODELS = 4

Send = Literal["pcm", "codes", "none"]
Want = Literal["codes", "pcm", "none"]
Name = Annotated[str, Field(max_length=64, pattern=r"^[^\p{C}\p{Zl}\p{Zp}]*$")]
"""Shown in the terminals of others, so it holds nothing that a terminal would obey: no control or
format characters."""
Kbps = Annotated[float, Field(gt=0, le=1000)]
Microseconds = Annotated[int, Field(ge=0, lt=1 << 63)]
Digest = Annotated[str, Field(max_length=64)]


class _Message(BaseModel):
    """Unknown fields are ignored, so that later versions may add some; wrong types and NaN are
    refused."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class ModelInfo(_Message):
    """What a peer must know of the room's codec."""

    name: str
    digest: str
    sample_rate: int
    hop_length: int
    n_codebooks: int
    codebook_size: int
    bandwidths: list[float]

    @classmethod
    def of(cls, config: ModelConfig, digest: str) -> ModelInfo:
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
    """The model of a speaker that codes in windows, which a server passes on and cannot decode."""

    name: Name
    digest: Digest
    sample_rate: Annotated[int, Field(ge=8000, le=192_000)]
    channels: Annotated[int, Field(ge=1, le=2)]
    hop_length: Annotated[int, Field(ge=1, le=1 << 16)]
    n_codebooks: Annotated[int, Field(ge=1, le=MAX_CODEBOOKS)]
    codebook_size: Literal[1024] = 1024
    bandwidths: Annotated[list[Kbps], Field(min_length=1, max_length=16)]
    window_frames: Annotated[int, Field(ge=1, le=MAX_WINDOW_FRAMES)]
    """Frames in a window at most."""
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
        """From a sample to the codes that hold it, at most: a window."""
        return self.window_frames * self.hop_length / self.sample_rate

    @property
    def kbps_per_codebook(self) -> float:
        return 10 * self.sample_rate / self.hop_length / 1000

    def n_q_at_most(self, kbps: float) -> int:
        """The largest number of codebooks whose rate does not pass `kbps`, but one at least."""
        return max(1, min(self.n_codebooks, int(kbps / self.kbps_per_codebook + 1e-9)))

    @classmethod
    def of(cls, config: ModelConfig, digest: str) -> WindowModel:
        """Raises UsageError for a model that codes without windows, or whose windows no packet
        could hold."""
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
    id: Annotated[int, Field(ge=1, lt=1 << 16)]
    name: Name
    send: Send
    want: Want
    send_kbps: Kbps
    max_kbps: Kbps
    muted: bool = False
    model: WindowModel | None = None
    """What its codes are made by; None: the room's model. Another reaches those only who have
    it."""


class Limits(_Message):
    """What the server holds a client to; passing one closes the connection."""

    max_message_bytes: int
    messages_per_second: float
    audio_burst_ms: float
    """Audio that may be ahead of real time."""


# From the client


class Hello(_Message):
    """The first message. `model` is the digest of the room's codec, None where the client neither
    sends nor wants codes of it."""

    type: Literal["hello"] = "hello"
    protocol: int
    name: Name = ""
    model: Digest | None = None
    send: Send = "pcm"
    want: Want = "codes"
    send_kbps: Kbps = 6.0
    max_kbps: Kbps = 12.0
    trace: bool = False
    """Whether packets to this listener should carry traces where their speaker sends them."""
    send_model: WindowModel | None = None
    """The model that makes the codes that this client sends, where it is not the room's."""
    also: Annotated[list[Digest], Field(max_length=MAX_ALSO)] = []
    """Digests of the other models whose windows it takes. A client that names none gets no
    windows."""
    entropy: Annotated[list[Digest], Field(max_length=MAX_LANGUAGE_MODELS)] = []
    """Digests of the language models through which it can code and decode packets."""


class SetRate(_Message):
    type: Literal["set_rate"] = "set_rate"
    send_kbps: Kbps | None = None
    max_kbps: Kbps | None = None


class Mute(_Message):
    type: Literal["mute"] = "mute"
    muted: bool


class Ping(_Message):
    """`sent_us` is any clock of the client's; it comes back unread."""

    type: Literal["ping"] = "ping"
    sent_us: Microseconds


class Record(_Message):
    """Asks for a recording of the room to begin or end."""

    type: Literal["record"] = "record"
    on: bool


class Report(_Message):
    """How a listener fares, about once a second."""

    type: Literal["report"] = "report"
    playout_delay_ms: Annotated[float, Field(ge=0)]
    underruns: Annotated[int, Field(ge=0)]
    frames_played: Annotated[int, Field(ge=0)]
    frames_missing: Annotated[int, Field(ge=0)]


# From the server


class Welcome(_Message):
    type: Literal["welcome"] = "welcome"
    protocol: int = PROTOCOL
    peer: int
    """The id of the client that is welcomed."""
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
    """The language model through which packets of codes may come and go here, None if there are
    plain ones only."""


class PeerJoined(_Message):
    type: Literal["peer_joined"] = "peer_joined"
    peer: PeerInfo


class PeerLeft(_Message):
    type: Literal["peer_left"] = "peer_left"
    id: int
    reason: str = ""


class PeerChanged(_Message):
    type: Literal["peer_changed"] = "peer_changed"
    peer: PeerInfo


class Recording(_Message):
    """The room is recorded from now on, or no longer; also the answer to a `record` that changes
    nothing."""

    type: Literal["recording"] = "recording"
    on: bool
    by: Annotated[int, Field(ge=1, lt=1 << 16)] | None = None
    """Who asked for it; None where the server does it of itself."""
    reason: str = ""
    """Why it ended or did not begin."""


class Pong(_Message):
    """NTP's four times, the last of which the client adds: `ping_us` sent, `received_us` and
    `sent_us` the server's."""

    type: Literal["pong"] = "pong"
    ping_us: Microseconds
    received_us: Microseconds
    sent_us: Microseconds


class Stats(_Message):
    """What the server did with this client's audio since it joined, about once a second."""

    type: Literal["stats"] = "stats"
    frames_received: int
    """Frames that the server has of this client as a speaker."""
    frames_discarded: int
    """Of those, frames that it could not take: late, or more than it could encode in time."""
    samples_replaced: int
    """NaN, infinite or impossibly loud samples that became silence."""
    frames_sent: int
    """Frames of others sent to this client."""
    frames_dropped: int
    """Frames of others that were dropped because this client reads too slowly."""
    codebooks_cut: int
    """Codebooks below the agreed rate that were cut for the same reason, summed over frames."""
    queue_ms: float
    """Age of the oldest frame that waits for this client."""


class Error(_Message):
    """Why the server closes the connection right after; `code` is the close code."""

    type: Literal["error"] = "error"
    code: int
    message: str


ClientMessage = Annotated[Hello | SetRate | Mute | Ping | Record | Report, Field(discriminator="type")]
ServerMessage = Annotated[
    Welcome | PeerJoined | PeerLeft | PeerChanged | Recording | Pong | Stats | Error, Field(discriminator="type")
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
        raise ProtocolError(f"malformed control message: {where or 'type'}: {first['msg']}") from error


def parse_client(text: str) -> ClientMessage:
    """A text message from a client. Raises ProtocolError, also for types that only servers send."""
    return _parse(_client, text, MAX_CONTROL_BYTES)  # type: ignore[return-value]


def parse_server(text: str) -> ServerMessage:
    """A text message from a server, which may list many peers. Raises ProtocolError."""
    return _parse(_server, text, 1 << 20)  # type: ignore[return-value]
