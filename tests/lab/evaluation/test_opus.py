"""Opus: the bits it is given, and that what it gives back is where it was."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.codec.errors import AudioError
from earshot.codec.pcm import Pcm
from earshot.lab.evaluation.measures import level, si_snr
from earshot.lab.evaluation.opus import Opus
from earshot.lab.evaluation.systems import best_shift, system_name


@pytest.fixture(scope="module")
def clip(speech: Pcm) -> Pcm:
    return speech[: 2 * 24_000 + 137]


@pytest.mark.parametrize("kbps", [6.0, 12.0, 24.0])
def test_constant_bit_rate(clip: Pcm, kbps: float) -> None:
    header, packets = Opus(kbps).encode(clip, 24_000)
    assert header.startswith(b"OpusHead")
    assert {len(packet) for packet in packets} == {kbps * 1000 / 8 * 0.02}
    assert 101 <= len(packets) <= 103


@pytest.mark.parametrize(("kbps", "least_snr_db"), [(6.0, -6.0), (12.0, 3.0), (24.0, 6.0)])
def test_decoded_speech_is_in_its_place(clip: Pcm, kbps: float, least_snr_db: float) -> None:
    heard = Opus(kbps).process(clip, 24_000)
    assert heard.shape == clip.shape
    assert heard.dtype == np.float32
    assert best_shift(heard, clip, 1200) == 0
    found, change = si_snr(clip, heard), level(clip, heard)
    assert found is not None
    assert change is not None
    assert found > least_snr_db
    assert abs(change) < 4


def test_the_end_is_not_lost_inside_the_codec() -> None:
    pcm = np.zeros(9_600, np.float32)
    pcm[-1_200:] = 0.3 * np.sin(2 * np.pi * 400 * np.arange(1_200) / 24_000)
    heard = Opus(24.0).process(pcm, 24_000)
    assert np.sqrt(np.mean(heard[-600:] ** 2)) > 0.1


@pytest.mark.parametrize("rate", [16_000, 22_050, 48_000])
def test_other_sample_rates(clip: Pcm, rate: int) -> None:
    t = np.arange(rate) / rate
    pcm = (0.3 * np.sin(2 * np.pi * (300 + 200 * t) * t)).astype(np.float32)
    heard = Opus(24.0).process(pcm, rate)
    assert heard.shape == pcm.shape
    found = si_snr(pcm, heard)
    assert found is not None
    assert found > 10


@pytest.mark.parametrize("size", [0, 1, 479, 480, 481])
def test_short_clips_keep_their_length(size: int) -> None:
    assert Opus(12.0).process(np.full(size, 0.1, np.float32), 24_000).shape == (size,)


def test_rates_that_opus_does_not_have_are_said(clip: Pcm) -> None:
    assert system_name(Opus(6.0)) == "opus-6kbps"
    with pytest.raises(AudioError, match=r"Opus at 0\.1 kbps"):
        Opus(0.1).process(clip, 24_000)
