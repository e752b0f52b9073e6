"""Measures against their formulas, and against what must hold of them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from earshot.codec.pcm import Pcm
from earshot.lab.evaluation.measures import (
    BY_KEY,
    MEASURES,
    decibels,
    level,
    mel_distance,
    pesq,
    rms,
    si_snr,
    stoi,
    visqol,
    what_is_missing,
)

RATE = 24_000
COMPUTED = [measure for measure in MEASURES if measure.compute]


@pytest.fixture(scope="module")
def clip(speech: Pcm) -> Pcm:
    return speech[: 3 * RATE]


def noisy(clip: Pcm, snr_db: float, seed: int = 0) -> Pcm:
    """Adds noise of a known ratio that is orthogonal to the signal."""
    spoken = clip - clip.mean()
    noise = np.random.default_rng(seed).normal(size=clip.size)
    noise -= noise.mean()
    noise -= spoken * (noise @ spoken) / (spoken @ spoken)
    return np.asarray(spoken + noise * rms(spoken) / rms(noise) * 10 ** (-snr_db / 20), np.float32)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.0, 40.0])
@pytest.mark.parametrize("gain", [1.0, 0.05, -3.0])
def test_si_snr_of_a_known_ratio_at_any_gain_and_offset(clip: Pcm, snr_db: float, gain: float) -> None:
    assert si_snr(clip, gain * noisy(clip, snr_db) + 0.1) == pytest.approx(snr_db, abs=0.02)


def test_si_snr_falls_with_delay(clip: Pcm) -> None:
    values = [si_snr(clip, np.roll(clip, late)) for late in (0, 1, 12)]
    assert values[0] is not None
    assert values[1] is not None
    assert values[2] is not None
    assert values[0] > 99 > values[1] > values[2]


@pytest.mark.parametrize("gain_db", [-12.0, 0.0, 3.0])
def test_level_is_the_gain(clip: Pcm, gain_db: float) -> None:
    assert level(clip, clip * np.float32(10 ** (gain_db / 20))) == pytest.approx(gain_db, abs=1e-4)


def test_level_of_silence_decoded_and_original(clip: Pcm) -> None:
    assert level(clip, np.zeros_like(clip)) == -100
    assert level(np.zeros_like(clip), clip) is None


@pytest.mark.parametrize("gain_db", [-6.0, 2.0])
def test_mel_distance_of_a_gain_is_the_gain(gain_db: float) -> None:
    noise = np.random.default_rng(1).normal(size=RATE).astype(np.float32)
    assert mel_distance(noise, noise * np.float32(10 ** (gain_db / 20)), RATE) == pytest.approx(abs(gain_db), abs=1e-3)


def test_mel_distance_hears_no_further_than_60_db_down() -> None:
    t = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * 1000 * t).astype(np.float32)
    faint = (tone + 1e-5 * np.random.default_rng(0).normal(size=RATE)).astype(np.float32)
    loud = (tone + 1e-2 * np.random.default_rng(0).normal(size=RATE)).astype(np.float32)
    far, near = mel_distance(tone, loud, RATE), mel_distance(tone, faint, RATE)
    assert near == pytest.approx(0, abs=0.05)
    assert far is not None
    assert far > 1
    assert mel_distance(tone, np.zeros_like(tone), RATE) < 60  # type: ignore[operator]


@pytest.mark.parametrize(("key", "best"), [("stoi", 1), ("pesq", 4.644), ("si_snr", 100), ("mel", 0), ("level", 0)])
def test_identical_signals(clip: Pcm, key: str, best: float) -> None:
    compute = BY_KEY[key].compute
    assert compute is not None
    assert compute(clip, clip.copy(), RATE) == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("key", ["stoi", "pesq", "si_snr", "mel"])
def test_more_noise_is_worse(clip: Pcm, key: str) -> None:
    measure = BY_KEY[key]
    assert measure.compute is not None
    values = [measure.compute(clip, noisy(clip, snr_db), RATE) for snr_db in (30, 15, 0)]
    assert values == sorted(values, reverse=measure.better == "higher")  # type: ignore[type-var]
    assert len(set(values)) == 3


def test_values_are_within_the_limits_that_are_given(clip: Pcm) -> None:
    for measure in COMPUTED:
        assert measure.compute is not None
        if measure.key == "visqol":
            continue
        value = measure.compute(clip, noisy(clip, -20), RATE)
        low, high = measure.limits
        assert value is not None
        assert low is None or low <= value
        assert high is None or value <= high


@pytest.mark.parametrize("measure", COMPUTED, ids=lambda measure: measure.key)
def test_silence_has_no_value(measure: object) -> None:
    silence = np.zeros(RATE, np.float32)
    assert measure.compute(silence, silence, RATE) is None  # type: ignore[attr-defined]


def test_clips_too_short_for_speech_have_no_value(clip: Pcm) -> None:
    short = clip[5_000:5_200]
    assert stoi(short, short, RATE) is None
    assert pesq(short, short, RATE) is None
    assert pesq(clip, np.zeros_like(clip), RATE) is None


def test_visqol_prefers_the_better_one(clip: Pcm) -> None:
    if not BY_KEY["visqol"].installed:
        assert "earshot[visqol]" in str(what_is_missing([BY_KEY["visqol"]]))
        return
    short = clip[: 3 * RATE // 2]
    good, bad = visqol(short, noisy(short, 40), RATE), visqol(short, noisy(short, 5), RATE)
    assert good is not None
    assert bad is not None
    assert 1 <= bad < good <= 4.75


def test_decibels_stay_finite() -> None:
    assert (decibels(0), decibels(1), decibels(10), decibels(1e30)) == (-100, 0, 20, 100)


def test_what_is_missing_names_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pesq", "pocketsphinx", "visqol"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    assert not BY_KEY["pesq"].installed
    assert BY_KEY["stoi"].installed
    line = what_is_missing([BY_KEY["pesq"], BY_KEY["stoi"], BY_KEY["wer"]], {"Opus": "evaluate"})
    assert line == (
        "left out, because their packages are not installed: PESQ-WB, WER, Opus; pip install 'earshot[evaluate]'"
    )
    assert "earshot[visqol]" in str(what_is_missing([BY_KEY["visqol"]]))
    assert what_is_missing([BY_KEY["stoi"]]) is None
    assert "Lyra; pip install 'earshot[lyra]'" in str(what_is_missing([], {"Lyra": "lyra"}))
