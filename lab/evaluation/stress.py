"""Tests how a model bears what is no clean speech: all samples stay finite, no level runs away, and
silence stays silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from earshot.codec.audio_files import read_audio
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from earshot.lab.evaluation import signals
from earshot.lab.evaluation.measures import decibels, rms
from earshot.lab.evaluation.systems import through_stream

SECONDS = 4.0
MUSIC_SECONDS = 20.0
CLIPPING_DB = 20.0
LOUD_DBFS, QUIET_DBFS = -40.0, -50.0
MOST_CHANGE_DB = 3.0
"""The limit for inputs above LOUD_DBFS. An input below QUIET_DBFS must stay below it, and one
between the two must not become loud."""


@dataclass(frozen=True)
class StressResult:
    """One sound at one rate, and its levels before and after."""

    name: str
    kbps: float
    input_dbfs: float
    """RMS; 0 dBFS is an RMS of 1."""
    output_dbfs: float
    finite: bool

    @property
    def fault(self) -> str:
        """Says what is wrong; empty if nothing is."""
        if not self.finite:
            return "not finite"
        if self.input_dbfs < QUIET_DBFS:
            return "not silent" if self.output_dbfs >= QUIET_DBFS else ""
        change = self.output_dbfs - self.input_dbfs
        if self.input_dbfs > LOUD_DBFS:
            return "" if abs(change) <= MOST_CHANGE_DB else "too loud" if change > 0 else "too quiet"
        return "too loud" if self.output_dbfs > LOUD_DBFS + MOST_CHANGE_DB else ""


def stress(
    model: Model, kbps: float, music: Sequence[Path] = (), progress: Callable[[int, int], None] | None = None
) -> list[StressResult]:
    """Returns a row for each sound.

    Of each file of `music` it takes the first 20 s, as they are and clipped. Raises AudioError for
    files that cannot be read. `progress`: (sounds done, all)."""
    rows = []
    tried = list(sounds(model.sample_rate, music))
    for name, pcm in tried:
        heard = through_stream(model, pcm, kbps)
        finite = bool(np.isfinite(heard).all())
        rows.append(StressResult(name, kbps, decibels(rms(pcm)), decibels(rms(heard)) if finite else np.inf, finite))
        if progress:
            progress(len(rows), len(tried))
    return rows


def sounds(sample_rate: int, music: Sequence[Path] = ()) -> Iterator[tuple[str, Pcm]]:
    yield "silence", signals.silence(sample_rate, SECONDS)
    for dbfs in (-6.0, -20.0, -39.0, -45.0, -55.0, -70.0):
        yield f"white noise, {dbfs:g} dBFS", signals.white_noise(sample_rate, SECONDS, dbfs)
    tones = signals.chords(sample_rate, SECONDS, -20)
    beats = signals.drums(sample_rate, SECONDS, -20)
    vowels = signals.voice(sample_rate, SECONDS, -20)
    lower = signals.voice(sample_rate, SECONDS, -20, hertz=95)
    noise = signals.white_noise(sample_rate, SECONDS, -30)
    pause = signals.silence(sample_rate, SECONDS / 2)
    yield "chords", tones
    yield "drums", beats
    yield "chords and drums", tones + beats
    yield "vowels", vowels
    yield "vowels, very quiet", vowels * np.float32(0.03)
    yield "two voices", vowels + lower
    yield "vowels in noise", vowels + noise
    yield "vowels, clipped", signals.clipped(vowels, CLIPPING_DB)
    yield "chords and drums, clipped", signals.clipped(tones + beats, CLIPPING_DB)
    yield (
        "full-scale square wave",
        np.sign(np.sin(2 * np.pi * 200.5 * np.arange(tones.size) / sample_rate)).astype("f4"),
    )
    yield "vowels between silences", np.concatenate([pause, vowels, pause])
    for file in music:
        sound = read_audio(file, sample_rate, MUSIC_SECONDS)
        yield file.stem, sound
        yield f"{file.stem}, clipped", signals.clipped(sound, CLIPPING_DB)
