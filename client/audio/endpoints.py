"""Where sound comes from and goes to: what every source and sink has in common.

A source hands blocks of PCM (24 kHz mono, or what music takes) to a callback, with the time at
which their first sample was spoken. A sink asks a callback for blocks, with the time at which their
first sample will be heard. All times are those of client/local_clock.py. Both run in a thread of
their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from earshot.codec.pcm import Pcm

SAMPLE_RATE = 24_000


@dataclass(frozen=True)
class Format:
    """What a source gives and a sink takes: blocks [n] of one channel or [channels, n] of more."""

    rate: int = SAMPLE_RATE
    channels: int = 1

    def samples(self, talk: int) -> int:
        """Returns how many samples last as long at this rate as `talk` samples at 24 kHz."""
        return talk * self.rate // SAMPLE_RATE


TALK = Format()

OnBlock = Callable[[Pcm, int], None]
"""(pcm, captured_us)"""
Pull = Callable[[int, int, int], Pcm]
"""(n, now_us, heard_us) -> float32 [n], or [channels, n] where the sink has more than one
channel"""


def samples_us(samples: float, rate: float = SAMPLE_RATE) -> int:
    """Returns how long samples last, in microseconds."""
    return round(samples * 1e6 / rate)


def in_channels(pcm: Pcm, channels: int) -> Pcm:
    """Turns [n, any] samples into [n, channels].

    Mono is the mean of all channels. Stereo is the first two, or the only one twice; of more
    channels the others are silent."""
    if pcm.shape[1] == channels:
        return pcm
    if channels == 1:
        return np.asarray(pcm.mean(axis=1, keepdims=True))
    stereo = pcm[:, :2] if pcm.shape[1] > 1 else np.repeat(pcm[:, :1], 2, axis=1)
    return stereo if channels == 2 else np.pad(stereo, ((0, 0), (0, channels - 2)))


class _Worker:
    """A thread that can be stopped. An error in it is kept in `error` for the call to raise."""

    name = ""

    def __init__(self) -> None:
        self.started_us: int | None = None
        """When sample 0 was spoken or heard, None until that is known."""
        self.error: Exception | None = None
        self.notice = ""
        """What is wrong with it at this moment, for the user to read."""
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

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def pause(self, seconds: float) -> None:
        """Waits, but no longer than until `stop` is called."""
        self._stopping.wait(seconds)

    def stop(self) -> None:
        """Ends the thread and closes what it used. It may be called more than once, but not from
        the callback."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5)
            self._thread = None
        self.ended.set()


class Source(_Worker):
    """A microphone, or what stands for one."""

    overflows = 0
    """How often sound was lost on the way in."""

    def start(self, on_block: OnBlock) -> None:
        """Begins to call `on_block`. Raises AudioError if the source cannot be opened."""
        raise NotImplementedError


class Sink(_Worker):
    """A loudspeaker, or what stands for one."""

    underflows = 0
    """How often it had nothing to play in time."""
    file = ""
    """The name of the file that it writes, if it is one."""

    def start(self, pull: Pull) -> None:
        """Begins to call `pull`. Raises AudioError if the sink cannot be opened."""
        raise NotImplementedError


class NoSource(Source):
    """The source of a client that only listens. It never gives anything and never ends."""

    name = "none"

    def start(self, on_block: OnBlock) -> None:
        """Does nothing."""


class NoSink(Sink):
    """The sink of a client that only speaks. It never asks for anything."""

    name = "none"

    def start(self, pull: Pull) -> None:
        """Does nothing."""


class Cushion:
    """Decides how many blocks to keep ready ahead of a loudspeaker: one more after it ran dry, one
    less after `calm` blocks in which it did not."""

    def __init__(self, least: int, most: int, calm: int = 750) -> None:
        self.blocks = least
        self._least, self._most, self._calm = least, most, calm
        self._since = 0
        self._dry = False

    def block(self, dry: bool) -> None:
        """Takes note of a block of the device. Dry blocks one after the other count once."""
        self._since = 0 if dry else self._since + 1
        if dry and not self._dry:
            self.blocks = min(self.blocks + 1, self._most)
        elif self._since >= self._calm:
            self._since = 0
            self.blocks = max(self.blocks - 1, self._least)
        self._dry = dry
