"""Packing against arithmetic on one large number, for every shape that a packet may have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.codec.bitstream import BITS, cut, pack, packed_size, unpack
from earshot.codec.errors import DataError, UsageError


def as_one_number(codes: np.ndarray) -> bytes:
    """Packs as docs/protocol.md says, in another way: the codes are the digits, to the base 1024,
    of a little-endian number."""
    number = sum(int(code) << BITS * place for place, code in enumerate(codes.reshape(-1)))
    return number.to_bytes(-(-codes.size * BITS // 8), "little")


def test_every_shape_packs_unpacks_and_cuts() -> None:
    random = np.random.default_rng(0)
    for n_q in range(1, 33):
        for frames in (1, 2, 3, 4, 7, 32):
            codes = random.integers(0, 1024, (n_q, frames)).astype(np.int16)
            data = pack(codes)
            assert data == as_one_number(codes)
            assert len(data) == packed_size(n_q, frames)
            back = unpack(data, n_q, frames)
            np.testing.assert_array_equal(back, codes)
            assert back.dtype == np.int16
            for fewer in range(1, n_q + 1):
                assert cut(data, frames, fewer) == pack(codes[:fewer])


def test_codes_out_of_range_are_refused() -> None:
    for wrong in (-1, 1024):
        with pytest.raises(UsageError, match=r"0\.\.1023"):
            pack(np.array([[0, wrong]]))


def test_wrong_lengths_and_unused_bits_are_refused() -> None:
    data = pack(np.full((3, 1), 1023))
    for wrong in (data[:-1], data + b"\0", b""):
        with pytest.raises(DataError, match="3 x 1 codes take 4 bytes"):
            unpack(wrong, 3, 1)
    for bit in (6, 7):
        with pytest.raises(DataError, match="unused bits"):
            unpack(data[:-1] + bytes([data[-1] | 1 << bit]), 3, 1)


@given(st.integers(1, 32), st.integers(1, 32), st.data())
def test_bytes_that_unpack_have_one_spelling(n_q: int, frames: int, data: st.DataObject) -> None:
    raw = data.draw(st.binary(min_size=packed_size(n_q, frames), max_size=packed_size(n_q, frames)))
    try:
        codes = unpack(raw, n_q, frames)
    except DataError:
        return
    assert pack(codes) == raw
