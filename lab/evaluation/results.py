"""What came out: every clip by every system, and means with confidence intervals."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from earshot.lab.evaluation.measures import WER, WORD_CHANGES, Measure, Value
from scipy.special import stdtrit

FORMAT = 1
ORIGINAL = "original"
CONFIDENCE = 0.95
PACKAGES = (
    "earshot", "torch", "numpy", "scipy", "soxr", "soundfile", "pystoi", "pesq", "visqol-python", "pocketsphinx", "av",
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A clip that was judged."""

    name: str
    file: str
    seconds: float
    reference: str | None = None
    """The words that recognised ones are compared with; None where words do not count."""
    reference_from: str | None = None
    """"transcript" or "original" (what was recognised in the original)."""


@dataclass(frozen=True)
class SystemInfo:
    name: str
    family: str
    kbps: float | None
    """None for the original."""


@dataclass(frozen=True)
class ModelInfo:
    family: str
    name: str
    digest: str
    given: str


@dataclass(frozen=True)
class Score:
    """One clip by one system."""

    clip: str
    system: str
    values: dict[str, Value]
    """By measure; one that says nothing of this clip is None or not there."""
    recognised: str | None = None
    words: int = 0
    """In the reference: the weight of this clip in a word error rate."""


@dataclass(frozen=True)
class Mean:
    mean: float
    half: float | None
    """Half the 95 % confidence interval over clips; None for a single clip."""
    clips: int


@dataclass(frozen=True)
class Evaluation:
    sample_rate: int
    models: list[ModelInfo]
    measures: list[Measure]
    systems: list[SystemInfo]
    clips: list[Judged]
    scores: list[Score]
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""

    def summary(self, system: str, measure: str) -> Mean | None:
        """The mean over clips, for word errors that over words; None where no clip has this
        measure."""
        rows = [score for score in self.scores if score.system == system]
        known = [(value, score.words) for score in rows if (value := score.values.get(measure)) is not None]
        if not known:
            return None
        return weighted_mean([value for value, _ in known], [w for _, w in known] if is_of_words(measure) else None)

    def shown(self) -> list[Measure]:
        """The measures that say something of any system but the original."""
        names = [system.name for system in self.systems if system.kbps is not None]
        return [m for m in self.measures if any(self.summary(name, m.key) for name in names)]

    def to_dict(self, command: str = "") -> dict[str, Any]:
        """What scores.json holds: `scores` has a row for each clip and system with its values by
        measure (null where a measure says nothing), `summary` one for each system and measure with
        the mean over clips and `ci95`, half of its interval; `measures`, `systems`, `models` and
        `clips` explain their names; `versions` are of packages."""
        summary = [
            {
                "system": system.name,
                "measure": measure.key,
                "mean": found.mean,
                "ci95": found.half,
                "clips": found.clips,
            }
            for system in self.systems
            for measure in self.measures
            if (found := self.summary(system.name, measure.key))
        ]
        return {
            "format": FORMAT,
            "command": command,
            "versions": versions(),
            "sample_rate": self.sample_rate,
            "models": [vars(model) for model in self.models],
            "measures": {
                m.key: {"label": m.label, "unit": m.unit, "better": m.better, "meaning": m.meaning}
                for m in self.measures
            },
            "systems": [vars(system) for system in self.systems],
            "clips": [vars(clip) for clip in self.clips],
            "notes": self.notes,
            "summary": summary,
            "scores": [vars(score) for score in self.scores],
        }

    def write(self, file: Path, command: str = "") -> None:
        """The same clips, systems and packages: the same bytes."""
        file.write_text(json.dumps(self.to_dict(command), indent=1, allow_nan=False) + "\n", "utf-8")


def is_of_words(measure: str) -> bool:
    return measure in (WER, WORD_CHANGES)


def weighted_mean(values: Sequence[float], weights: Sequence[float] | None = None) -> Mean:
    """With Student's interval; with weights that of a ratio of sums, linearised (Cochran, Sampling
    Techniques, 6.4)."""
    x = np.asarray(values, np.float64)
    w = np.ones(x.size) if weights is None else np.asarray(weights, np.float64)
    mean = float(w @ x / w.sum())
    if x.size < 2:
        return Mean(mean, None, x.size)
    spread = w * (x - mean)
    error = np.sqrt(x.size / (x.size - 1) * float(spread @ spread)) / w.sum()
    return Mean(mean, float(stdtrit(x.size - 1, (1 + CONFIDENCE) / 2) * error), x.size)


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Of Python and of what the measures depend on, as far as it is installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
