"""Training audio: random crops from folders, a pure function of seed and step."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from rich.progress import track

from codec.errors import UsageError
from codec.pcm import Pcm

QUIETEST_RMS = 0.003
"""Crops below this are drawn again: silence teaches nothing."""


@dataclass(frozen=True)
class Source:
    """A folder, a file or a glob pattern of audio, and how often it is drawn from relative to the others."""

    pattern: str
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Source:
        """`PATTERN` or `PATTERN=WEIGHT`."""
        pattern, _, weight = text.rpartition("=") if "=" in text else (text, "", "1")
        try:
            return cls(pattern, float(weight))
        except ValueError:
            raise UsageError(f"{text!r}: the weight after '=' must be a number") from None

    def files(self) -> list[Path]:
        path = Path(self.pattern)
        if path.is_dir():
            found: Iterable[Path] = path.rglob("*")
        elif path.is_file():
            found = [path]
        else:
            anchor = Path(path.anchor or ".")
            found = anchor.glob(str(path.relative_to(path.anchor)))
        known = {f".{name.lower()}" for name in soundfile.available_formats()} | {".opus"}
        return sorted(file for file in found if file.suffix.lower() in known)


def read_audio(file: Path, sample_rate: int) -> Pcm:
    """A whole file as mono at `sample_rate`. Raises soundfile.LibsndfileError for what it cannot read."""
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    return mono if rate == sample_rate else np.asarray(soxr.resample(mono, rate, sample_rate), np.float32)


class CropSource:
    """Holds all audio in memory as 16-bit samples and draws normalised random crops."""

    def __init__(
        self,
        sources: Sequence[Source],
        sample_rate: int,
        crop: int,
        exclude: Sequence[str] = (),
        progress: bool = True,
    ) -> None:
        self.crop = crop
        self._audio: list[NDArray[np.int16]] = []
        odds: list[float] = []
        for source in sources:
            kept = [f for f in source.files() if not any(fnmatch.fnmatch(f.name, pattern) for pattern in exclude)]
            listed = track(kept, f"reading {source.pattern}", disable=not progress, transient=True)
            clips = [self._as_int16(read_audio(file, sample_rate)) for file in listed]
            if not clips:
                raise UsageError(f"no audio under {source.pattern!r}; give a folder, a file or a glob pattern")
            total = sum(clip.size for clip in clips)
            self._audio += clips
            odds += [source.weight * clip.size / total for clip in clips]
        self._odds = np.array(odds) / sum(odds)
        self.hours = sum(clip.size for clip in self._audio) / sample_rate / 3600

    def _as_int16(self, pcm: Pcm) -> NDArray[np.int16]:
        padded = np.pad(pcm, (0, max(0, self.crop - pcm.size)))
        return np.rint(np.clip(padded, -1, 1) * 32767).astype(np.int16)

    def batch(self, size: int, seed: int, step: int) -> Pcm:
        """[size, crop], each with its peak at -16..-1 dBFS."""
        random = np.random.default_rng([seed, step])
        crops = np.empty((size, self.crop), np.float32)
        filled = tries = 0
        while filled < size:
            clip = self._audio[random.choice(len(self._audio), p=self._odds)]
            start = random.integers(0, clip.size - self.crop + 1)
            pcm = clip[start : start + self.crop].astype(np.float32) / 32768
            tries += 1
            if np.sqrt(np.mean(pcm**2)) < QUIETEST_RMS:
                if tries > 1000 * size:
                    raise UsageError("the training audio is silent nearly everywhere")
                continue
            crops[filled] = pcm / np.abs(pcm).max() * 10 ** (random.uniform(-16, -1) / 20)
            filled += 1
        return crops
