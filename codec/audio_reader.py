"""Reads audio files whole: all recordings in a file, whatever their headers say of their length.

What is read is clean: samples that are no numbers become silence before anything is resampled. One
of them would take hundreds of others with it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from earshot.codec.audio_sections import Section, sections
from earshot.codec.errors import AudioError
from earshot.codec.pcm import Pcm, sanitize

log = logging.getLogger(__name__)

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000
"""Sample rates of files that are read. At a lower one a small file would become hours at the rate
of a model."""
MAX_CHANNELS = 64
MAX_HOURS = 24.0
BLOCK = 65_536
"""Samples that are read at once."""
BLURRED = 1152 * 4
"""By so many samples the length that an MP3 says of itself may be wrong."""

Mix = Callable[[Pcm], Pcm]
"""[n, channels of a file] -> [n, channels that are wanted]"""


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


class _Sound(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read from beginning to end. soundfile seeks after each block where it can, and
    an MP3 is silent for a while after that, which made most of it silent."""

    def seekable(self) -> bool:
        return False


class AudioReader:
    """An open audio file. Raises AudioError, here and while it is read, for what is none, holds no
    sound, or claims more than is read."""

    def __init__(self, path: Path, block: int = BLOCK) -> None:
        """Opens a file. So many samples are read at once."""
        self.path, self._block = path, block
        self._stack = ExitStack()
        self._parts: list[tuple[Section | None, _Sound]] = []
        try:
            self._open()
            if not sum(sound.frames for _, sound in self._parts):
                raise AudioError(f"{path} holds no sound: it is empty, but for its header")
            self.seconds = sum(sound.frames / sound.samplerate for _, sound in self._parts)
            """What its headers say."""
            if self.seconds > MAX_HOURS * 3600:
                raise AudioError(f"{path} is {self.seconds / 3600:.1f} hours long; at most {MAX_HOURS:g} are read")
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        path = self.path
        try:
            if not path.exists():
                raise AudioError(f"{path} cannot be read as audio: there is no such file")
            if path.is_file() and not path.stat().st_size:
                raise AudioError(f"{path} holds no sound: it is empty")
            found = sections(path) if path.is_file() else []
            plain = len(found) < 2 and not any(section.patches for section in found)
            for section in [None] if plain else found:
                sound = self._stack.enter_context(self._sound(section))
                check_claims(path, sound.samplerate, sound.channels, sound.frames)
                self._parts.append((section, sound))
        except (OSError, soundfile.SoundFileError) as error:
            raise AudioError(f"{path} cannot be read as audio: {_reason(error)}") from error

    def _sound(self, section: Section | None) -> _Sound:
        return _Sound(sound_path(self.path) if section is None else section.open())

    def close(self) -> None:
        """Closes the file."""
        self._stack.close()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pieces(self, seconds: float | None = None) -> Iterator[tuple[int, Pcm]]:
        """Yields (sample rate, samples [n, channels]) of the whole file, or of its first seconds.
        The rate changes only where another recording begins. Raises AudioError for a file that is
        damaged, after all that can be read."""
        left = seconds
        for section, sound in self._parts:
            rate = sound.samplerate
            most = None if left is None else round(left * rate)
            for pcm in self._blocks(section, sound, most):
                left = None if left is None else left - len(pcm) / rate
                yield rate, sanitize(pcm)[0]

    def resampled(self, rate: int, channels: int, mix: Mix, seconds: float | None = None) -> Iterator[Pcm]:
        """Yields the sound as [n, channels] at one rate. Raises what `pieces` does."""
        resampler: Any = None
        last = 0
        for own, pcm in self.pieces(seconds):
            if own != last and resampler is not None:
                yield resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True).reshape(-1, channels)
            if own != last:
                resampler = None if own == rate else soxr.ResampleStream(own, rate, channels, dtype="float32")
            last, mixed = own, np.ascontiguousarray(mix(pcm), np.float32)
            yield mixed if resampler is None else resampler.resample_chunk(mixed).reshape(-1, channels)
        if resampler is not None:
            yield resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True).reshape(-1, channels)

    def _blocks(self, section: Section | None, sound: _Sound, most: int | None) -> Iterator[Pcm]:
        done = 0
        while most is None or done < most:
            wanted = self._block if most is None else min(self._block, most - done)
            try:
                pcm = sound.read(wanted, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                for pcm in self._last(section, done, wanted):
                    done += len(pcm)
                    yield pcm
                self._ended(section, sound, done, error)
                return
            if not len(pcm):
                self._ended(section, sound, done, None)
                return
            done += len(pcm)
            yield pcm

    def _last(self, section: Section | None, done: int, wanted: int) -> Iterator[Pcm]:
        """Yields the samples before the place where reading a block failed: such a block is lost as
        a whole, so that it is read again in ever smaller ones."""
        step = wanted
        while step := step // 8:
            with self._sound(section) as again:
                try:
                    again.seek(done)
                    while True:
                        pcm = again.read(step, dtype="float32", always_2d=True)
                        if not len(pcm):
                            return
                        done += len(pcm)
                        yield pcm
                except soundfile.SoundFileError:
                    continue

    def _ended(self, section: Section | None, sound: _Sound, done: int, error: Exception | None) -> None:
        """Says if less was there than the header says. Where the header is known to be wrong, this
        is the end."""
        if section is not None and section.patches:
            return
        rate = sound.samplerate
        if error is not None:
            raise AudioError(
                f"{self.path} is cut or damaged: {done / rate:.1f} of {sound.frames / rate:.1f} s can be read"
            ) from error
        if done < sound.frames - BLURRED:
            log.warning("%s ends too soon: %.1f of %.1f s are there", self.path, done / rate, sound.frames / rate)


def _reason(error: Exception) -> str:
    said = str(getattr(error, "error_string", "") or getattr(error, "strerror", "") or error)
    return said.removeprefix("Error : ").rstrip(".") or "it is no audio, or damaged"
