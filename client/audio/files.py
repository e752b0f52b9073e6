"""Audio files that behave like sound devices in real time. An absolute schedule paces them, so that
they do not drift."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from earshot.client.audio.endpoints import TALK, Cushion, Format, OnBlock, Pull, Sink, Source, in_channels, samples_us
from earshot.client.local_clock import monotonic_us
from earshot.codec.audio_formats import written_as
from earshot.codec.audio_reader import AudioReader, sound_path
from earshot.codec.errors import AudioError
from earshot.codec.pcm import Pcm

SOURCE_BLOCK = 320
"""Samples in a block of a source: one frame (13.3 ms at 24 kHz)."""
SINK_BLOCK = 160
"""Samples in a block of a sink: half a frame, 6.7 ms at 24 kHz. A block is asked for one block
before its first sample is due, as a double-buffered sound card does. With blocks of 10 ms, most of
which needed two frames, sound was heard 6 ms later."""
MAX_AHEAD = 9
"""How many blocks ahead a sink asks, at most, after blocks that came too late."""
LATEST_US = 500_000
"""A source thread that was held up for longer loses what it missed, as a sound card's buffer
would."""


_READ = 4096


def _wait_until(us: int, stopping: threading.Event) -> bool:
    """Sleeps until a time. Returns False if it was told to stop."""
    ahead = us - monotonic_us()
    return not stopping.wait(ahead / 1e6) if ahead > 0 else not stopping.is_set()


def read_blocks(path: Path, block: int, loop: bool = False, form: Format = TALK) -> Iterator[Pcm]:
    """Yields a file of any rate and number of channels as blocks [block] of one channel or
    [2, block] of two, with the last block filled up with silence.

    With `loop` the file begins anew at its end. Raises AudioError for what is no audio file."""
    rest = np.zeros((0, form.channels), np.float32)
    again = True
    while again:
        again = loop
        with AudioReader(path, _READ) as audio:
            for pcm in audio.resampled(form.rate, form.channels, lambda pcm: in_channels(pcm, form.channels)):
                rest = np.concatenate([rest, pcm])
                whole = len(rest) - len(rest) % block
                for start in range(0, whole, block):
                    yield _as_block(rest[start : start + block])
                rest = rest[whole:]
    if rest.size:
        yield _as_block(np.pad(rest, ((0, block - len(rest)), (0, 0))))


def _as_block(pcm: Pcm) -> Pcm:
    """Turns [n, 1] into [n] and [n, 2] into [2, n]."""
    return pcm[:, 0] if pcm.shape[1] == 1 else pcm.T


class FileSource(Source):
    """Plays a file as a microphone: a block comes when its last sample would have been spoken.

    `ended` is set at the end of the file. With `loop` the file begins anew instead. Raises
    AudioError for what is no audio file."""

    def __init__(self, path: Path, loop: bool = False, form: Format = TALK) -> None:
        super().__init__()
        self.name = path.name
        self._rate, self._block = form.rate, form.samples(SOURCE_BLOCK)
        self._blocks = read_blocks(path, self._block, loop, form)
        self._first = next(self._blocks)

    def start(self, on_block: OnBlock) -> None:
        self.started_us = monotonic_us()
        self._begin(lambda: self._run(on_block))

    def _run(self, on_block: OnBlock) -> None:
        start, position, pcm = self.started_us or 0, 0, self._first
        while True:
            captured = start + samples_us(position, self._rate)
            position += self._block
            due = start + samples_us(position, self._rate)
            if not _wait_until(due, self._stopping):
                return
            if monotonic_us() - due > LATEST_US:
                self.overflows += 1
            else:
                on_block(pcm, captured)
            following = next(self._blocks, None)
            if following is None:
                return
            pcm = following


class FileSink(Sink):
    """Writes everything that is heard to a file of the format that its name says. Its sample 0 is
    heard at `started_us`.

    A block is asked for 6.7 ms before its first sample is due on this virtual loudspeaker, or
    sooner where the machine is too busy for that. Where a block is not there in time, silence is
    written."""

    def __init__(self, path: Path, form: Format = TALK) -> None:
        super().__init__()
        self.name = self.file = path.name
        self._path, self._form, self._written = path, form, written_as(path, live=True)

    def start(self, pull: Pull) -> None:
        try:
            file = soundfile.SoundFile(
                *(sound_path(self._path), "w", self._form.rate, self._form.channels, self._written.subtype),
                format=self._written.format,
            )
        except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
            raise AudioError(f"cannot write {self._path}: {error}") from error
        self.started_us = monotonic_us() + 2 * samples_us(SINK_BLOCK)
        self._begin(lambda: self._run(file, pull))

    def _run(self, file: soundfile.SoundFile, pull: Pull) -> None:
        start, position, cushion = self.started_us or 0, 0, Cushion(1, MAX_AHEAD)
        rate, block = self._form.rate, self._form.samples(SINK_BLOCK)
        silence = np.zeros((self._form.channels, block), np.float32)
        try:
            with file:
                while True:
                    due = start + samples_us(position, rate)
                    if not _wait_until(due - cushion.blocks * samples_us(SINK_BLOCK), self._stopping):
                        return
                    now = monotonic_us()
                    cushion.block(dry=now > due)
                    if now > due:
                        self.underflows += 1
                        pcm = silence
                    else:
                        pcm = pull(block, now, due)
                    file.write(np.clip(pcm, -1, 1).T)
                    position += block
        except (soundfile.SoundFileError, OSError) as error:
            raise AudioError(f"cannot write {self._path}: {error}") from error
