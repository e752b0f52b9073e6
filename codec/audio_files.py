"""Finds audio files and reads them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soxr

from earshot.codec.audio_formats import is_audio_name
from earshot.codec.audio_reader import AudioReader
from earshot.codec.errors import UsageError
from earshot.codec.homes import expanded
from earshot.codec.pcm import Pcm


def is_shadow(file: Path) -> bool:
    """Returns whether a file is what macOS keeps of another one (`._talk.wav`), on disks that have
    no place for that: it has the name of a sound and holds none."""
    return file.name.startswith("._")


def audio_files(pattern: str) -> list[Path]:
    """Returns the audio files, sorted: those of a folder and its subfolders, those that match a
    glob pattern, or the one named.

    In folders and patterns a file counts as audio by its suffix; a file that is named itself may
    have any suffix. Raises UsageError if there are none."""
    path = expanded(pattern)
    if path.is_file():
        return [path]
    if path.is_dir():
        found: Iterable[Path] = path.rglob("*")
    else:
        anchor, parts = Path(path.anchor or "."), list(path.relative_to(path.anchor).parts)
        while parts and (anchor / parts[0]).is_dir():  # brackets in the name of a folder are no pattern
            anchor /= parts.pop(0)
        found = anchor.glob("/".join(parts)) if parts else ()
    files = sorted(file for file in found if is_audio_name(file) and not is_shadow(file) and file.is_file())
    if not files:
        raise UsageError(f"there is no audio at {pattern!r}; give a folder, a file or a glob pattern")
    return files


def read_audio(file: Path, sample_rate: int, seconds: float | None = None) -> Pcm:
    """Returns the samples of a file, or of its first `seconds`, mixed to mono at `sample_rate`.
    Raises AudioError for a file that cannot be read, or holds no sound."""
    return read_mixed(file, sample_rate, 1, seconds)[:, 0]


def mean(pcm: Pcm) -> Pcm:
    """Mixes [n, any] to [n, 1]."""
    return pcm if pcm.shape[1] == 1 else np.asarray(pcm.mean(axis=1, keepdims=True), np.float32)


def read_mixed(file: Path, sample_rate: int, channels: int, seconds: float | None = None) -> Pcm:
    """Returns a whole file, or its first `seconds`, as [n, 1 or 2] at `sample_rate`: two channels
    stay two if `channels` is 2, everything else becomes their mean. Raises AudioError."""
    found: list[tuple[int, list[Pcm]]] = []
    with AudioReader(file) as audio:
        for rate, pcm in audio.pieces(seconds):
            mixed = pcm if pcm.shape[1] == channels else mean(pcm)
            if not found or (found[-1][0], found[-1][1][0].shape[1]) != (rate, mixed.shape[1]):
                found.append((rate, []))
            found[-1][1].append(mixed)
    parts = [_resampled(np.concatenate(pieces), rate, sample_rate) for rate, pieces in found]
    widest = max((part.shape[1] for part in parts), default=1)
    return np.concatenate([np.broadcast_to(part, (len(part), widest)) for part in parts])


def _resampled(pcm: Pcm, rate: int, sample_rate: int) -> Pcm:
    return pcm if rate == sample_rate else np.asarray(soxr.resample(pcm, rate, sample_rate), np.float32)
