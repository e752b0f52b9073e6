"""Finds audio files and reads them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from earshot.codec.audio_formats import is_audio_name
from earshot.codec.errors import AudioError, UsageError
from earshot.codec.pcm import Pcm

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000
"""Sample rates of files that are read. At a lower one a small file would become hours at the rate
of a model."""
MAX_CHANNELS = 64
MAX_HOURS = 24.0


def check_claims(file: Path, rate: int, channels: int, frames: int) -> None:
    """Raises AudioError for a sample rate, channels or a length beyond what is read. These are what
    a file claims of itself, so that it is refused before anything is resampled or allocated."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(f"{file} has {rate} samples a second; {LOWEST_RATE} to {HIGHEST_RATE} are read")
    if channels > MAX_CHANNELS:
        raise AudioError(f"{file} has {channels} channels; at most {MAX_CHANNELS} are read")
    if frames > MAX_HOURS * 3600 * rate:
        raise AudioError(f"{file} is {frames / rate / 3600:.1f} hours long; at most {MAX_HOURS:g} are read")


def sound_path(file: Path) -> str | bytes:
    """Returns a path as soundfile takes it: as bytes, where names are bytes, because it refuses a
    string that is no UTF-8."""
    return str(file) if os.name == "nt" else os.fsencode(file)


def is_shadow(file: Path) -> bool:
    """Returns whether a file is what macOS keeps of another one (`._talk.wav`), on disks that have
    no place for that: it has the name of a sound and holds none."""
    return file.name.startswith("._")


def audio_files(pattern: str) -> list[Path]:
    """Returns the audio files, sorted: those of a folder and its subfolders, those that match a
    glob pattern, or the one named.

    In folders and patterns a file counts as audio by its suffix; a file that is named itself may
    have any suffix. Raises UsageError if there are none."""
    path = Path(pattern).expanduser()
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
    Raises AudioError for a file that cannot be read."""
    try:
        with soundfile.SoundFile(sound_path(file)) as audio:
            rate = audio.samplerate
            check_claims(file, rate, audio.channels, audio.frames)
            frames = -1 if seconds is None else round(seconds * rate)
            samples = audio.read(frames, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise AudioError(f"{file} cannot be read as audio: {error}") from error
    mono = samples.mean(axis=1)
    return mono if rate == sample_rate else np.asarray(soxr.resample(mono, rate, sample_rate), np.float32)
