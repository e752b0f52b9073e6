"""The whole evaluation on short clips: scores, words, files, faults, and worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.codec.audio_files import read_audio
from earshot.codec.errors import AudioError
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from earshot.lab.evaluation import runner
from earshot.lab.evaluation.clips import Clip
from earshot.lab.evaluation.measures import BY_KEY, MEASURES
from earshot.lab.evaluation.opus import Opus
from earshot.lab.evaluation.runner import evaluate
from earshot.lab.evaluation.systems import Streamed, through_stream
from tests.conftest import VOICES

RATE = 24_000
QUICK = [BY_KEY[key] for key in ("si_snr", "level")]
WORDS = [BY_KEY[key] for key in ("wer", "word_changes")]
TEXT = "Good morning, Ben! Can you hear me clearly? I took the early train"


@dataclass(frozen=True)
class Gain:
    """A system whose every measure is known."""

    kbps: float
    factor: float
    family: str = "gain"

    def process(self, pcm: Pcm, sample_rate: int) -> Pcm:
        return pcm * np.float32(self.factor)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Writes the beginnings of both voices, 16-bit: `ada` with its transcript, `ben` without
    one."""
    folder = tmp_path_factory.mktemp("clips")
    for name in ("ada", "ben"):
        pcm = read_audio(VOICES / f"{name}.flac", RATE, 3.4)
        soundfile.write(folder / f"{name}.wav", pcm, RATE, subtype="PCM_16")
    return [
        Clip("ada", folder / "ada.wav", TEXT, english=True),
        Clip("ben", folder / "ben.wav", english=True),
    ]


def test_every_clip_by_every_system(clips: list[Clip]) -> None:
    steps: list[tuple[int, int]] = []
    found = evaluate(
        clips,
        [Gain(1, 1.0), Gain(2, 0.5)],
        QUICK,
        RATE,
        jobs=1,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert [(s.clip, s.system) for s in found.scores] == [
        (clip, system) for clip in ("ada", "ben") for system in ("original", "gain-1kbps", "gain-2kbps")
    ]
    assert found.scores[1].values == {"si_snr": 100.0, "level": 0.0}
    assert found.scores[2].values == pytest.approx({"si_snr": 100.0, "level": -6.02}, abs=0.01)
    assert steps == [(n, 6) for n in range(1, 7)]
    assert [clip.seconds for clip in found.clips] == pytest.approx([3.4, 3.4])
    assert found.notes == []


def test_words_count_against_the_transcript_or_the_original(clips: list[Clip]) -> None:
    found = evaluate(clips, [Gain(1, 1.0), Gain(2, 0.0)], WORDS, RATE, jobs=1)
    ada, ben = found.clips
    assert (ada.reference_from, ben.reference_from) == ("transcript", "original")
    assert ada.reference == "good morning ben can you hear me clearly i took the early train"
    by = {(score.clip, score.system): score for score in found.scores}
    assert by["ada", "original"].words == 13
    assert set(by["ada", "original"].values) == {"wer"}
    assert by["ada", "gain-1kbps"].values == by["ada", "original"].values, "the same sound, the same words"
    assert by["ada", "gain-1kbps"].values["wer"] <= 30  # type: ignore[operator]
    assert by["ada", "gain-2kbps"].values == {"wer": 100.0}, "nothing is left to hear"
    assert by["ben", "original"].values == {}
    assert by["ben", "original"].recognised == ben.reference
    assert by["ben", "gain-1kbps"].values == {"word_changes": 0.0}
    assert by["ben", "gain-2kbps"].values == {"word_changes": 100.0}


def test_clips_that_are_not_english_are_left_out_of_the_words(clips: list[Clip]) -> None:
    ada, ben = clips
    german = Clip("ada", ada.file, "Guten Morgen, Ben, kannst du mich deutlich h\u00f6ren", english=True)
    unknown = Clip("ben", ben.file)
    found = evaluate([german, unknown], [Gain(1, 1.0)], [*QUICK, *WORDS], RATE, jobs=1)
    assert all(score.recognised is None and score.words == 0 for score in found.scores)
    assert [measure.key for measure in found.shown()] == ["si_snr", "level"]
    assert found.notes[-1].startswith("words were counted in 0 of 2 clips")


def test_processes_change_nothing(clips: list[Clip], tiny_model: Model) -> None:
    """Judges by our codec, Opus and every measure that is installed except the slow one."""
    systems = [Streamed(tiny_model, 6.0), Opus(12.0)]
    measures = [measure for measure in MEASURES if measure.key != "visqol"]
    alone = evaluate(clips, systems, measures, RATE, jobs=1)
    together = evaluate(clips, systems, measures, RATE, jobs=2)
    assert alone.to_dict() == together.to_dict()
    assert len(alone.shown()) == 9


def test_decoded_files_lie_beside_their_reference(clips: list[Clip], tiny_model: Model, tmp_path: Path) -> None:
    evaluate(clips, [Streamed(tiny_model, 6.0), Gain(1.5, 3.0)], QUICK, RATE, jobs=1, audio=tmp_path)
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.wav")) == [
        f"{clip}/{name}.wav" for clip in ("ada", "ben") for name in ("earshot-6kbps", "gain-1.5kbps", "reference")
    ]
    original = read_audio(clips[0].file, RATE)
    assert np.array_equal(read_audio(tmp_path / "ada" / "reference.wav", RATE), original)
    heard = read_audio(tmp_path / "ada" / "earshot-6kbps.wav", RATE)
    assert np.abs(heard - np.clip(through_stream(tiny_model, original, 6.0), -1, 1)).max() < 1e-4
    assert np.abs(read_audio(tmp_path / "ada" / "gain-1.5kbps.wav", RATE)).max() <= 1


def test_what_cannot_be_read_is_left_out_and_named(clips: list[Clip], tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"nothing")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    bad = [Clip("bad", tmp_path / "bad.wav"), Clip("empty", tmp_path / "empty.wav")]
    found = evaluate([*bad, *clips], [Gain(1, 1.0)], QUICK, RATE, jobs=1)
    assert [clip.name for clip in found.clips] == ["ada", "ben"]
    assert len(found.scores) == 4
    assert len(found.notes) == 2
    assert "bad.wav" in found.notes[0]
    assert "empty.wav holds no sound" in found.notes[1]
    with pytest.raises(AudioError, match="no clip could be judged"):
        evaluate(bad, [Gain(1, 1.0)], QUICK, RATE, jobs=1)


def test_a_system_that_fails_is_left_out_and_named(clips: list[Clip]) -> None:
    found = evaluate(clips, [Gain(1, 1.0), Gain(2, np.nan), Opus(0.1)], QUICK, RATE, jobs=1)
    assert {score.system for score in found.scores} == {"original", "gain-1kbps"}
    assert len(found.notes) == 4
    assert found.notes[0] == "gain-2kbps left out of ada: what was decoded is not finite, or of another length"


def test_only_the_beginning_of_long_clips(clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MAX_SECONDS", 2)
    found = evaluate(clips, [Gain(1, 1.0)], QUICK, RATE, jobs=1)
    assert [clip.seconds for clip in found.clips] == [2.0, 2.0]
    assert found.notes == ["of 2 clips only the first 2 s were judged"]
