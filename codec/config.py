"""The shape of an EnCodec model: numbers only, no weights, no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from earshot.codec.errors import ModelError, UsageError

Padding = Literal["zeros", "reflect"]
Norm = Literal["weight", "time_group"]

MOST, MOST_LAYERS = 1 << 16, 16
"""Limits of the counts in a configuration, so that a damaged file cannot ask for the whole
memory."""
MOST_WINDOW_SECONDS, MOST_OVERLAP = 60.0, 0.5
MOST_EXPONENT, MOST_FILTERED_HOP = 2.0, 512
"""Of the postfilter, and the longest frames that it takes."""
_MOST = {"n_residual_layers": MOST_LAYERS, "dilation_base": MOST_LAYERS, "lstm_layers": MOST_LAYERS, "channels": 2}
_LATER = ("widths", "channels", "causal", "norm", "normalize", "window_seconds", "window_overlap", "postfilter")
"""Fields that were added after models had been published. They are left out of a digest where they
have their default, so that older digests stay valid."""

_NOT_CODING = ("name", "bandwidths", "postfilter")


@dataclass(frozen=True)
class ModelConfig:
    """An EnCodec (arXiv 2210.13438, section 3.1); the defaults are the official causal 24 kHz
    model.

    `padding` is what the model's offline convolutions pad with; sessions choose their own.
    """

    name: str = "encodec_24khz"
    sample_rate: int = 24_000
    n_filters: int = 32
    dimension: int = 128
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    """Upsampling factors in the decoder's order; the encoder strides run the other way."""
    widths: tuple[int, ...] | None = None
    """Channels from the sample rate down to the frame rate, one more than `ratios`, the first of
    them `n_filters`. None doubles them with every ratio, as published."""
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    n_residual_layers: int = 1
    dilation_base: int = 2
    compress: int = 2
    lstm_layers: int = 2
    n_codebooks: int = 32
    codebook_size: int = 1024
    bandwidths: tuple[float, ...] = (1.5, 3.0, 6.0, 12.0, 24.0)
    padding: Padding = "reflect"
    channels: int = 1
    """1 for mono, 2 for stereo."""
    causal: bool = True
    """Whether convolutions only look back. A model whose convolutions look both ways cannot
    stream."""
    norm: Norm = "weight"
    """`weight`: weight normalisation while training, which is folded into the stored weights.
    `time_group`: normalisation over all channels and the whole window, after every convolution."""
    normalize: bool = False
    """Whether each window is scaled to the same volume before it is coded; the scale travels with
    its codes."""
    window_seconds: float | None = None
    """Length of the windows that a signal is coded in; None if it is coded as a whole."""
    window_overlap: float = 0.01
    """Share of a window that the next one covers too."""
    postfilter: tuple[float, float] | None = None
    """Exponents of the decoder's last step, fine and coarse (codec/model/postfilter.py); None for
    none. It changes no code and no weight."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.type == "int"):
            value, most = getattr(self, name), _MOST.get(name, MOST)
            if type(value) is not int or not 1 <= value <= most:
                raise ModelError(f"model {self.name!r}: {name} must be a whole number in 1..{most}, not {value!r}")
        whole = all(type(ratio) is int and 1 <= ratio <= MOST for ratio in self.ratios)
        if not whole or not 1 <= len(self.ratios) <= MOST_LAYERS:
            raise ModelError(f"model {self.name!r}: ratios must be 1..{MOST_LAYERS} positive whole numbers")
        if self.widths is not None:
            whole = all(type(width) is int and 1 <= width <= MOST for width in self.widths)
            if not whole or len(self.widths) != len(self.ratios) + 1 or self.widths[0] != self.n_filters:
                raise ModelError(
                    f"model {self.name!r}: widths must be {len(self.ratios) + 1} positive whole numbers, the first of "
                    f"them {self.n_filters} (n_filters), not {self.widths!r}"
                )
        if self.codebook_size < 2 or self.codebook_size & (self.codebook_size - 1):
            raise ModelError(f"model {self.name!r}: codebook_size {self.codebook_size} is no power of two above 1")
        if self.padding not in ("zeros", "reflect"):
            raise ModelError(f"model {self.name!r}: unknown padding {self.padding!r}")
        if any(not isinstance(kbps, int | float) or not abs(kbps) <= MOST for kbps in self.bandwidths):
            raise ModelError(f"model {self.name!r}: bandwidths must be numbers, not {self.bandwidths!r}")
        if not self.bandwidths or any(self.n_q_at_most(kbps) < 1 for kbps in self.bandwidths):
            raise ModelError(f"model {self.name!r}: a bandwidth of {self.bandwidths} kbps is below one codebook")
        self._check_windows()
        self._check_postfilter()

    def _check_postfilter(self) -> None:
        if self.postfilter is None:
            return
        if len(self.postfilter) != 2 or not all(_is_number(exponent, MOST_EXPONENT) for exponent in self.postfilter):
            raise ModelError(
                f"model {self.name!r}: postfilter must be two numbers in 0..{MOST_EXPONENT:g}, not {self.postfilter!r}"
            )
        if not self.causal or self.channels != 1 or self.hop_length > MOST_FILTERED_HOP:
            raise ModelError(
                f"model {self.name!r}: a postfilter needs a causal mono model with frames of at most "
                f"{MOST_FILTERED_HOP} samples"
            )

    def _check_windows(self) -> None:
        if type(self.causal) is not bool or type(self.normalize) is not bool:
            raise ModelError(f"model {self.name!r}: causal and normalize must be true or false")
        if self.norm not in ("weight", "time_group"):
            raise ModelError(f"model {self.name!r}: unknown norm {self.norm!r}")
        if self.causal and self.norm == "time_group":
            raise ModelError(f"model {self.name!r}: normalisation over time looks ahead, so it cannot be causal")
        seconds, overlap = self.window_seconds, self.window_overlap
        if seconds is not None and not (_is_number(seconds, MOST_WINDOW_SECONDS) and self.window_length):
            raise ModelError(
                f"model {self.name!r}: window_seconds must be a sample..{MOST_WINDOW_SECONDS:g} s, not {seconds!r}"
            )
        if not _is_number(overlap, MOST_OVERLAP):
            raise ModelError(f"model {self.name!r}: window_overlap must be in 0..{MOST_OVERLAP}, not {overlap!r}")

    @property
    def window_length(self) -> int | None:
        """Samples in a window; None if there are no windows."""
        return None if self.window_seconds is None else int(self.window_seconds * self.sample_rate)

    @property
    def window_stride(self) -> int | None:
        """Samples from the start of a window to the start of the next; None if there are no
        windows."""
        return None if self.window_length is None else max(1, int((1 - self.window_overlap) * self.window_length))

    def check_plain(self) -> None:
        """Raises UsageError for models whose signals are more than one sequence of codes: stereo
        models, and models that code in windows."""
        if self.channels != 1 or self.normalize or self.window_seconds is not None:
            raise UsageError(
                f"{self.name} codes {'stereo' if self.channels == 2 else 'mono'} sound in windows; use encode_windows "
                "and decode_windows"
            )

    def check_streams(self) -> None:
        """Raises UsageError for models that cannot work frame by frame."""
        if not self.causal or self.channels != 1 or self.normalize or self.window_seconds is not None:
            raise UsageError(
                f"{self.name} has no stream of frames: only causal mono models without windows have one. Use "
                "encode_windows and decode_windows on whole signals, or another model, such as 'default'"
            )

    @property
    def channel_counts(self) -> tuple[int, ...]:
        """Channels from the sample rate down to the frame rate; one more than there are ratios."""
        return self.widths or tuple(self.n_filters << index for index in range(len(self.ratios) + 1))

    @property
    def hop_length(self) -> int:
        """Samples in a frame."""
        return math.prod(self.ratios)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def latency_s(self) -> float:
        """Longest time from a sample to the codes that hold it, in a stream: a frame, or a window
        if the model codes in windows. It is infinite for a model that codes whole signals only."""
        if self.window_length is not None:
            return self.window_length / self.sample_rate
        return self.hop_length / self.sample_rate if self.causal and self.channels == 1 else math.inf

    @property
    def bits_per_code(self) -> int:
        return self.codebook_size.bit_length() - 1

    @property
    def kbps_per_codebook(self) -> float:
        return self.bits_per_code * self.frame_rate / 1000

    def n_q_at_most(self, kbps: float) -> int:
        """Returns the largest number of codebooks whose rate is at most `kbps`; 0 if even one is
        more."""
        return min(self.n_codebooks, int(kbps / self.kbps_per_codebook + 1e-9))

    def n_q(self, kbps: float) -> int:
        """Returns the number of codebooks of one of the model's `bandwidths`. Raises UsageError for
        any other rate."""
        if kbps not in self.bandwidths:
            rates = ", ".join(f"{rate:g}" for rate in self.bandwidths)
            raise UsageError(f"{self.name} has no rate of {kbps:g} kbps; choose one of {rates}")
        return self.n_q_at_most(kbps)

    def to_dict(self) -> dict[str, Any]:
        """Returns what `from_dict` reads, without later settings that have their default."""
        return {key: value for key, value in asdict(self).items() if key not in _LATER or value != _DEFAULTS[key]}

    def shape(self) -> dict[str, Any]:
        """Returns `to_dict` without the name and the rates, which change no weight and no state."""
        return {**self.to_dict(), "name": None, "bandwidths": None}

    def coding(self) -> dict[str, Any]:
        """Returns what of `to_dict` the meaning of codes depends on."""
        return {key: value for key, value in self.to_dict().items() if key not in _NOT_CODING}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Builds a configuration from what `to_dict` returned. Raises ModelError for unknown or
        wrongly typed values."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ModelError(f"unknown model settings: {', '.join(unknown)}")
        try:
            frozen: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**frozen)
        except TypeError as error:
            raise ModelError(f"model settings are malformed: {error}") from error


def _is_number(value: object, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


_DEFAULTS = {field.name: field.default for field in fields(ModelConfig)}
ENCODEC_24KHZ = ModelConfig()
ENCODEC_48KHZ = ModelConfig(
    name="encodec_48khz",
    sample_rate=48_000,
    n_codebooks=16,
    bandwidths=(3.0, 6.0, 12.0, 24.0),
    channels=2,
    causal=False,
    norm="time_group",
    normalize=True,
    window_seconds=1.0,
)
LITE_24KHZ = ModelConfig(
    name="lite_24khz", n_filters=16, n_codebooks=16, bandwidths=(1.5, 3.0, 6.0, 12.0), padding="zeros"
)
