"""A language model of codes in whole numbers, so that every machine computes the same probabilities
to the last bit.

In floating point, the order of additions differs between processors, threads and libraries, and a
single different bit makes the rest of a file unreadable (encodec issues 85, 94 and 95). Here
weights have 8 bits, values between layers have 16 bits, sums are exact, and every rounding is a
shift. This file is the definition, in numpy; codec/engine/native/integer_lm.cpp computes the same
numbers faster. docs/files.md describes the network.

Fixed point: 1.0 is 2^FRACTION. A layer is ((weights @ x) * multipliers + half >> SHIFT) + biases,
and each of its rows has a multiplier of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from math import isqrt
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from earshot.codec.errors import ModelError, UsageError
from earshot.codec.lm.arithmetic import LEAST, TOTAL, Cdf

FRACTION, SHIFT = 10, 24
MOST = 32767
"""Values between layers are in -MOST..MOST; larger ones are clipped."""
MOST_ROW = (1 << 31) // (MOST + 1)
"""Limit of the sum of the absolute weights of a row, so that no sum leaves 32 bits."""
DEEPEST = 40
"""Probabilities below 2^-DEEPEST of the largest are set to 0; then every symbol gets its smallest
part."""
_MOST_COUNTS = {"card": 1 << 14, "embed": 1024, "channels": 2048, "hidden": 2048}
_MOST_GROUPS, _MOST_BLOCKS, _MOST_DILATION = 8, 16, 1024

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LmShape:
    """The shape of a network."""

    groups: tuple[int, ...] = (2, 4, 8)
    """For each group, the codebooks up to its end. Each group belongs to one rate of the codec."""
    dilations: tuple[tuple[int, ...], ...] = ((1, 2, 4, 8, 16, 32, 64, 128), (1, 2, 4, 8, 16), (1, 2, 4, 8, 16))
    """For each group, how far each block of its tower looks back, in frames."""
    card: int = 1024
    """Entries of a codebook."""
    embed: int = 128
    channels: int = 192
    hidden: int = 256

    def __post_init__(self) -> None:
        for name, most in _MOST_COUNTS.items():
            if type(value := getattr(self, name)) is not int or not 1 <= value <= most:
                raise ModelError(f"a language model's {name} must be in 1..{most}, not {value!r}")
        rising = all(type(n) is int for n in self.groups) and list(self.groups) == sorted({*self.groups})
        if not rising or not 1 <= len(self.groups) <= _MOST_GROUPS or not 1 <= self.groups[0] <= self.groups[-1] <= 32:
            raise ModelError(f"a language model's groups must rise from 1 to 32, not {self.groups!r}")
        flat = [dilation for tower in self.dilations for dilation in tower]
        if (
            len(self.dilations) != len(self.groups)
            or any(len(tower) > _MOST_BLOCKS for tower in self.dilations)
            or any(type(dilation) is not int or not 1 <= dilation <= _MOST_DILATION for dilation in flat)
        ):
            raise ModelError(f"a language model's dilations must be in 1..{_MOST_DILATION}, a row for each group")

    @property
    def n_q(self) -> int:
        """Number of codebooks that the model knows."""
        return self.groups[-1]

    def group(self, q: int) -> int:
        """Returns the group that a codebook belongs to."""
        return next(index for index, end in enumerate(self.groups) if q < end)

    def inputs(self, group: int) -> int:
        """Returns the width of the input of a tower: the codes of the previous frame and, beyond
        the first group, the known codes of this frame and the output of the tower below."""
        return self.embed if not group else 2 * self.embed + self.channels

    def layers(self) -> Iterator[tuple[str, int, int]]:
        """Yields the name, outputs and inputs of each layer."""
        for group, tower in enumerate(self.dilations):
            yield f"towers.{group}.enter", self.channels, self.inputs(group)
            for block in range(len(tower)):
                yield f"towers.{group}.blocks.{block}.look", self.channels, 2 * self.channels
                yield f"towers.{group}.blocks.{block}.add", self.channels, self.channels
        for q in range(self.n_q):
            yield f"heads.{q}.mix", self.hidden, self.channels + self.embed
            yield f"heads.{q}.narrow", self.embed, self.hidden
            yield f"heads.{q}.out", self.card, self.embed

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LmShape:
        """Builds a shape from JSON values. Raises ModelError for values that are not a shape."""
        try:
            given = dict(values)
            given["groups"] = tuple(given["groups"])
            given["dilations"] = tuple(tuple(row) for row in given["dilations"])
            return cls(**given)
        except (TypeError, KeyError, ValueError) as error:
            raise ModelError(f"a language model's shape is malformed: {error}") from error


@dataclass(frozen=True)
class LmWeights:
    """The weights of a network. For each layer `arrays` holds `.weight` int8 [out, in], `.scale`
    int32 [out] and `.bias` int32 [out]. Codes are embedded by `tables` int8 [n_q, card, embed] with
    `tables.scale` int32 [n_q]."""

    shape: LmShape
    arrays: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        """Raises ModelError for arrays that are missing, of another type or shape, or that could
        overflow."""
        shape = self.shape
        wanted: dict[str, tuple[type, tuple[int, ...]]] = {
            "tables": (np.int8, (shape.n_q, shape.card, shape.embed)),
            "tables.scale": (np.int32, (shape.n_q,)),
        }
        for name, outputs, inputs in shape.layers():
            wanted[f"{name}.weight"] = (np.int8, (outputs, inputs))
            wanted[f"{name}.scale"] = wanted[f"{name}.bias"] = (np.int32, (outputs,))
        if missing := sorted(wanted.keys() ^ self.arrays.keys()):
            raise ModelError(f"a language model of this shape lacks or does not have {', '.join(missing[:3])}")
        for key, (kind, size) in wanted.items():
            array = self.arrays[key]
            if array.dtype != kind or array.shape != size:
                raise ModelError(
                    f"{key} of a language model is {array.dtype} {array.shape}, not {kind.__name__} {size}"
                )
            if key.endswith(".scale") and array.size and array.min() < 0:
                raise ModelError(f"{key} of a language model is negative")
            if key.endswith(".weight") and np.abs(array.astype(np.int64)).sum(axis=1).max() > MOST_ROW:
                raise ModelError(f"{key} of a language model could overflow")

    @property
    def embeddings(self) -> Ints:
        """The embedding of each code, [n_q, card, embed]."""
        return cut(rescaled(self.arrays["tables"].astype(np.int64), self.arrays["tables.scale"][:, None, None]))


def rescaled(sums: Ints, scale: NDArray[np.integer]) -> Ints:
    return (sums * scale.astype(np.int64) + (1 << (SHIFT - 1))) >> SHIFT


def cut(x: Ints) -> Ints:
    return np.clip(x, -MOST, MOST)


@cache
def powers() -> Ints:
    """Returns floor(2^(24 - f / 1024)) for f in 0..1023, computed in whole numbers: the floor of a
    1024th root is ten square roots."""
    table = []
    for f in range(1 << FRACTION):
        root = 1 << ((RANGE << FRACTION) - f)
        for _ in range(FRACTION):
            root = isqrt(root)
        table.append(root)
    return np.array(table, np.int64)


RANGE = 24


def cdf_of(logits: Ints) -> Cdf:
    """Returns CDFs [B, card] for logits [B, card], which are logarithms to the base 2 in fixed
    point."""
    below = np.minimum(logits.max(axis=-1, keepdims=True) - logits, DEEPEST << FRACTION)
    weights = powers()[below & ((1 << FRACTION) - 1)] >> (below >> FRACTION)
    card = logits.shape[-1]
    parts = weights * (TOTAL - LEAST * card) // weights.sum(axis=-1, keepdims=True) + LEAST
    return np.cumsum(parts, axis=-1)


class LmStreams(Protocol):
    """Streams of codes that advance together, one codebook after the other."""

    def reset(self) -> None:
        """Goes back to the start of the streams."""

    def copy(self) -> LmStreams:
        """Returns independent streams that continue from the same state."""

    def cdf(self) -> Cdf:
        """Returns the CDFs [B, card] of the next codebook of this frame. It must be one that the
        model knows."""

    def push(self, codes: NDArray[np.integer]) -> None:
        """Takes the codes [B] of the next codebook."""

    def end_frame(self) -> None:
        """Ends the frame: the next code belongs to codebook 0 of the next frame."""


class IntegerLm:
    """The reference implementation. All state that changes is in its streams."""

    def __init__(self, weights: LmWeights) -> None:
        self.shape, self.embeddings = weights.shape, weights.embeddings
        arrays = weights.arrays
        self._layers = {
            name: (arrays[f"{name}.weight"].T.astype(np.float64), arrays[f"{name}.scale"], arrays[f"{name}.bias"])
            for name, _, _ in weights.shape.layers()
        }

    def streams(self, count: int = 1) -> LmStreams:
        """Returns `count` streams at their beginning."""
        return _Streams(self, count)

    def layer(self, name: str, x: Ints) -> Ints:
        """Maps x [B, in] to [B, out] by one layer."""
        weight, scale, bias = self._layers[name]
        # Whole numbers below 2^53 are exact in float64, and so are these sums (MOST_ROW), in any
        # order; numpy multiplies such matrices many times faster than those of int64.
        y: Ints = rescaled((x.astype(np.float64) @ weight).astype(np.int64), scale) + bias
        return y


class _Streams:
    def __init__(self, lm: IntegerLm, count: int) -> None:
        self._lm, self._count = lm, count
        self.reset()

    def reset(self) -> None:
        shape, count = self._lm.shape, self._count
        self._q, self._frame = 0, [0] * len(shape.groups)
        self._tower: Ints = np.zeros((count, shape.channels), np.int64)
        """Output of the tower of group `_done` for this frame."""
        self._done = -1
        """Group whose tower was computed last."""
        self._known: Ints = np.zeros((count, shape.embed), np.int64)
        self._now = np.zeros((len(shape.groups), count, shape.embed), np.int64)
        self._past = np.zeros_like(self._now)
        self._before = [
            [np.zeros((dilation, count, shape.channels), np.int64) for dilation in tower] for tower in shape.dilations
        ]

    def copy(self) -> LmStreams:
        return deepcopy(self, {id(self._lm): self._lm})

    def cdf(self) -> Cdf:
        if self._q >= self._lm.shape.n_q:
            raise UsageError("this language model knows no further codebook")
        group = self._lm.shape.group(self._q)
        if group != self._done:
            self._climb(group)
        x = np.concatenate([self._tower, cut(self._known)], axis=1)
        x = np.clip(self._lm.layer(f"heads.{self._q}.mix", x), 0, MOST)
        x = cut(self._lm.layer(f"heads.{self._q}.narrow", x))
        return cdf_of(self._lm.layer(f"heads.{self._q}.out", x))

    def _climb(self, group: int) -> None:
        """Computes the tower of a group for this frame."""
        parts = [cut(self._past[group])] + ([cut(self._known), self._tower] if group else [])
        x = cut(self._lm.layer(f"towers.{group}.enter", np.concatenate(parts, axis=1)))
        for index, before in enumerate(self._before[group]):
            place = self._frame[group] % len(before)
            name = f"towers.{group}.blocks.{index}"
            y = np.clip(self._lm.layer(f"{name}.look", np.concatenate([before[place], x], axis=1)), 0, MOST)
            before[place] = x
            x = cut(x + self._lm.layer(f"{name}.add", y))
        self._tower, self._done = x, group
        self._frame[group] += 1

    def push(self, codes: NDArray[np.integer]) -> None:
        group = self._lm.shape.group(self._q)
        if group != self._done:
            self._climb(group)
        found = self._lm.embeddings[self._q, codes]
        self._known = self._known + found
        self._now[group] += found
        self._q += 1

    def end_frame(self) -> None:
        self._past, self._now = self._now, np.zeros_like(self._now)
        self._known = np.zeros_like(self._known)
        self._q, self._done = 0, -1
