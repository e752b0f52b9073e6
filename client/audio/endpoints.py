"""Where sound comes from and goes to: what every source and sink has in common, and how one is
chosen.

A source hands blocks of PCM (24 kHz mono, or what music takes) to a callback with the time at which
their first sample was spoken. A sink asks a callback for blocks with the time at which their first
sample will be heard. All times are microseconds of `time.monotonic` on this machine. Both run in a
thread of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from earshot.codec.errors import AudioError
from earshot.codec.pcm import Pcm

SAMPLE_RATE = 24_000


@dataclass(frozen=True)
class Format:
    """What a source gives and a sink takes: blocks [n] of one channel, [channels, n] of more."""

    rate: int = SAMPLE_RATE
    channels: int = 1

    def samples(self, talk: int) -> int:
        """As long at this rate as so many samples at 24 kHz."""
        return talk * self.rate // SAMPLE_RATE


TALK = Format()

OnBlock = Callable[[Pcm, int], None]
"""(pcm, captured_us)"""
Pull = Callable[[int, int, int], Pcm]
"""(n, now_us, heard_us) -> float32 [n], or [channels, n] where the sink has more than one
channel"""


def monotonic_us() -> int:
    """This machine's clock, as every time in the client."""
    return time.monotonic_ns() // 1000


def samples_us(samples: float, rate: float = SAMPLE_RATE) -> int:
    """How long samples last, in microseconds."""
    return round(samples * 1e6 / rate)


class _Worker:
    """A thread with a way to stop it; what goes wrong in it is kept in `error` for the call to
    raise."""

    name = ""

    def __init__(self) -> None:
        self.started_us: int | None = None
        """When sample 0 was spoken or heard; None until that is known."""
        self.error: Exception | None = None
        self.ended = threading.Event()
        """Set when no more sound will come: the end of a file, a device that failed, or `stop`."""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def _begin(self, body: Callable[[], None]) -> None:
        def run() -> None:
            try:
                body()
            except Exception as error:
                self.error = error
            finally:
                self.ended.set()

        self._thread = threading.Thread(target=run, name=f"earshot {self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and closes what it used. May be called more than once, but not from its
        callback."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5)
            self._thread = None
        self.ended.set()


class Source(_Worker):
    """A microphone or what stands for one. `overflows` counts the times that sound was lost on the
    way in."""

    overflows = 0

    def start(self, on_block: OnBlock) -> None:
        """Begins to call `on_block`. Raises AudioError if the source cannot be opened."""
        raise NotImplementedError


class Sink(_Worker):
    """A loudspeaker or what stands for one. `underflows` counts the times that it had nothing to
    play in time."""

    underflows = 0

    def start(self, pull: Pull) -> None:
        """Begins to call `pull`. Raises AudioError if the sink cannot be opened."""
        raise NotImplementedError


class NoSource(Source):
    """Nobody speaks: it never gives anything and never ends."""

    name = "none"

    def start(self, on_block: OnBlock) -> None:
        """Nothing begins."""


class NoSink(Sink):
    """Nobody listens: it never asks for anything."""

    name = "none"

    def start(self, pull: Pull) -> None:
        """Nothing begins."""


class Cushion:
    """How many blocks to keep ready ahead of a loudspeaker: one more after it ran dry, one less
    after `calm` blocks without that."""

    def __init__(self, least: int, most: int, calm: int = 750) -> None:
        self.blocks = least
        self._least, self._most, self._calm = least, most, calm
        self._since = 0
        self._dry = False

    def block(self, dry: bool) -> None:
        """After each block of the device; blocks that are dry one after the other count once."""
        self._since = 0 if dry else self._since + 1
        if dry and not self._dry:
            self.blocks = min(self.blocks + 1, self._most)
        elif self._since >= self._calm:
            self._since = 0
            self.blocks = max(self.blocks - 1, self._least)
        self._dry = dry


_AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64"}


def _is_file(name: str) -> bool:
    return Path(name).suffix.lower() in _AUDIO_SUFFIXES or Path(name).is_file()


def open_source(name: str | None, loop: bool = False, form: Format = TALK) -> Source:
    """A file (by its suffix, or because there is one), "none", or a sound device by number or part
    of its name; None is the default device. Raises AudioError."""
    if name is not None and _is_file(name):
        from earshot.client.audio.files import FileSource

        return FileSource(Path(name), loop, form)
    if loop:
        raise AudioError("only a file can be played in a loop")
    if name == NoSource.name:
        return NoSource()
    from earshot.client.audio.devices import DeviceSource

    return DeviceSource(name, form)


def open_sink(name: str | None, form: Format = TALK) -> Sink:
    """As `open_source`; a file is created or overwritten."""
    if name is not None and _is_file(name):
        from earshot.client.audio.files import FileSink

        return FileSink(Path(name), form)
    if name == NoSink.name:
        return NoSink()
    from earshot.client.audio.devices import DeviceSink

    return DeviceSink(name, form)
