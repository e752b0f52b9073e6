"""Sound devices as sources and sinks.

PortAudio's callbacks only copy and count. A thread beside each stream resamples and calls into the
rest of the client. A device that goes away is said (`notice`), and is taken up again when it is
back, or the one that is the default then."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import soxr

from earshot.client.audio.endpoints import TALK, Cushion, Format, OnBlock, Pull, Sink, Source, in_channels, samples_us
from earshot.client.audio.portaudio import (
    BLOCKS_PER_SECOND,
    as_float,
    fill,
    find_device,
    open_stream,
    portaudio,
    start_stream,
)
from earshot.client.local_clock import monotonic_us
from earshot.codec.errors import AudioError
from earshot.codec.pcm import Pcm

MAX_QUEUED = 76
"""Blocks between a microphone's callback and its thread (0.5 s)."""
MIN_BLOCKS, MAX_BLOCKS = 2, 12
"""Blocks kept ready for a loudspeaker's callback."""
CALM_S = 10
"""After so long without running dry it is one block less."""
SILENT_S = 2.0
"""A device whose callback is not called for so long has gone."""
AGAIN_S = 1.0
"""How long after that it is tried to open it again, and again."""


class _Gone(Exception):  # noqa: N818 -- a turn of events
    """A device that delivers or takes nothing any more."""


class DeviceClock:
    """Tells when the samples of a device are spoken or heard, smoothed from the times that come
    with its callbacks.

    A sound card counts evenly, while the times of single callbacks jitter by milliseconds."""

    GAIN = 0.05
    JUMP_US = 30_000

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.position = 0
        self.us: float | None = None

    def update(self, position: int, us: float) -> None:
        """Takes a measurement: sample `position` fell on `us`."""
        if self.us is None or abs(us - self._at(position)) > self.JUMP_US:
            self.us = us
        else:
            expected = self._at(position)
            self.us = expected + self.GAIN * (us - expected)
        self.position = position

    def _at(self, position: float) -> float:
        return (self.us or 0.0) + (position - self.position) * 1e6 / self.rate

    def at(self, position: float) -> int:
        """Returns when a sample falls. `update` must have been called once."""
        return round(self._at(position))


def _resampler(rate_in: float, rate_out: float, channels: int) -> Any:
    """Returns a resampler, or None where none is needed.

    soxr's variable-rate mode holds 5 to 10 ms back, its fixed-rate mode 25 to 37 ms (measured with
    10 ms blocks between 24, 44.1 and 48 kHz)."""
    if rate_in == rate_out:
        return None
    return soxr.ResampleStream(rate_in, rate_out, channels, dtype="float32", quality="HQ", vr=True)


def _stay(device: DeviceSource | DeviceSink, reopen: Callable[[], None], work: Callable[[], None]) -> None:
    """Works with a device until it is stopped. Where the device goes away, that is said, and it is
    opened again when that can be."""
    while not device.stopping:
        try:
            work()
            return
        except _Gone as gone:
            device.notice = f"{gone}; plug it in, or choose another as the default"
            device.release()
        while not device.stopping and device.notice:
            device.pause(AGAIN_S)
            if device.stopping:
                return
            try:
                reopen()
                break
            except AudioError:
                continue


class DeviceSource(Source):
    """A microphone. `name` is a device's number or part of its name, or None for the default
    device."""

    def __init__(self, name: str | None = None, form: Format = TALK) -> None:
        super().__init__()
        self._form = form
        self._queue: queue.SimpleQueue[tuple[Pcm, int, int] | None] = queue.SimpleQueue()
        self._read = 0
        self._wanted = name
        self._stream = open_stream("input", name, self._callback, form)
        self.name = find_device(portaudio(), name, "input")["name"]

    def _callback(self, data: Pcm, frames: int, times: Any, status: Any) -> None:
        now = monotonic_us()
        ago = (times.currentTime - times.inputBufferAdcTime) * 1e6
        if not 0 <= ago <= 1e6:  # some host interfaces leave these times empty
            ago = samples_us(frames, self._stream.samplerate)
        if status.input_overflow or self._queue.qsize() >= MAX_QUEUED:
            self.overflows += 1
        if self._queue.qsize() < MAX_QUEUED:
            self._queue.put((as_float(data).copy(), self._read, now - int(ago)))
        self._read += frames

    def start(self, on_block: OnBlock) -> None:
        start_stream(self._stream, self.name)
        self._begin(lambda: _stay(self, self._reopen, lambda: self._listen(on_block)))

    def _reopen(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()
        self._read = 0
        self._stream = open_stream("input", self._wanted, self._callback, self._form)
        self.name = find_device(portaudio(), self._wanted, "input")["name"]
        start_stream(self._stream, self.name)

    def _listen(self, on_block: OnBlock) -> None:
        rate = float(self._stream.samplerate)
        channels = self._form.channels
        clock, resampler, given = DeviceClock(rate), _resampler(rate, self._form.rate, channels), 0
        origin = expected = 0
        while not self._stopping.is_set():
            try:
                item = self._queue.get(timeout=SILENT_S)
            except queue.Empty:
                raise _Gone(f"the microphone {self.name!r} delivers no sound") from None
            self.notice = ""
            if item is None:
                return
            data, position, captured = item
            clock.update(position, captured)
            if self.started_us is None:
                self.started_us = clock.at(0)
            pcm = in_channels(data, channels)
            if resampler is not None:
                pcm = resampler.resample_chunk(pcm if channels > 1 else pcm[:, 0])
            pcm = pcm.reshape(-1, channels)
            origin += position - expected  # blocks that were dropped
            expected = position + len(data)
            if len(pcm):
                on_block(pcm.T if channels > 1 else pcm[:, 0], clock.at(origin + given * rate / self._form.rate))
            given += len(pcm)

    def release(self) -> None:
        """Closes the stream of a device that has gone."""
        self._stream.close(ignore_errors=True)

    def stop(self) -> None:
        self._queue.put(None)
        super().stop()
        self.release()


class DeviceSink(Sink):
    """A loudspeaker. `name` is a device's number or part of its name, or None for the default
    device."""

    def __init__(self, name: str | None = None, form: Format = TALK) -> None:
        super().__init__()
        self._form = form
        self._ready = np.zeros((0, form.channels), np.float32)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._played = 0
        self._cushion = Cushion(MIN_BLOCKS, MAX_BLOCKS, CALM_S * BLOCKS_PER_SECOND)
        self._wanted = name
        self._stream = open_stream("output", name, self._callback, form)
        self._clock = DeviceClock(float(self._stream.samplerate))
        self.name = find_device(portaudio(), name, "output")["name"]

    def _callback(self, out: Pcm, frames: int, times: Any, status: Any) -> None:
        now = monotonic_us()
        ahead = (times.outputBufferDacTime - times.currentTime) * 1e6
        if not 0 <= ahead <= 1e6:  # some host interfaces leave these times empty
            ahead = self._stream.latency * 1e6
        with self._lock:
            pcm, self._ready = self._ready[:frames], self._ready[frames:]
            self._clock.update(self._played, now + ahead)
            self._played += frames
        fill(out, pcm)
        dry = bool(status.output_underflow) or (len(pcm) < frames and self.started_us is not None)
        self.underflows += dry
        self._cushion.block(dry)
        self._wake.set()

    def start(self, pull: Pull) -> None:
        start_stream(self._stream, self.name)
        self._begin(lambda: _stay(self, self._reopen, lambda: self._play(pull)))

    def _reopen(self) -> None:
        with self._lock:
            self._ready, self._played = np.zeros((0, self._form.channels), np.float32), 0
        self._wake.clear()
        self._stream = open_stream("output", self._wanted, self._callback, self._form)
        self._clock = DeviceClock(float(self._stream.samplerate))
        self.name = find_device(portaudio(), self._wanted, "output")["name"]
        start_stream(self._stream, self.name)

    def _play(self, pull: Pull) -> None:
        rate = float(self._stream.samplerate)
        resampler = _resampler(self._form.rate, rate, self._form.channels)
        block = round(self._form.rate / BLOCKS_PER_SECOND)
        device_block = rate / BLOCKS_PER_SECOND
        pulled = made = 0
        while not self._stopping.is_set():
            if not self._wake.wait(SILENT_S):
                raise _Gone(f"the loudspeaker {self.name!r} takes no sound")
            self._wake.clear()
            self.notice = ""
            while not self._stopping.is_set():
                with self._lock:
                    if len(self._ready) >= self._cushion.blocks * device_block:
                        break
                    held = pulled * rate / self._form.rate - made  # samples inside the resampler
                    heard = self._clock.at(self._played + len(self._ready) + held)
                if self.started_us is None:
                    self.started_us = heard
                pcm = pull(block, monotonic_us(), heard).T
                pulled += block
                if resampler is not None:
                    pcm = resampler.resample_chunk(np.ascontiguousarray(pcm))
                pcm = pcm.reshape(-1, self._form.channels)
                made += len(pcm)
                with self._lock:
                    self._ready = np.concatenate([self._ready, np.clip(pcm, -1, 1)])

    def release(self) -> None:
        """Closes the stream of a device that has gone."""
        self._stream.close(ignore_errors=True)

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        super().stop()
        self.release()
