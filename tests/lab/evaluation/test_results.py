"""Means, their intervals, and scores.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy import stats

from earshot.lab.confidence import Mean
from earshot.lab.evaluation.measures import BY_KEY
from earshot.lab.evaluation.results import (
    Evaluation,
    Judged,
    ModelInfo,
    Score,
    SystemInfo,
)


def evaluation() -> Evaluation:
    """Returns two clips by one rate of ours, one of Opus, and the original; the first clip has a
    transcript of four words."""
    measures = [BY_KEY[key] for key in ("stoi", "si_snr", "wer", "word_changes")]
    systems = [
        SystemInfo("original", "original", None),
        SystemInfo("earshot-6kbps", "earshot", 6.0),
        SystemInfo("opus-6kbps", "opus", 6.0),
    ]
    clips = [Judged("a", "x/a.wav", 2.0, "one two three four", "transcript"), Judged("b", "x/b.wav", 3.5)]
    scores = [
        Score("a", "original", {"wer": 25.0}, "one two three", 4),
        Score("a", "earshot-6kbps", {"stoi": 0.8, "si_snr": 5.0, "wer": 50.0}, "one two", 4),
        Score("a", "opus-6kbps", {"stoi": 0.9, "si_snr": None, "wer": 25.0}, "one two three", 4),
        Score("b", "original", {}),
        Score("b", "earshot-6kbps", {"stoi": 0.6, "si_snr": 7.0}),
        Score("b", "opus-6kbps", {"stoi": 0.7, "si_snr": None}),
    ]
    models = [ModelInfo("earshot", "tiny", "0123456789abcdef", "default")]
    return Evaluation(24_000, models, measures, systems, clips, scores, ["something was left out"])


def test_summary() -> None:
    found = evaluation()
    mean = found.summary("earshot-6kbps", "stoi")
    assert mean is not None
    assert mean.mean == pytest.approx(0.7)
    assert mean.count == 2
    assert found.summary("earshot-6kbps", "wer") == Mean(50.0, None, 1)
    assert found.summary("opus-6kbps", "si_snr") is None
    assert found.summary("nobody", "stoi") is None
    assert [measure.key for measure in found.shown()] == ["stoi", "si_snr", "wer"]


def test_scores_json(tmp_path: Path) -> None:
    evaluation().write(tmp_path / "scores.json", "earshot evaluate x")
    text = (tmp_path / "scores.json").read_text()
    found = json.loads(text)
    assert list(found) == [
        "format", "command", "versions", "sample_rate", "models", "measures", "systems", "clips", "notes", "summary",
        "scores",
    ]  # fmt: skip
    assert found["format"] == 1
    assert found["command"] == "earshot evaluate x"
    assert found["models"] == [{"family": "earshot", "name": "tiny", "digest": "0123456789abcdef", "given": "default"}]
    assert found["measures"]["stoi"]["better"] == "higher"
    assert found["systems"][2] == {"name": "opus-6kbps", "family": "opus", "kbps": 6.0}
    assert found["clips"][0]["reference_from"] == "transcript"
    assert found["notes"] == ["something was left out"]
    assert len(found["scores"]) == 6
    assert found["scores"][2] == {
        "clip": "a",
        "system": "opus-6kbps",
        "values": {"stoi": 0.9, "si_snr": None, "wer": 25.0},
        "recognised": "one two three",
        "words": 4,
    }
    mean = next(row for row in found["summary"] if row["system"] == "earshot-6kbps" and row["measure"] == "stoi")
    assert mean["mean"] == pytest.approx(0.7)
    assert mean["ci95"] == pytest.approx(0.1 * stats.t.ppf(0.975, 1))
    assert mean["clips"] == 2
    evaluation().write(tmp_path / "again.json", "earshot evaluate x")
    assert (tmp_path / "again.json").read_text() == text
