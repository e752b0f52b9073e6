"""From the trained network to the integer model: each row of a matrix becomes 8 bits and a
scale."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earshot.codec.lm.integer_lm import FRACTION, MOST, SHIFT, LmWeights
from earshot.lab.training.lm_network import LmNetwork

_LARGEST = MOST / (1 << FRACTION) / 2
"""What a code can stand for at most: half of what flows between layers."""


def to_integers(network: LmNetwork) -> LmWeights:
    """Rounds to nearest. What the heads give becomes logarithms to the base 2."""
    floats = {key: tensor.detach().double().numpy() for key, tensor in network.state_dict().items()}
    arrays: dict[str, NDArray[Any]] = {}
    for name, _, _ in network.shape.layers():
        base = math.log2(math.e) if name.endswith(".out") else 1.0
        weight = floats[f"{name}.weight"]
        arrays[f"{name}.weight"], step = _eight_bits(weight, axis=1)
        arrays[f"{name}.scale"] = _whole(step * base * 2**SHIFT)
        arrays[f"{name}.bias"] = _whole(floats[f"{name}.bias"] * base * 2**FRACTION)
    tables = np.clip(floats["tables"], -_LARGEST, _LARGEST)
    arrays["tables"], step = _eight_bits(tables, axis=(1, 2))
    arrays["tables.scale"] = _whole(step * 2 ** (FRACTION + SHIFT))
    return LmWeights(network.shape, arrays)


def _eight_bits(
    values: NDArray[np.float64], axis: int | tuple[int, ...]
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """The values in steps of a size of their own along all other axes, and these sizes."""
    step = np.maximum(np.abs(values).max(axis=axis, keepdims=True), 1e-9) / 127
    return np.rint(values / step).astype(np.int8), step.reshape(-1)


def _whole(values: NDArray[np.float64]) -> NDArray[np.int32]:
    most = np.iinfo(np.int32).max
    return np.clip(np.rint(values), -most, most).astype(np.int32)
