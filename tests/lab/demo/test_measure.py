"""Delay, likeness and coverage, on sounds whose delay, likeness and coverage are known."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

from earshot.codec.errors import UsageError
from earshot.codec.pcm import Pcm
from earshot.lab import VOICES
from earshot.lab.demo.measure import compare, correlation_latency_ms, coverage, similarity

RATE = 24_000


def voice(name: str, seconds: float = 8) -> Pcm:
    pcm, rate = soundfile.read(VOICES / f"{name}.flac", frames=round(seconds * RATE), dtype="float32")
    assert rate == RATE
    return pcm


@pytest.fixture(scope="module")
def ada() -> Pcm:
    return voice("ada")


@pytest.fixture(scope="module")
def ben() -> Pcm:
    return voice("ben")


def delayed(pcm: Pcm, samples: float, tail: int = 4800) -> Pcm:
    """Delays a signal by any fraction of a sample, through the spectrum."""
    size = 1 << (pcm.size + int(samples) + tail).bit_length()
    shift = np.exp(-2j * np.pi * np.fft.rfftfreq(size) * samples)
    return np.fft.irfft(np.fft.rfft(pcm, size) * shift, size)[: pcm.size + int(samples) + tail].astype(np.float32)


def noise(size: int, level: float, seed: int = 1) -> Pcm:
    return (np.random.default_rng(seed).standard_normal(size) * level).astype(np.float32)


def vocoded(pcm: Pcm) -> Pcm:
    """Keeps the spectrum's magnitude over time and none of its phase: what a poor neural codec does
    to a voice."""
    hop, size = 120, 480
    window = np.sqrt(np.hanning(size + 1)[:-1])
    out = np.zeros(pcm.size + size)
    random = np.random.default_rng(2)
    for at in range(0, pcm.size - size, hop):
        spectrum = np.abs(np.fft.rfft(pcm[at : at + size] * window))
        phase = np.exp(2j * np.pi * random.random(spectrum.size))
        out[at : at + size] += np.fft.irfft(spectrum * phase, size) * window
    return (out[: pcm.size] / 2).astype(np.float32)


@pytest.mark.parametrize("delay_ms", [0.0, 3.21, 47.3, 260.04, 1999.0])
def test_finds_a_delay_to_a_fraction_of_a_sample(ada: Pcm, delay_ms: float) -> None:
    latency, spread = correlation_latency_ms(ada, delayed(ada, delay_ms * RATE / 1000), RATE, 0, 0)
    assert latency == pytest.approx(delay_ms, abs=0.02)
    assert spread == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(("spoken_us", "heard_us"), [(0, 812_345), (900_017, 0), (5_000_000_000, 5_000_100_001)])
def test_start_times_count(ada: Pcm, spoken_us: int, heard_us: int) -> None:
    """The sound is heard 70 ms after it was spoken, whenever the recordings began."""
    at = 70_000 + spoken_us - heard_us  # of spoken[0] in the heard recording, in microseconds
    heard = delayed(ada, at * RATE / 1e6) if at > 0 else delayed(ada, 0)[round(-at * RATE / 1e6) :]
    latency, _ = correlation_latency_ms(ada, heard, RATE, spoken_us, heard_us)
    assert latency == pytest.approx(70, abs=0.05)


def test_heard_before_spoken_is_not_hidden(ada: Pcm) -> None:
    latency, _ = correlation_latency_ms(ada, ada, RATE, 20_000, 0)
    assert latency == pytest.approx(-20, abs=0.05)


@pytest.mark.parametrize("level", [0.01, 0.1])
def test_noise_over_speech_moves_nothing(ada: Pcm, level: float) -> None:
    heard = delayed(ada, 1200)
    found = compare(ada, heard + noise(heard.size, level))
    assert found.latency_ms == pytest.approx(50, abs=0.05)
    assert found.coverage == 1


def test_without_the_waveform_the_spectra_say_the_delay(ben: Pcm) -> None:
    found = compare(ben, delayed(vocoded(ben), 2400))
    assert max(piece.correlation for piece in found.pieces) < 0.5
    assert found.latency_ms == pytest.approx(100, abs=2.5)
    assert found.coverage == 1
    assert found.similarity > 0.7


def test_a_filter_and_a_gain_change_neither_delay_nor_likeness(ada: Pcm) -> None:
    heard = lfilter([0.3, 0.2], [1, -0.5], delayed(ada, 960)).astype(np.float32) * np.float32(0.4)
    found = compare(ada, heard)
    assert found.latency_ms == pytest.approx(40, abs=0.3)
    assert found.similarity > 0.97
    assert found.coverage == 1


def test_a_delay_that_changes_is_followed(ada: Pcm) -> None:
    """The delay is 30 ms, from 2.5 s on 45 ms, and 400 ms after a stall at 5 s."""
    heard = np.zeros(ada.size + RATE, np.float32)
    cuts = [0, 60_000, 120_000, ada.size]
    for begin, end, delay_ms in zip(cuts, cuts[1:], (30, 45, 400), strict=False):
        heard[begin + delay_ms * 24 : end + delay_ms * 24] = ada[begin:end]
    found = compare(ada, heard)
    by_time = {piece.start_s: piece.delay_ms for piece in found.pieces if piece.heard}
    assert by_time[0.5] == pytest.approx(30, abs=0.1)
    assert by_time[3.5] == pytest.approx(45, abs=0.1)
    assert by_time[6.0] == pytest.approx(400, abs=0.1)
    assert found.latency_ms == pytest.approx(45, abs=0.1)
    assert found.spread_ms is not None
    assert found.spread_ms > 300


def test_the_same_sound_is_alike(ada: Pcm) -> None:
    assert similarity(ada, delayed(ada, 3333)) > 0.98
    assert coverage(ada, delayed(ada, 3333)) == 1


def test_noise_is_not_alike(ada: Pcm) -> None:
    assert similarity(ada, noise(ada.size, 0.1)) < 0.15
    assert coverage(ada, noise(ada.size, 0.1)) == 0


@pytest.mark.parametrize(("spoken", "heard"), [("ada", "ben"), ("ben", "ada")])
def test_another_voice_is_not_alike(spoken: str, heard: str) -> None:
    found = compare(voice(spoken, 20), voice(heard, 20))
    assert found.similarity < 0.3
    assert found.coverage < 0.3
    assert found.latency_ms is None


def test_likeness_falls_with_noise(ada: Pcm) -> None:
    levels = [similarity(ada, ada + noise(ada.size, level)) for level in (0.001, 0.01, 0.1, 1)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] > 0.9
    assert levels[-1] < 0.5


def test_what_is_missing_lowers_coverage(ada: Pcm) -> None:
    heard = delayed(ada, 1200)
    heard[2 * RATE : 4 * RATE] = 0
    found = compare(ada, heard)
    missing = [piece.start_s for piece in found.pieces if not piece.heard]
    assert missing
    assert all(1 < start < 4 for start in missing)
    assert 0.5 < found.coverage < 0.9
    assert found.latency_ms == pytest.approx(50, abs=0.1)


def test_a_voice_that_is_far_too_quiet_was_not_heard(ada: Pcm) -> None:
    assert coverage(ada, ada * np.float32(0.5)) == 1
    assert coverage(ada, ada * np.float32(0.05)) == 0


def test_pauses_need_not_be_heard(ada: Pcm) -> None:
    spoken = np.concatenate([ada[: 2 * RATE], np.zeros(4 * RATE, np.float32), ada[2 * RATE :]])
    found = compare(spoken, spoken + noise(spoken.size, 1e-4))
    assert found.coverage == 1
    assert not any(2 < piece.start_s < 4.5 for piece in found.pieces)


@pytest.mark.parametrize("heard", [np.zeros(0, np.float32), np.zeros(96_000, np.float32)])
def test_silence_is_nothing_heard(ada: Pcm, heard: Pcm) -> None:
    found = compare(ada, heard)
    assert (found.latency_ms, found.spread_ms, found.similarity, found.coverage) == (None, None, 0, 0)
    assert found.pieces


def test_nothing_spoken_is_nothing_heard(ada: Pcm) -> None:
    for spoken in (np.zeros(0, np.float32), np.zeros(RATE, np.float32)):
        found = compare(spoken, ada)
        assert found == type(found)(None, None, 0.0, 0.0, ())


def test_less_than_a_second_is_measured_too(ada: Pcm) -> None:
    spoken = ada[4800:16_800]
    assert compare(spoken, delayed(spoken, 2400)).latency_ms == pytest.approx(100, abs=0.1)


def test_not_a_number_is_silence(ada: Pcm) -> None:
    heard = delayed(ada, 1200)
    heard[1000:1100] = np.nan
    heard[5000] = np.inf
    assert compare(ada, heard).latency_ms == pytest.approx(50, abs=0.1)


def test_stereo_is_refused(ada: Pcm) -> None:
    with pytest.raises(UsageError, match="one-dimensional"):
        compare(np.stack([ada, ada]), ada)
