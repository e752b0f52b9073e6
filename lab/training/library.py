"""The audio of all sources: decoded into shared memory while it fits, read from disk segment by
segment beyond that."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from earshot.codec.audio_reader import check_claims, sound_path
from earshot.codec.errors import UsageError
from earshot.codec.pcm import Pcm, sanitize
from earshot.codec.terminal import Terminal, description_column
from earshot.lab.training.sources import UNREADABLE, Source, mix_down, read_channels, resample

T = TypeVar("T")

LEVEL_WINDOWS, LEVEL_WINDOW_S = 16, 2.0
"""A longer file's level is measured over windows spread evenly: a file on disk is not read in full
for it."""

MARGIN = 512
"""Samples of a file read on both sides of a segment, for the resampler's filter to settle."""

NARROW_RATE = 16_000
NARROW_DB = -66.0
"""Energy above 8.4 kHz over all energy. Measured: 16 kHz recordings that were resampled to 24 kHz
lie at -69 to -97 dB, wide ones at -9 to -65 dB."""


@dataclass
class Clip:
    file: Path
    rate: int
    """Of the file, Hz."""
    frames: int
    """At the sample rate of training."""
    channels: int
    """1 or 2, as kept."""
    start: int = 0
    """In the memory of its source, in samples of all channels."""
    narrow: bool = False
    """Recorded at 16 kHz or less, by its rate or, where it has been decoded, by what is in it."""
    level: float | None = None
    peak: float | None = None


@dataclass
class Shelf:
    """A source's clips. Its memory is shared with worker processes."""

    source: Source
    clips: list[Clip] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """Frames up to and with each clip."""
    memory: ctypes.Array[ctypes.c_int16] | None = None


def _bar(things: Sequence[T], words: str, progress: bool) -> Iterator[T]:
    console = Terminal(stderr=True)
    columns = (description_column(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = not (progress and console.is_terminal)
    with Progress(*columns, console=console, disable=hidden, transient=True) as bar:
        yield from bar.track(things, description=words)


def active_level(pcm: Pcm, sample_rate: int) -> float:
    """RMS of [n, channels] over its blocks of 50 ms, those 30 dB below the loudest left out: pauses
    do not count."""
    block = max(1, sample_rate // 20)
    power = np.mean(pcm.astype(np.float32) ** 2, axis=1)
    whole = power[: max(1, power.size // block) * block]
    blocks = whole.reshape(-1, block).mean(axis=1) if whole.size >= block else power.mean(keepdims=True)
    return float(np.sqrt(blocks[blocks >= blocks.max() / 1000].mean()))


def is_narrow(pcm: Pcm, sample_rate: int) -> bool:
    """Whether [n, channels] has next to nothing above 8.4 kHz, by 64 windows spread evenly over the
    first channel."""
    window = 2048
    hertz = np.fft.rfftfreq(window, 1 / sample_rate)
    if pcm.shape[0] < window or hertz[-1] < 9000:
        return False
    starts = np.linspace(0, pcm.shape[0] - window, 64).astype(int)
    spectra = np.fft.rfft(pcm[starts[:, None] + np.arange(window), 0] * np.hanning(window))
    power = np.sum(np.abs(spectra) ** 2, axis=0)
    return bool(power[hertz > 8400].sum() < 10 ** (NARROW_DB / 10) * power.sum())


class Library:
    """Raises UsageError if a source has no audio that can be read."""

    def __init__(
        self,
        sources: Sequence[Source],
        exclude: Sequence[str],
        sample_rate: int,
        channels: int,
        memory_bytes: float,
        progress: bool = True,
    ) -> None:
        self.sample_rate, self.channels = sample_rate, channels
        self.unreadable: list[Path] = []
        self.shelves = [self._scan(source, exclude, progress) for source in sources]
        left = memory_bytes
        for shelf in sorted(self.shelves, key=self._bytes):
            if self._bytes(shelf) <= left:
                left -= self._decode(shelf, progress)
        for shelf in self.shelves:
            if not shelf.clips:
                raise UsageError(f"none of the audio files under {shelf.source.pattern!r} can be read")
            shelf.ends = np.cumsum([clip.frames for clip in shelf.clips]).tolist()

    @property
    def hours(self) -> float:
        return sum(shelf.ends[-1] for shelf in self.shelves) / self.sample_rate / 3600

    @property
    def hours_in_memory(self) -> float:
        return sum(shelf.ends[-1] for shelf in self.shelves if shelf.memory) / self.sample_rate / 3600

    def narrow_share(self) -> float:
        """Share of what is drawn, noise apart, that was recorded at 16 kHz or less."""
        shelves = [shelf for shelf in self.shelves if shelf.source.kind != "noise"]
        narrow = sum(
            shelf.source.weight * sum(c.frames for c in shelf.clips if c.narrow) / shelf.ends[-1] for shelf in shelves
        )
        return narrow / max(sum(shelf.source.weight for shelf in shelves), 1e-9)

    # -- loading --------------------------------------------------------------

    @staticmethod
    def _bytes(shelf: Shelf) -> int:
        return 2 * sum(clip.frames * clip.channels for clip in shelf.clips)

    def _scan(self, source: Source, exclude: Sequence[str], progress: bool) -> Shelf:
        files = source.files(exclude)
        if not files:
            raise UsageError(f"no audio under {source.pattern!r}; give a folder, a file or a glob pattern")
        shelf = Shelf(source)
        for file in _bar(files, f"finding {source.pattern}", progress):
            try:
                info = soundfile.info(sound_path(file))
                check_claims(file, info.samplerate, info.channels, info.frames)
            except UNREADABLE:
                self.unreadable.append(file)
                continue
            frames = math.ceil(info.frames * self.sample_rate / info.samplerate)
            if frames:
                channels = 2 if info.channels == self.channels == 2 else 1
                shelf.clips.append(Clip(file, info.samplerate, frames, channels, narrow=info.samplerate <= NARROW_RATE))
            else:
                self.unreadable.append(file)
        return shelf

    def _decode(self, shelf: Shelf, progress: bool) -> int:
        """Returns the bytes it takes."""
        parts: list[NDArray[np.int16]] = []
        clips, start = [], 0
        for clip in _bar(shelf.clips, f"reading {shelf.source.pattern}", progress):
            try:
                pcm = read_channels(clip.file, self.sample_rate, clip.channels)
            except UNREADABLE:
                self.unreadable.append(clip.file)
                continue
            if not pcm.size:
                self.unreadable.append(clip.file)
                continue
            clip.frames, clip.start = pcm.shape[0], start
            clip.level, clip.peak = active_level(pcm, self.sample_rate), float(np.abs(pcm).max())
            clip.narrow = clip.narrow or is_narrow(pcm, self.sample_rate)
            parts.append(np.rint(np.clip(pcm, -1, 1) * 32767).astype(np.int16).reshape(-1))
            clips.append(clip)
            start += pcm.size
        shelf.clips = clips
        if parts:
            shelf.memory = multiprocessing.get_context("spawn").RawArray(ctypes.c_int16, start)
            np.concatenate(parts, out=np.frombuffer(memoryview(shelf.memory), np.int16))
        return 2 * start

    # -- drawing --------------------------------------------------------------

    def clip(self, source: int, share: float) -> Clip:
        """The one that holds this share of the source's frames."""
        shelf = self.shelves[source]
        at = int(np.searchsorted(shelf.ends, share * shelf.ends[-1], side="right"))
        return shelf.clips[min(at, len(shelf.clips) - 1)]

    def crop(self, source: int, clip: Clip, position: float, length: int, before: int = 0) -> Pcm:
        """[channels, before + length] of `clip`; `position` 0..1 is where `length` begins among all
        places it can.

        Clips that are too short stand at a random place in silence. One channel becomes two equal
        ones where two are trained. Raises one of UNREADABLE for a file on disk that has gone or is
        damaged."""
        places = clip.frames - length
        start = int(position * (places + 1)) if places >= 0 else -int(position * (1 - places))
        first, last = max(0, start - before), min(clip.frames, start + length)
        found = self._read(self.shelves[source], clip, first, last)
        crop = np.zeros((clip.channels, before + length), np.float32)
        at = first - (start - before)
        crop[:, at : at + found.shape[0]] = found.T
        return crop if clip.channels == self.channels else np.repeat(crop, self.channels, axis=0)

    def _read(self, shelf: Shelf, clip: Clip, first: int, last: int) -> Pcm:
        """[last - first, channels of the clip]."""
        if shelf.memory is not None:
            c = clip.channels
            held = np.frombuffer(memoryview(shelf.memory), np.int16)[clip.start + first * c : clip.start + last * c]
            return np.asarray(held.reshape(-1, c) * np.float32(1 / 32767), np.float32)
        ratio = clip.rate / self.sample_rate
        with soundfile.SoundFile(sound_path(clip.file)) as file:
            begin = max(0, int(first * ratio) - MARGIN)
            file.seek(begin)
            raw = file.read(math.ceil(last * ratio) + MARGIN - begin, dtype="float32", always_2d=True)
        pcm = resample(sanitize(mix_down(raw, clip.channels))[0], clip.rate, self.sample_rate)
        skipped = first - round(begin / ratio)
        cut = pcm[skipped : skipped + last - first]
        if cut.shape[0] < min(last - first, 1 + (last - first) // 2):
            raise EOFError(f"{clip.file} is shorter than it says")
        return cut

    def level(self, source: int, clip: Clip) -> tuple[float, float]:
        """RMS while it sounds, and peak, of the file."""
        if clip.level is None or clip.peak is None:
            window = int(LEVEL_WINDOW_S * self.sample_rate)
            spans = [(0, clip.frames)]
            if clip.frames > LEVEL_WINDOWS * window:
                starts = np.linspace(0, clip.frames - window, LEVEL_WINDOWS).astype(int).tolist()
                spans = [(at, at + window) for at in starts]
            heard = np.concatenate([self._read(self.shelves[source], clip, *span) for span in spans])
            clip.level, clip.peak = active_level(heard, self.sample_rate), float(np.abs(heard).max())
        return clip.level, clip.peak
