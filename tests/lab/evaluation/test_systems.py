"""Our model as a system, and the alignment of others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.codec.errors import AudioError
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from earshot.lab.evaluation.systems import Streamed, best_shift, shifted, system_name, through_stream
from tests.stereo import tiny_stereo


def test_through_stream_is_what_streaming_sessions_give(tiny_model: Model, speech: Pcm) -> None:
    pcm = speech[: 64 * 320 + 5 * 320 + 77]
    encoder, decoder = tiny_model.encoder(3.0), tiny_model.decoder()
    pieces = [decoder.push(encoder.push(pcm[at : at + 320])) for at in range(0, pcm.size, 320)]
    frame_by_frame = np.concatenate([*pieces, decoder.push(encoder.flush())])[: pcm.size]
    heard = through_stream(tiny_model, pcm, 3.0)
    assert heard.shape == pcm.shape
    assert np.abs(heard - frame_by_frame).max() < 1e-4


@pytest.mark.parametrize("size", [0, 1, 319, 320, 321])
def test_short_clips_keep_their_length(tiny_model: Model, size: int) -> None:
    assert through_stream(tiny_model, np.full(size, 0.1, np.float32), 6.0).shape == (size,)


def test_stereo_models_hear_it_in_both_channels(speech: Pcm) -> None:
    model, pcm = tiny_stereo(), speech[:100_000]
    windows = model.encode_windows(np.stack([pcm, pcm]), 12.0)
    expected = model.decode_windows(windows)[:, : pcm.size].mean(axis=0)
    system = Streamed(model, 12.0)
    np.testing.assert_allclose(system.process(pcm, 48_000), expected, rtol=0, atol=1e-5)
    assert system.process(pcm[:0], 48_000).shape == (0,)
    with pytest.raises(AudioError, match="48000 Hz, not 24000"):
        system.process(pcm, 24_000)


def test_streamed(tiny_model: Model, speech: Pcm) -> None:
    system = Streamed(tiny_model, 1.5)
    assert system_name(system) == "earshot-1.5kbps"
    assert system_name(Streamed(tiny_model, 6.0, "mine")) == "mine-6kbps"
    assert np.array_equal(system.process(speech[:3200], 24_000), through_stream(tiny_model, speech[:3200], 1.5))
    with pytest.raises(AudioError, match="24000 Hz, not 16000"):
        system.process(speech[:3200], 16_000)


@given(st.integers(-90, 90))
def test_best_shift_finds_a_delay(late: int) -> None:
    original = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    assert best_shift(shifted(original, -late, 4000), original, 100) == late


def test_best_shift_looks_no_further_than_asked() -> None:
    original = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    assert abs(best_shift(np.roll(original, 50), original, 20)) <= 20
    assert best_shift(np.zeros(0, np.float32), original, 20) == 0
    assert best_shift(original[:3], original[:3], 20) == 0


def test_shifted_cuts_and_fills() -> None:
    pcm = np.arange(1, 5, dtype=np.float32)
    assert shifted(pcm, 0, 4).tolist() == [1, 2, 3, 4]
    assert shifted(pcm, 1, 4).tolist() == [2, 3, 4, 0]
    assert shifted(pcm, -2, 4).tolist() == [0, 0, 1, 2]
    assert shifted(pcm, 0, 6).tolist() == [1, 2, 3, 4, 0, 0]
    assert shifted(pcm, 9, 3).tolist() == [0, 0, 0]
