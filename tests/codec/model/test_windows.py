"""Whole signals in windows are equal to those of the official package, and windows of other models
are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from earshot.codec.bitstream import Window
from earshot.codec.config import LITE_24KHZ
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from earshot.codec.pcm import Pcm
from tests.stereo import RATES, STRIDE, WINDOW, Stereo, check_equal, official_windows


def test_ten_seconds_in_windows(stereo: Stereo, music: Pcm) -> None:
    for kbps in RATES:
        expected = official_windows(stereo.official, music, kbps)
        windows = stereo.ours.encode_windows(music, kbps)
        assert len(windows) == 11
        check_equal(windows, expected)
        if stereo.n_filters == 4 or kbps == 24.0:
            with torch.no_grad():
                heard = stereo.official.decode(expected)[0]
            np.testing.assert_allclose(stereo.ours.decode_windows(windows), heard, rtol=0, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 320, 47_999, STRIDE, STRIDE + 1, STRIDE + 160, WINDOW - 100, WINDOW, WINDOW + 1,
                                     2 * STRIDE, 2 * STRIDE + 481])  # fmt: skip
def test_the_end_of_a_signal(small: Stereo, music: Pcm, samples: int) -> None:
    expected = official_windows(small.official, music[:, :samples], 6.0)
    windows = small.ours.encode_windows(music[:, :samples], 6.0)
    check_equal(windows, expected)
    with torch.no_grad():
        heard = small.official.decode(expected)[0]
    np.testing.assert_allclose(small.ours.decode_windows(windows), heard, rtol=0, atol=1e-4)
    assert heard.shape[1] >= samples


def test_a_last_window_shorter_than_the_rest_of_the_one_before(small: Stereo, music: Pcm) -> None:
    """The official package cannot decode this: 240 samples past the stride are 1 frame, and the
    window before them ends 480 samples past it."""
    samples = STRIDE + 240
    expected = official_windows(small.official, music[:, :samples], 6.0)
    windows = small.ours.encode_windows(music[:, :samples], 6.0)
    check_equal(windows, expected)
    with pytest.raises(RuntimeError, match="must match the size"), torch.no_grad():
        small.official.decode(expected)
    heard = small.ours.decode_windows(windows)
    assert heard.shape == (2, WINDOW)
    alone = small.ours.decode_windows(windows[:1])
    np.testing.assert_allclose(heard[:, :STRIDE], alone[:, :STRIDE], rtol=0, atol=1e-6)
    np.testing.assert_allclose(heard[:, STRIDE + 320 :], alone[:, STRIDE + 320 :], rtol=0, atol=1e-6)


def test_silence_and_one_ear_against_the_other(small: Stereo, music: Pcm) -> None:
    """The mono mix of both channels is silent, so it shows nothing of their volume."""
    for pcm in (np.zeros((2, 60_000), np.float32), np.stack([music[0, :60_000], -music[0, :60_000]])):
        windows = small.ours.encode_windows(pcm, 24.0)
        check_equal(windows, official_windows(small.official, pcm, 24.0))
        assert [window.scale for window in windows] == [pytest.approx(1e-8)] * 2
        assert np.abs(small.ours.decode_windows(windows)).max() < 1e-5
    assert small.ours.encode_windows(np.zeros((2, 0))) == []
    assert small.ours.decode_windows([]).shape == (2, 0)


def test_impossible_samples(small: Stereo, music: Pcm) -> None:
    dirty, clean = music[:, :50_000].copy(), music[:, :50_000].copy()
    dirty[0, 5], dirty[1, 49_000:49_010], clean[0, 5], clean[1, 49_000:49_010] = np.nan, 1e30, 0, 16
    for ours, theirs in zip(small.ours.encode_windows(dirty), small.ours.encode_windows(clean), strict=True):
        np.testing.assert_array_equal(ours.codes, theirs.codes)
        assert ours.scale == theirs.scale


def test_wrong_signals_and_windows(small: Stereo, music: Pcm) -> None:
    model = small.ours
    for call in (lambda: model.encode(music[0]), lambda: model.decode(np.zeros((2, 3), np.int16))):
        with pytest.raises(UsageError, match="stereo sound in windows; use encode_windows and decode_windows"):
            call()
    for pcm in (music[0], music[:1], music[None], np.zeros((3, 5))):
        with pytest.raises(UsageError, match=r"PCM must be \[2, samples\]"):
            model.encode_windows(pcm)
    with pytest.raises(UsageError, match="no rate"):
        model.encode_windows(music[:, :9], 1.5)
    window = Window(np.zeros((2, 150), np.int16), 0.5)
    assert model.decode_windows([window, window]).shape == (2, STRIDE + WINDOW)
    for windows, message in (
        ([replace(window, codes=np.zeros((2, 148), np.int16)), window], "148 frames does not fit"),
        ([window, replace(window, codes=np.zeros((2, 151), np.int16))], "151 frames does not fit"),
        ([replace(window, codes=np.zeros((2, 0), np.int16))], "0 frames does not fit"),
        ([replace(window, codes=np.full((2, 150), 1024))], r"0\.\.1023"),
        ([replace(window, codes=np.zeros((17, 150), np.int16))], r"n_q in 1\.\.16"),
        ([replace(window, scale=None)], "have a scale"),
        ([replace(window, scale=float("nan"))], "scale of a window must be"),
        ([replace(window, scale=-1.0)], "scale of a window must be"),
        ([replace(window, scale=1e30)], "scale of a window must be"),
    ):
        with pytest.raises(UsageError, match=message):
            model.decode_windows(windows)
    plain = Model(Encodec(replace(LITE_24KHZ, n_filters=4)))
    alone = Window(np.zeros((2, 5), np.int16))
    for windows, message in (([window], "have no scale"), ([alone, alone], "5 frames does not fit")):
        with pytest.raises(UsageError, match=message):
            plain.decode_windows(windows)
