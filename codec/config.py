"""The shape of an EnCodec model: numbers only, no weights, no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from codec.errors import ModelError, UsageError

Padding = Literal["zeros", "reflect"]

MOST, MOST_LAYERS = 1 << 16, 16
"""What the counts of a configuration may be at most, so that a damaged file cannot ask for the whole memory."""
_LAYER_COUNTS = ("n_residual_layers", "dilation_base", "lstm_layers")


@dataclass(frozen=True)
class ModelConfig:
    """A causal EnCodec (arXiv 2210.13438, section 3.1); the defaults are the official 24 kHz model.

    `padding` is what the model's offline convolutions pad with; sessions choose their own.
    """

    name: str = "encodec_24khz"
    sample_rate: int = 24_000
    n_filters: int = 32
    dimension: int = 128
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    """Upsampling factors in the decoder's order; the encoder strides run the other way."""
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

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.type == "int"):
            value, most = getattr(self, name), MOST_LAYERS if name in _LAYER_COUNTS else MOST
            if type(value) is not int or not 1 <= value <= most:
                raise ModelError(f"model {self.name!r}: {name} must be a whole number in 1..{most}, not {value!r}")
        whole = all(type(ratio) is int and 1 <= ratio <= MOST for ratio in self.ratios)
        if not whole or not 1 <= len(self.ratios) <= MOST_LAYERS:
            raise ModelError(f"model {self.name!r}: ratios must be 1..{MOST_LAYERS} positive whole numbers")
        if self.codebook_size & (self.codebook_size - 1):
            raise ModelError(f"model {self.name!r}: codebook_size {self.codebook_size} is not a power of two")
        if self.padding not in ("zeros", "reflect"):
            raise ModelError(f"model {self.name!r}: unknown padding {self.padding!r}")
        if any(not isinstance(kbps, int | float) or not abs(kbps) <= MOST for kbps in self.bandwidths):
            raise ModelError(f"model {self.name!r}: bandwidths must be numbers, not {self.bandwidths!r}")
        if not self.bandwidths or any(self.n_q_at_most(kbps) < 1 for kbps in self.bandwidths):
            raise ModelError(f"model {self.name!r}: a bandwidth of {self.bandwidths} kbps is below one codebook")

    @property
    def hop_length(self) -> int:
        """Samples in a frame."""
        return math.prod(self.ratios)

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_length

    @property
    def bits_per_code(self) -> int:
        return self.codebook_size.bit_length() - 1

    @property
    def kbps_per_codebook(self) -> float:
        return self.bits_per_code * self.frame_rate / 1000

    def n_q_at_most(self, kbps: float) -> int:
        """The largest number of codebooks whose rate does not pass `kbps`; 0 if not even one does."""
        return min(self.n_codebooks, int(kbps / self.kbps_per_codebook + 1e-9))

    def n_q(self, kbps: float) -> int:
        """Codebooks of one of the model's `bandwidths`. Raises UsageError for any other rate."""
        if kbps not in self.bandwidths:
            raise UsageError(f"{self.name} has no bandwidth of {kbps} kbps; choose one of {list(self.bandwidths)}")
        return self.n_q_at_most(kbps)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """The reverse of `to_dict`. Raises ModelError for unknown or wrongly typed values."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ModelError(f"unknown model settings: {', '.join(unknown)}")
        try:
            frozen: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**frozen)
        except TypeError as error:
            raise ModelError(f"model settings are malformed: {error}") from error


ENCODEC_24KHZ = ModelConfig()
LITE_24KHZ = ModelConfig(
    name="lite_24khz", n_filters=16, n_codebooks=16, bandwidths=(1.5, 3.0, 6.0, 12.0), padding="zeros"
)
