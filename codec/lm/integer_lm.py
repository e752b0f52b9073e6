"""A language model of codes in whole numbers, so that every machine computes the same probabilities
to the last bit.

In floating point the order of additions differs between processors, threads and libraries, and one
different bit makes the rest of a file unreadable (encodec issues 85, 94 and 95). Here weights are 8
bits, what flows between layers is 16 bits, sums are exact, and every rounding is a shift: this file
is the definition, in numpy, and codec/engine/native/integer_lm.cpp computes the same numbers
faster. docs/files.md says what the network is.

Fixed point: 1.0 is 2^FRACTION. A layer is ((weights @ x) * multipliers + half >> SHIFT) + biases,
its rows having scales of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from math import isqrt
from typing import Any, Protocol

import numpy as np
from earshot.codec.errors import ModelError, UsageError
from earshot.codec.lm.arithmetic import LEAST, TOTAL, Cdf
from numpy.typing import NDArray

FRACTION, SHIFT = 10, 24
MOST = 32767
"""What flows between layers is in -MOST..MOST; more is cut off."""
MOST_ROW = (1 << 31) // (MOST + 1)
"""What the weights of a row may add up to, without their signs, so that no sum leaves 32 bits."""
DEEPEST = 40
"""Probabilities below 2^-DEEPEST of the largest are 0 before every symbol gets its least part."""
_MOST_COUNTS = {"card": 1 << 14, "embed": 1024, "channels": 2048, "hidden": 2048}
_MOST_GROUPS, _MOST_BLOCKS, _MOST_DILATION = 8, 16, 1024

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LmShape:
    """The numbers of a network."""

    groups: tuple[int, ...] = (2, 4, 8)
    """Codebooks up to and with each group: those of one rate of the codec."""
    dilations: tuple[tuple[int, ...], ...] = ((1, 2, 4, 8, 16, 32, 64, 128), (1, 2, 4, 8, 16), (1, 2, 4, 8, 16))
    """How far each block of each group's tower looks back, in frames."""
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
        """Codebooks that it knows."""
        return self.groups[-1]

    def group(self, q: int) -> int:
        """The group that a codebook belongs to."""
        return next(index for index, end in enumerate(self.groups) if q < end)

    def inputs(self, group: int) -> int:
        """Numbers that go into a tower: codes of the frame before, and beyond the first group what
        is known of this frame and what the tower below makes."""
        return self.embed if not group else 2 * self.embed + self.channels

    def layers(self) -> Iterator[tuple[str, int, int]]:
        """Name, outputs and inputs of each layer."""
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
        """Raises ModelError for what is no shape."""
        try:
            given = dict(values)
            given["groups"] = tuple(given["groups"])
            given["dilations"] = tuple(tuple(row) for row in given["dilations"])
            return cls(**given)
        except (TypeError, KeyError, ValueError) as error:
            raise ModelError(f"a language model's shape is malformed: {error}") from error


@dataclass(frozen=True)
class LmWeights:
    """`arrays` holds, for each layer, `.weight` int8 [out, in], `.scale` int32 [out] and `.bias`
    int32 [out]; and `tables` int8 [n_q, card, embed] with `tables.scale` int32 [n_q], the numbers
    that stand for codes."""

    shape: LmShape
    arrays: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        """Raises ModelError for arrays that are missing, of another kind, or that could
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
        """[n_q, card, embed], what each code stands for."""
        return cut(rescaled(self.arrays["tables"].astype(np.int64), self.arrays["tables.scale"][:, None, None]))


def rescaled(sums: Ints, scale: NDArray[np.integer]) -> Ints:
    return (sums * scale.astype(np.int64) + (1 << (SHIFT - 1))) >> SHIFT


def cut(x: Ints) -> Ints:
    return np.clip(x, -MOST, MOST)


@cache
def powers() -> Ints:
    """floor(2^(24 - f / 1024)) for f in 0..1023, by whole numbers: floor of a 1024th root is ten
    square roots."""
    table = []
    for f in range(1 << FRACTION):
        root = 1 << ((RANGE << FRACTION) - f)
        for _ in range(FRACTION):
            root = isqrt(root)
        table.append(root)
    return np.array(table, np.int64)


RANGE = 24


def cdf_of(logits: Ints) -> Cdf:
    """[B, card] logarithms to the base 2, in fixed point -> [B, card]."""
    below = np.minimum(logits.max(axis=-1, keepdims=True) - logits, DEEPEST << FRACTION)
    weights = powers()[below & ((1 << FRACTION) - 1)] >> (below >> FRACTION)
    card = logits.shape[-1]
    parts = weights * (TOTAL - LEAST * card) // weights.sum(axis=-1, keepdims=True) + LEAST
    return np.cumsum(parts, axis=-1)


class LmStreams(Protocol):
    """Some streams of codes that go on together, one codebook after the other."""

    def reset(self) -> None:
        """As if nothing had been coded yet."""

    def copy(self) -> LmStreams:
        """Streams that go on from the same state, by themselves."""

    def cdf(self) -> Cdf:
        """[B, card] for the next codebook of this frame. Codebooks that the model does not know are
        not asked for."""

    def push(self, codes: NDArray[np.integer]) -> None:
        """[B]: what the next codebook has."""

    def end_frame(self) -> None:
        """The frame has no more codebooks."""


class IntegerLm:
    """The reference. Everything that moves is in the streams."""

    def __init__(self, weights: LmWeights) -> None:
        self.shape, self.embeddings = weights.shape, weights.embeddings
        arrays = weights.arrays
        self._layers = {
            name: (arrays[f"{name}.weight"].T.astype(np.float64), arrays[f"{name}.scale"], arrays[f"{name}.bias"])
            for name, _, _ in weights.shape.layers()
        }

    def streams(self, count: int = 1) -> LmStreams:
        """`count` streams from their beginning."""
        return _Streams(self, count)

    def layer(self, name: str, x: Ints) -> Ints:
        """[B, in] -> [B, out]"""
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
        """What the tower of this codebook's group made of this frame."""
        self._done = -1
        """The group that it is of."""
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
