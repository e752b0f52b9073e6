"""What a call over a network is like, from what was spoken and what was heard."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import soxr

from earshot.codec.pcm import Pcm
from earshot.lab.demo.measure import Piece, compare, placed
from earshot.lab.evaluation.listeners import SAMPLE_RATE, predicted_by_plcmos
from earshot.lab.evaluation.measures import pesq, stoi

PART_S = 5.0
"""Quality is judged in parts of this length, each shifted by its own delay."""


@dataclass(frozen=True)
class Figures:
    """One call. None is what could not be measured."""

    system: str
    profile: str
    seconds: float
    delay_p50_ms: float | None
    """From the sound, over pieces of a second. So are the next two."""
    delay_p95_ms: float | None
    delay_p99_ms: float | None
    underruns_a_minute: float
    concealed: float
    """Share of the time with nothing to play although somebody spoke."""
    up_kbps: float
    """All bytes of the speaker's line, headers of IP included, acknowledgements and control too."""
    down_kbps: float
    """The same of the listener's line."""
    stoi: float | None
    pesq: float | None
    plcmos: float | None
    frames_missing: int | None = None
    late_ms: float = 0.0
    """How late the process was that carries the packets, at most."""
    stages_ms: dict[str, float] = field(default_factory=dict)
    """Median of each stage of the delay, by the traces in the packets; empty for other systems."""

    def to_json(self) -> dict[str, Any]:
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


def _plcmos(pcm: Pcm, sample_rate: int) -> float | None:
    if importlib.util.find_spec("speechmos") is None or not pcm.any():
        return None
    return predicted_by_plcmos(soxr.resample(pcm, sample_rate, SAMPLE_RATE))


def delays_ms(pieces: tuple[Piece, ...]) -> list[float]:
    """Returns the delays of the pieces that were heard."""
    return [piece.delay_ms for piece in pieces if piece.heard]


def measured(
    spoken: Pcm, heard: Pcm, sample_rate: int, spoken_start_us: int, heard_start_us: int
) -> dict[str, float | None]:
    """Returns delays and quality."""
    found = compare(spoken, heard, sample_rate, spoken_start_us, heard_start_us)
    delays = delays_ms(found.pieces)
    names = ("delay_p50_ms", "delay_p95_ms", "delay_p99_ms")
    points = np.percentile(delays, (50, 95, 99)) if delays else (None, None, None)
    result: dict[str, float | None] = {
        name: None if value is None else float(value) for name, value in zip(names, points, strict=True)
    }
    scores: dict[str, list[float]] = {"stoi": [], "pesq": [], "plcmos": []}
    size = round(PART_S * sample_rate)
    for start in range(0, spoken.size - size + 1, size):
        here = tuple(piece for piece in found.pieces if start <= piece.start_s * sample_rate < start + size)
        inside = delays_ms(here)
        delay_ms = float(np.median(inside)) if inside else (found.latency_ms or 0.0)
        shift = round((heard_start_us - spoken_start_us - delay_ms * 1000) * sample_rate / 1e6) - start
        said, got = spoken[start : start + size], placed(heard, shift, size)
        values = stoi(said, got, sample_rate), pesq(said, got, sample_rate), _plcmos(got, sample_rate)
        for name, value in zip(scores, values, strict=True):
            if value is not None:
                scores[name].append(value)
    return result | {name: float(np.mean(values)) if values else None for name, values in scores.items()}
