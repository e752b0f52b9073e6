"""The results of a benchmark: a row for each engine, direction, batch and pace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from earshot.lab.benchmark.floor import Direction

FORMAT = 1


@dataclass(frozen=True)
class Key:
    """What a row is about."""

    engine: str
    precision: str
    kernels: str | None
    """The set of kernels of the native engine."""
    direction: Direction
    batch: int | None
    """Streams in a step; None for packages that take whole signals, one at a time."""
    paced: bool
    """Whether frames come every 13.3 ms to cold caches, as in a call; otherwise one follows the
    other."""

    @property
    def label(self) -> str:
        """Names the engine, its kernels and its precision."""
        return " ".join(filter(None, [self.engine, self.kernels, self.precision]))


@dataclass(frozen=True)
class Row:
    key: Key
    ms_per_audio_s: float
    """Median over rounds: milliseconds of processor for a second of sound of one stream."""
    floor_ms_per_audio_s: float | None
    """The least time on this core; None for what is no EnCodec or does not run on the processor."""
    codes_equal: float | None
    """Fraction of codes that are those of the torch reference; None for decoders and peers."""
    ratio_to_encodec: float | None
    """How many times as fast as the `encodec` package offline in the same rounds; None without
    it."""
    rounds: int = 1

    @property
    def streams_per_core(self) -> float:
        return 1000 / self.ms_per_audio_s

    @property
    def times_floor(self) -> float | None:
        return self.floor_ms_per_audio_s and self.ms_per_audio_s / self.floor_ms_per_audio_s


@dataclass(frozen=True)
class Results:
    model: str
    n_q: int
    rows: list[Row]
    machine: Mapping[str, Any]
    """Processor, versions, and what one core did at best."""
    missing: list[str] = field(default_factory=list)
    """Packages that were not measured, and how to install them."""

    def to_json(self, command: str = "") -> str:
        """Returns the rows as docs/benchmark.md describes them, and what they have in common."""
        rows = [
            {
                **asdict(row.key),
                "ms_per_audio_s": row.ms_per_audio_s,
                "streams_per_core": row.streams_per_core,
                "floor_ms_per_audio_s": row.floor_ms_per_audio_s,
                "times_floor": row.times_floor,
                "codes_equal": row.codes_equal,
                "ratio_to_encodec": row.ratio_to_encodec,
                "rounds": row.rounds,
            }
            for row in self.rows
        ]
        about = {"format": FORMAT, "command": command, "model": self.model, "n_q": self.n_q}
        told = {**about, "machine": dict(self.machine), "missing": self.missing, "rows": rows}
        return json.dumps(told, indent=1, allow_nan=False) + "\n"
