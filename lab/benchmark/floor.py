"""The least time that a step can take: its multiply-adds at the peak of one core, or its weights at
the speed at which they can be read, whichever is more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from earshot.codec.config import ModelConfig

Direction = Literal["encode", "decode"]
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}
"""Bytes of a weight, by precision."""


@dataclass(frozen=True)
class Work:
    """What one stream asks of any engine."""

    macs: float
    """Multiply-adds for a second of sound."""
    weights: int
    """Numbers that each step reads, once for all its streams."""
    frame_rate: float
    """Steps for a second of sound."""

    def bytes(self, precision: str) -> int:
        """Returns the size of the weights."""
        return self.weights * BYTES.get(precision, BYTES["fp32"])


@dataclass(frozen=True)
class Machine:
    """What one core did in the same run."""

    macs_per_second: Mapping[str, float]
    """Multiply-adds with operands in registers, by precision; a precision for which the processor
    has no instruction is not there."""
    bytes_per_second: Mapping[str, float]
    """The speed of reading as many bytes as the weights have, again and again, by precision."""
    cold_bytes_per_second: float
    """The speed of reading what is in no cache."""

    def floor_ms(self, work: Work, precision: str, batch: float, cold: bool) -> float:
        """Milliseconds for a second of sound of one of `batch` streams that step together. `cold`:
        the weights are in no cache when a step begins."""
        peak = self.macs_per_second.get(precision, self.macs_per_second["fp32"])
        speed = self.cold_bytes_per_second if cold else self.bytes_per_second[precision]
        return 1000 * max(work.macs / peak, work.bytes(precision) * work.frame_rate / (batch * speed))


def work_of(config: ModelConfig, direction: Direction, n_q: int) -> Work:
    """Counts the work of the convolutions, the LSTM and, when encoding, the search of `n_q`
    codebooks.

    Activations and additions, which are a few percent, do not count. Looking up the entries of
    codes does not either."""
    macs, weights = 0.0, 0

    def convolution(rate: float, c_in: int, c_out: int, kernel: int) -> None:
        nonlocal macs, weights
        size = c_in * c_out * kernel
        macs += rate * size
        weights += size

    rate, (width, *rest) = float(config.sample_rate), config.channel_counts
    convolution(rate, config.channels, width, config.kernel_size if direction == "encode" else config.last_kernel_size)
    for ratio, wider in zip(reversed(config.ratios), rest, strict=True):
        hidden = width // config.compress
        for _ in range(config.n_residual_layers):
            convolution(rate, width, hidden, config.residual_kernel_size)
            convolution(rate, hidden, width, 1)
            convolution(rate, width, width, 1)
        # A strided convolution down, or its transpose up: a kernel of 2 * ratio for each sample of
        # the slower side.
        rate /= ratio
        convolution(rate, width, wider, 2 * ratio)
        width = wider
    for _ in range(config.lstm_layers):
        convolution(rate, 2 * width, 4 * width, 1)  # four gates, of the input and of the layer's own past
    convolution(rate, width, config.dimension, config.last_kernel_size if direction == "encode" else config.kernel_size)
    if direction == "encode":
        convolution(rate, config.dimension, n_q * config.codebook_size, 1)
    return Work(macs, weights, config.frame_rate)
