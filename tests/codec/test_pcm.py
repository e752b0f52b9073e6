"""Tests how PCM is checked, converted and cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.codec.errors import UsageError
from earshot.codec.pcm import LARGEST_SAMPLE, Framer, as_pcm, from_s16, sanitize, to_s16


def test_sixteen_bits_there_and_back() -> None:
    samples = np.arange(-32768, 32768).astype("<i2")
    pcm = from_s16(samples.tobytes())
    assert (pcm.dtype, pcm[0], pcm.max()) == (np.float32, -1.0, np.float32(32767 / 32768))
    back = np.frombuffer(to_s16(pcm), "<i2").astype(int)
    assert np.abs(back - samples).max() <= 1
    assert np.frombuffer(to_s16(np.array([2.0, -2.0, 1.0, 0.0], np.float32)), "<i2").tolist() == [
        32767,
        -32767,
        32767,
        0,
    ]
    with pytest.raises(UsageError, match="3 bytes"):
        from_s16(b"\0\0\0")


def test_impossible_samples_are_replaced_and_counted() -> None:
    clean = np.array([0.5, -1.0, LARGEST_SAMPLE], np.float32)
    assert sanitize(clean) == (clean, 0)
    dirty = np.array([np.nan, np.inf, -np.inf, 0.25, 1e30, -20.0], np.float32)
    result, touched = sanitize(dirty)
    assert result.tolist() == [0.0, 0.0, 0.0, 0.25, LARGEST_SAMPLE, -LARGEST_SAMPLE]
    assert touched == 5
    assert np.isnan(dirty[0])  # the caller's array is unchanged


def test_only_mono_is_pcm() -> None:
    assert as_pcm([0, 1]).dtype == np.float32
    for wrong in (np.zeros((2, 3)), 1.0):
        with pytest.raises(UsageError, match="one-dimensional"):
            as_pcm(wrong)


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 13))
def test_framer_cuts_any_blocks(sizes: list[int], hop: int) -> None:
    stream = np.arange(sum(sizes), dtype=np.float32)
    framer, at, frames = Framer(hop), 0, []
    for size in sizes:
        frames.append(framer.push(stream[at : at + size]))
        at += size
        assert framer.rest.size < hop
    whole = np.concatenate([np.zeros((0, hop), np.float32), *frames])
    np.testing.assert_array_equal(np.concatenate([whole.reshape(-1), framer.take_rest()]), stream)
    assert framer.rest.size == 0
