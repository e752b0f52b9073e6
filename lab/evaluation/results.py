"""The results of an evaluation: every clip by every system, and means with confidence intervals."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from earshot.lab.confidence import Mean, weighted_mean
from earshot.lab.evaluation.bands import BAND_KEYS
from earshot.lab.evaluation.measures import WER, WORD_CHANGES, Measure, Value
from earshot.lab.versions import versions

FORMAT = 1
ORIGINAL = "original"
PACKAGES = (
    "earshot", "torch", "numpy", "scipy", "soxr", "soundfile", "pystoi", "pesq", "visqol-python", "pocketsphinx", "av",
    "distillmos", "speechmos", "onnxruntime", "ai-edge-litert",
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
    """Values by measure; a measure without a value for this clip is None or not there."""
    recognised: str | None = None
    words: int = 0
    """Words in the reference: the weight of this clip in a word error rate."""


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
        """Returns the mean over clips, for word errors over words; None where no clip has this
        measure."""
        rows = [score for score in self.scores if score.system == system]
        known = [(value, score.words) for score in rows if (value := score.values.get(measure)) is not None]
        if not known:
            return None
        return weighted_mean([value for value, _ in known], [w for _, w in known] if is_of_words(measure) else None)

    def shown(self) -> list[Measure]:
        """Returns the measures of the whole band that have a value for any system but the
        original."""
        names = [system.name for system in self.systems if system.kbps is not None]
        shown = [measure for measure in self.measures if measure.key not in BAND_KEYS]
        return [measure for measure in shown if any(self.summary(name, measure.key) for name in names)]

    def to_dict(self, command: str = "") -> dict[str, Any]:
        """Returns what scores.json holds.

        `scores` has a row for each clip and system with its values by measure (null where a measure
        has none). `summary` has a row for each system and measure with the mean over clips and
        `ci95`, half of its interval. `measures`, `systems`, `models` and `clips` explain their
        names; `versions` are of packages."""
        summary = [
            {
                "system": system.name,
                "measure": measure.key,
                "mean": found.mean,
                "ci95": found.half_width,
                "clips": found.count,
            }
            for system in self.systems
            for measure in self.measures
            if (found := self.summary(system.name, measure.key))
        ]
        return {
            "format": FORMAT,
            "command": command,
            "versions": versions(PACKAGES),
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
        """Writes scores.json; the same clips, systems and packages give the same bytes."""
        file.write_text(json.dumps(self.to_dict(command), indent=1, allow_nan=False) + "\n", "utf-8")


def is_of_words(measure: str) -> bool:
    return measure in (WER, WORD_CHANGES)
