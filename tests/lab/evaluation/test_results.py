"""Means, their intervals, and scores.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from earshot.lab.evaluation.measures import BY_KEY
from earshot.lab.evaluation.results import (
    Evaluation,
    Judged,
    Mean,
    ModelInfo,
    Score,
    SystemInfo,
    versions,
    weighted_mean,
)
from scipy import stats


def evaluation() -> Evaluation:
    """Two clips by one rate of ours, one of Opus, and the original; the first clip has a transcript
    of four words."""
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


def test_the_interval_is_students() -> None:
    values = [0.3, 0.5, 0.45, 0.9, 0.62]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    found = weighted_mean(values)
    assert found.half is not None
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))
    assert found.clips == 5
    assert weighted_mean([0.3]) == Mean(0.3, None, 1)
    assert weighted_mean([0.3, 0.3]) == Mean(0.3, 0.0, 2)


def test_word_errors_are_weighed_by_words() -> None:
    assert weighted_mean([50.0, 0.0], [2, 18]).mean == pytest.approx(5.0)
    equal = weighted_mean([10.0, 20.0, 40.0], [7, 7, 7])
    plain = weighted_mean([10.0, 20.0, 40.0])
    assert (equal.mean, equal.half) == pytest.approx((plain.mean, plain.half))


def test_the_interval_covers_the_truth_nineteen_times_in_twenty() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(2_000):
        words = random.integers(5, 25, 40)
        wrong = random.binomial(words, 0.3)
        found = weighted_mean(100 * wrong / words, words)
        assert found.half is not None
        covered += abs(found.mean - 30) <= found.half
    assert 0.92 < covered / 2_000 < 0.975


def test_summary() -> None:
    found = evaluation()
    mean = found.summary("earshot-6kbps", "stoi")
    assert mean is not None
    assert mean.mean == pytest.approx(0.7)
    assert mean.clips == 2
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


def test_versions_name_what_is_installed() -> None:
    found = versions(["numpy", "no-such-package-as-this"])
    assert found["numpy"] == np.__version__
    assert set(found) == {"python", "numpy"}
