"""The robustness check, on models that pass and models that do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.codec.errors import AudioError
from earshot.codec.model.model import Model
from earshot.lab.evaluation import signals, stress
from earshot.lab.evaluation.measures import decibels, rms
from earshot.lab.evaluation.stress import StressResult, sounds


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        (-20, -20, ""), (-20, -22.9, ""), (-20, -17.1, ""), (-20, -23.1, "too quiet"), (-20, -16.9, "too loud"),
        (-39.9, -43, "too quiet"), (-45, -60, ""), (-45, -37.5, ""), (-45, -36, "too loud"),
        (-51, -50.5, ""), (-51, -49.9, "not silent"), (-100, -100, ""), (-100, -30, "not silent"),
    ],
)  # fmt: skip
def test_verdicts(before: float, after: float, fault: str) -> None:
    assert StressResult("x", 6.0, before, after, finite=True).fault == fault
    assert StressResult("x", 6.0, before, after, finite=False).fault == "not finite"


def test_a_model_that_changes_nothing_passes(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stress, "through_stream", lambda model, pcm, kbps: pcm)
    steps: list[tuple[int, int]] = []
    rows = stress.stress(tiny_model, 6.0, progress=lambda done, total: steps.append((done, total)))
    assert [row.fault for row in rows] == [""] * len(rows)
    assert len({row.name for row in rows}) == len(rows) >= 15
    assert steps == [(n + 1, len(rows)) for n in range(len(rows))]


@pytest.mark.parametrize(("gain", "fault"), [(2.0, "too loud"), (0.5, "too quiet"), (np.nan, "not finite")])
def test_a_model_that_fails_is_found(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch, gain: float, fault: str
) -> None:
    monkeypatch.setattr(stress, "through_stream", lambda model, pcm, kbps: np.float32(gain) * pcm)
    faults = {row.name: row.fault for row in stress.stress(tiny_model, 6.0)}
    assert faults["white noise, -20 dBFS"] == faults["chords and drums, clipped"] == fault


def test_babble_in_silence_is_found(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    babble = signals.white_noise(24_000, 2 * stress.SECONDS, -45)
    monkeypatch.setattr(stress, "through_stream", lambda model, pcm, kbps: pcm + babble[: pcm.size])
    faults = {row.name: row.fault for row in stress.stress(tiny_model, 6.0)}
    assert faults["silence"] == faults["white noise, -55 dBFS"] == "not silent"
    assert faults["chords"] == ""


def test_it_runs_through_the_model(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stress, "SECONDS", 0.5)
    rows = stress.stress(tiny_model, 1.5)
    assert {row.kbps for row in rows} == {1.5}
    assert all(row.finite for row in rows)
    assert any(row.fault for row in rows), "random weights do not keep a level"


def test_music_files_are_tried_as_they_are_and_clipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", 0.2 * np.sin(np.arange(12_000) / 10), 12_000, subtype="FLOAT")
    found = dict(sounds(24_000, [tmp_path / "song.wav"]))
    assert found["song"].shape == found["song, clipped"].shape == (24_000,)
    assert np.abs(found["song, clipped"]).max() == 1
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 12_000)
    with pytest.raises(AudioError, match="holds no sound"):
        list(sounds(24_000, [tmp_path / "empty.wav"]))


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_signals_are_of_their_level_and_always_the_same(rate: int) -> None:
    for make in (signals.white_noise, signals.chords, signals.drums, signals.voice):
        pcm = make(rate, 2.0, -23.0)
        assert pcm.dtype == np.float32
        assert pcm.shape == (2 * rate,)
        assert decibels(rms(pcm)) == pytest.approx(-23, abs=0.01)
        assert np.array_equal(pcm, make(rate, 2.0, -23.0))
    assert not signals.silence(rate, 0.1).any()


def test_the_voice_has_its_pitch_and_its_pauses() -> None:
    pcm = signals.voice(24_000, 2.0, -20.0)
    spectrum = np.abs(np.fft.rfft(pcm[:4_800] * np.hanning(4_800), 1 << 16)) ** 2
    period = np.fft.irfft(spectrum)[150:300].argmax() + 150
    assert 24_000 / period == pytest.approx(124, abs=8)
    quarter = pcm[6_000:12_000]
    assert rms(quarter[5_000:]) < 0.02 * rms(quarter[:4_000])


def test_clipping_flattens() -> None:
    tone = signals.at_level(np.sin(np.arange(24_000) / 20), -20)
    clipped = signals.clipped(tone, 20)
    assert np.abs(clipped).max() == 1
    assert np.mean(np.abs(clipped) == 1) > 0.3
