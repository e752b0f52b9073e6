"""Makes an integer language model with random weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earshot.codec.lm.entropy import LiveLm
from earshot.codec.lm.integer_lm import LmShape, LmWeights

SHAPE = LmShape((2, 4, 8), ((1, 2, 8), (1, 3), (2,)), 1024, 24, 33, 40)
"""Odd sizes, so that no loop ends at a whole register."""


def random_weights(shape: LmShape = SHAPE, seed: int = 0) -> LmWeights:
    """Returns weights with probabilities of all sizes, and with values that are clipped now and
    then."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {
        "tables": rng.integers(-127, 128, (shape.n_q, shape.card, shape.embed), np.int8),
        "tables.scale": np.full(shape.n_q, 16 << 24, np.int32),
    }
    for name, outputs, inputs in shape.layers():
        arrays[f"{name}.weight"] = rng.integers(-127, 128, (outputs, inputs), np.int8)
        gain = (16 if name.endswith(".out") else 4) / math.sqrt(inputs) / 73
        arrays[f"{name}.scale"] = (gain * rng.uniform(0.5, 1.5, outputs) * (1 << 24)).astype(np.int32)
        arrays[f"{name}.bias"] = rng.integers(-1000, 1000, outputs, np.int32)
    return LmWeights(shape, arrays)


def live_lm() -> LiveLm:
    """Returns the model in C++, with a digest of its own."""
    from earshot.codec.engine.native.lm import NativeLm

    return LiveLm(NativeLm(random_weights()), "0123456789abcdef")
