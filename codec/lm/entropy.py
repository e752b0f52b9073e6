"""Packets of codes with the integer language model. Each packet is whole bytes; all packets of a
stream are decoded in their order.

    encoder, decoder = EntropyEncoder(lm), EntropyDecoder(lm)
    sections = encoder.encode(codes)            # [n_q, k] -> bytes for each group of codebooks
    codes = decoder.decode(sections, n_q, k)

A packet has a section for each group of codebooks (LmShape.groups: the rates of the codec). Each
section ends at a byte, so that a server can leave finer groups out without knowing any model. With
`joint` a packet has one section for all groups, which saves some five bits a group; it is for links
where no group is left out. Both ends must have seen the same packets since the last `reset`: after
a lost packet both start anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from earshot.codec.bitstream import BITS, Codes, pack, unpack
from earshot.codec.errors import DataError, UsageError
from earshot.codec.lm.arithmetic import ArithmeticDecoder, ArithmeticEncoder, Damaged
from earshot.codec.lm.integer_lm import LmShape, LmStreams


class CodesLm(Protocol):
    """The interface of `IntegerLm` and of faster models with the same numbers."""

    @property
    def shape(self) -> LmShape: ...

    def streams(self, count: int = 1) -> LmStreams: ...


@dataclass(frozen=True)
class LiveLm:
    """A language model for live packets, and the digest by which both ends make sure that they have
    the same one."""

    lm: CodesLm
    digest: str


def spans(shape: LmShape, n_q: int) -> list[tuple[int, int]]:
    """Returns the first and last codebook (exclusive) of each section of a packet of `n_q`.
    Codebooks that the model does not know come last, as plain codes."""
    ends = [0, *(end for end in shape.groups if end < n_q), n_q] if n_q <= shape.n_q else [0, *shape.groups, n_q]
    return list(pairwise(ends))


class _Stream:
    """What both ends of a stream have in common."""

    def __init__(self, lm: CodesLm, joint: bool = False) -> None:
        if lm.shape.card != 1 << BITS:
            raise UsageError(f"packets hold codes of {BITS} bits, not of codebooks of {lm.shape.card}")
        self._shape, self._streams, self._joint = lm.shape, lm.streams(), joint

    def reset(self) -> None:
        """Goes back to the start of a stream."""
        self._streams.reset()

    def _modelled(self, n_q: int) -> list[tuple[int, int]]:
        if self._joint:
            return [(0, min(n_q, self._shape.n_q))]
        return [span for span in spans(self._shape, n_q) if span[1] <= self._shape.n_q]


class EntropyEncoder(_Stream):
    def encode(self, codes: Codes) -> list[bytes]:
        """Encodes codes [n_q, k] to the sections of a packet. Raises UsageError for codes out of
        range."""
        n_q, frames = codes.shape
        if codes.size and (codes.min() < 0 or codes.max() >= self._shape.card):
            raise UsageError(f"codes must be in 0..{self._shape.card - 1}")
        coded = self._modelled(n_q)
        coders = [ArithmeticEncoder() for _ in coded]
        for frame in range(frames):
            for (first, end), coder in zip(coded, coders, strict=True):
                for q in range(first, end):
                    coder.push(int(codes[q, frame]), self._streams.cdf()[0])
                    self._streams.push(codes[q, frame : frame + 1])
            self._streams.end_frame()
        rest = [pack(codes[self._shape.n_q :])] if n_q > self._shape.n_q else []
        return [coder.finish_short() for coder in coders] + rest


class EntropyDecoder(_Stream):
    def decode(self, sections: Sequence[bytes], n_q: int, frames: int) -> Codes:
        """Decodes all sections of a packet, or its first ones, to int16 codes [n_q, frames].

        Raises DataError for sections that no encoder makes; the stream then needs a `reset`. Work
        is bounded by `frames`, whatever the sections hold. Most damage is not noticed and gives
        other codes."""
        coded = self._modelled(n_q)
        wanted = len(coded) + (n_q > self._shape.n_q)
        if n_q < 1 or len(sections) != wanted:
            raise DataError(f"{n_q} codebooks are {wanted} sections, not {len(sections)}")
        codes = np.zeros((n_q, frames), np.int16)
        if n_q > self._shape.n_q:
            codes[self._shape.n_q :] = unpack(sections[-1], n_q - self._shape.n_q, frames)
        sources = [iter(section) for section in sections[: len(coded)]]
        coders = [ArithmeticDecoder(source, endless=True) for source in sources]
        try:
            for frame in range(frames):
                for (first, end), coder in zip(coded, coders, strict=True):
                    for q in range(first, end):
                        codes[q, frame] = coder.pull(self._streams.cdf()[0])
                        self._streams.push(codes[q, frame : frame + 1])
                self._streams.end_frame()
        except Damaged as error:
            raise DataError(f"a packet is damaged: {error}") from error
        unread = any(next(source, None) is not None for source in sources)
        if unread or any(section.endswith(b"\0") for section in sections[: len(coded)]):
            raise DataError("a packet is damaged: there are bytes after its last code")
        return codes
