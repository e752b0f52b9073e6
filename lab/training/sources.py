"""Where training audio comes from: folders, files and patterns, their kind and weight, and reading
one file."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from earshot.codec.audio_files import audio_files, read_mixed
from earshot.codec.errors import AudioError, UsageError

Kind = Literal["speech", "music", "noise", "other"]
"""`noise` is only ever added to other sounds; `other` is general sound, mixed like speech."""

KINDS: tuple[Kind, ...] = get_args(Kind)

UNREADABLE = (
    soundfile.LibsndfileError,
    OSError,
    EOFError,
    MemoryError,
    ValueError,
    TypeError,
    RuntimeError,
    AudioError,
)
"""What libsndfile's binding and the resampler raise for files that are damaged or are no audio."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Source:
    """A folder, a file or a glob pattern of audio, and how often it is drawn from relative to
    others of its kind."""

    pattern: str
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    kind: Kind = "speech"

    @classmethod
    def parse(cls, text: str) -> Source:
        """`[KIND:]PATTERN[=WEIGHT]`, as in `voices`, `voices/*.flac=0.5` or `music:songs=2`. A file
        name that looks like a kind or a weight is written with its folder: `./music:live`. Raises
        UsageError."""
        kind, colon, pattern = text.partition(":")
        if not colon or not kind.isalpha() or len(kind) == 1:  # one letter is a drive
            kind, pattern = "speech", text
        elif kind not in KINDS:
            raise UsageError(f"{text!r}: {kind!r} is no kind of audio; there are {', '.join(KINDS)}")
        weight = "1"
        before, equals, after = pattern.rpartition("=")
        if equals and "/" not in after:
            pattern, weight = before, after
        if not pattern:
            raise UsageError(f"{text!r} names no folder, file or pattern")
        try:
            return cls(pattern, float(weight), kind)  # type: ignore[arg-type]
        except ValidationError:
            raise UsageError(f"{text!r}: the weight after '=' must be above zero") from None
        except ValueError:
            raise UsageError(f"{text!r}: the weight after '=' must be a number") from None

    def files(self, exclude: Sequence[str] = ()) -> list[Path]:
        """Its audio files, sorted, without those whose names match a pattern of `exclude`. Raises
        UsageError if there are none to begin with."""
        return [
            file for file in audio_files(self.pattern) if not any(fnmatch.fnmatch(file.name, name) for name in exclude)
        ]


def resample(pcm: NDArray[np.float32], rate: int, sample_rate: int) -> NDArray[np.float32]:
    """[n, channels] or [n] at `rate` -> at `sample_rate`."""
    return pcm if rate == sample_rate else np.asarray(soxr.resample(pcm, rate, sample_rate), np.float32)


def mix_down(pcm: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """[n, any] -> [n, 1 or 2]: two channels stay two if `channels` is 2, everything else becomes
    their mean."""
    if pcm.shape[1] == 1 or pcm.shape[1] == channels:
        return pcm
    return np.asarray(pcm.mean(axis=1, keepdims=True), np.float32)


def read_channels(file: Path, sample_rate: int, channels: int) -> NDArray[np.float32]:
    """A whole file as [n, 1 or 2] at `sample_rate`. Raises one of UNREADABLE for what it cannot
    read."""
    return read_mixed(file, sample_rate, channels)
