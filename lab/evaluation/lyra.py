"""Lyra v2 as a peer. Neither its models nor what runs them is part of Earshot: both lie in a folder
that the user names.

The folder holds `lyra_peer.py` with a class `Lyra(folder)`, whose `run(pcm, kbps)` takes a sound
[n] at 24 kHz and gives what is heard of it, [n], aligned; and the models that it loads."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from earshot.codec.errors import AudioError, UsageError
from earshot.codec.pcm import Pcm
from earshot.lab.evaluation.systems import shifted

PACKAGE = "ai_edge_litert"
RUNNER = "lyra_peer.py"
RATES_KBPS = (3.2, 6.0, 9.2)
SAMPLE_RATE = 24_000


def installed() -> bool:
    return importlib.util.find_spec(PACKAGE) is not None


def check(folder: Path) -> None:
    """Raises UsageError for a folder without a runner."""
    if not (folder / RUNNER).is_file():
        raise UsageError(f"--lyra: {folder} has no {RUNNER} (docs/training.md says what the folder holds)")


@dataclass(frozen=True)
class Lyra:
    folder: Path
    kbps: float
    family: str = "lyra"

    def process(self, pcm: Pcm, sample_rate: int) -> Pcm:
        if not pcm.size:
            return pcm
        fine = pcm if sample_rate == SAMPLE_RATE else soxr.resample(pcm, sample_rate, SAMPLE_RATE)
        try:
            heard = np.asarray(_runner(self.folder).run(fine, self.kbps), np.float32)
        except Exception as error:  # the code and the models are somebody else's
            raise AudioError(f"Lyra at {self.kbps:g} kbps: {error}") from error
        if sample_rate != SAMPLE_RATE:
            heard = soxr.resample(heard, SAMPLE_RATE, sample_rate)
        return shifted(heard, 0, pcm.size)


@cache
def _runner(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("lyra_peer", folder / RUNNER)
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder / RUNNER} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Lyra(str(folder))
