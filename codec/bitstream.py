"""Codes, and codes as bytes: codebook-major, least significant bit first, so that fewer codebooks
are a shorter prefix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earshot.codec.errors import DataError, UsageError

Codes = NDArray[np.int16]
"""The codes of consecutive frames, [n_q, frames]."""

BITS = 10
"""Bits per code, for codebooks of 1024 entries."""


@dataclass(frozen=True)
class Window:
    """One window of a model that codes in windows: its codes [n_q, frames], and the scale that its
    samples are multiplied by (None if the model leaves the volume alone)."""

    codes: Codes
    scale: float | None = None


def packed_size(n_q: int, frames: int) -> int:
    """Returns how many bytes codes [n_q, frames] take."""
    return (n_q * frames * BITS + 7) // 8


def pack(codes: NDArray[np.integer]) -> bytes:
    """Packs codes [n_q, frames] in 0..1023: all frames of codebook 0, then all of codebook 1, and
    so on. Unused bits of the last byte are zero. Raises UsageError for codes out of range."""
    return np.packbits(_bits(np.asarray(codes)).reshape(-1), bitorder="little").tobytes()


def pack_frames(frames: Sequence[NDArray[np.integer]]) -> list[bytes]:
    """Packs each of many frames [n_q] by itself. Frames with the same number of codes are packed in
    one pass."""
    sizes = {len(codes) for codes in frames}
    if len(sizes) != 1:
        return [pack(codes[:, None]) for codes in frames]
    bits = _bits(np.asarray(frames)).reshape(len(frames), -1)
    return [row.tobytes() for row in np.packbits(bits, 1, "little")]


def _bits(codes: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Returns the bits of each code, the least significant one first, in a new last dimension."""
    if codes.size and (codes.min() < 0 or codes.max() >= 1 << BITS):
        raise UsageError(f"codes must be in 0..{(1 << BITS) - 1}")
    return ((codes[..., None].astype(np.uint16) >> np.arange(BITS, dtype=np.uint16)) & 1).astype(np.uint8)


def unpack(data: bytes | memoryview, n_q: int, frames: int) -> Codes:
    """Unpacks the codes [n_q, frames] that `pack` packed. Raises DataError if `data` has another
    length than that shape takes, or if unused bits are set (so that every packet has only one
    spelling)."""
    if len(data) != packed_size(n_q, frames):
        raise DataError(f"{n_q} x {frames} codes take {packed_size(n_q, frames)} bytes, not {len(data)}")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    used = n_q * frames * BITS
    if bits[used:].any():
        raise DataError("unused bits of packed codes are not zero")
    weights = (1 << np.arange(BITS)).astype(np.int16)
    return (bits[:used].reshape(n_q, frames, BITS) @ weights).astype(np.int16)


def check(data: bytes, n_q: int, frames: int) -> None:
    """Raises DataError where `unpack` would, without unpacking anything."""
    used = n_q * frames * BITS % 8
    if len(data) != packed_size(n_q, frames):
        raise DataError(f"{n_q} x {frames} codes take {packed_size(n_q, frames)} bytes, not {len(data)}")
    if used and data[-1] >> used:
        raise DataError("unused bits of packed codes are not zero")


def cut(data: bytes, frames: int, n_q: int) -> bytes:
    """Returns the first `n_q` codebooks of packed codes: the same bytes as packing only those."""
    size, spare = packed_size(n_q, frames), -(n_q * frames * BITS) % 8
    if not spare or not size:
        return bytes(data[:size])
    return bytes(data[: size - 1]) + bytes([data[size - 1] & (0xFF >> spare)])


def join(parts: Sequence[tuple[bytes, int]], n_q: int) -> bytes:
    """Joins the packed codes of consecutive packets, given as pairs (packed codes, number of
    frames), all with `n_q` codebooks. Returns the same bytes as packing all their frames
    together."""
    rows = [
        np.unpackbits(np.frombuffer(data, np.uint8), count=n_q * frames * BITS, bitorder="little").reshape(n_q, -1)
        for data, frames in parts
    ]
    return np.packbits(np.concatenate(rows, axis=1).reshape(-1), bitorder="little").tobytes()
