"""What control messages describe: models, peers and limits; and the types of their fields."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from earshot.codec.config import ModelConfig
from earshot.codec.errors import UsageError
from earshot.protocol.packet import MAX_CODEBOOKS, MAX_WINDOW_FRAMES

MAX_SPOKEN_KBPS = 128.0
"""The highest rate of a model that is not the room's."""

Send = Literal["pcm", "codes", "none"]
Want = Literal["codes", "pcm", "none"]
Name = Annotated[str, Field(max_length=64, pattern=r"^[^\p{C}\p{Zl}\p{Zp}]*$")]
"""A name has no control or format characters, because terminals of others show it and would obey
them."""
Kbps = Annotated[float, Field(gt=0, le=1000)]
Microseconds = Annotated[int, Field(ge=0, lt=1 << 63)]
Digest = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
PeerId = Annotated[int, Field(ge=1, lt=1 << 16)]


class Message(BaseModel):
    """Ignores unknown fields, so that later versions may add some, and refuses wrong types and
    NaN."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    @cached_property
    def text(self) -> str:
        """The message as JSON, made once for all that it is sent to."""
        return self.model_dump_json()


class ModelInfo(Message):
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


class WindowModel(Message):
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


class PeerInfo(Message):
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


class Limits(Message):
    """What the server allows a client. It closes the connection of a client that goes beyond."""

    max_message_bytes: int
    messages_per_second: float
    audio_burst_ms: float
    """How far audio may be ahead of real time."""
