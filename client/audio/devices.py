"""Sound devices, by PortAudio.

The sounddevice package is imported only when a device is asked for. PortAudio's callbacks only copy
and count. A thread beside each stream resamples and calls into the rest of the client."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import soxr

from earshot.client.audio.endpoints import TALK, Cushion, Format, OnBlock, Pull, Sink, Source, in_channels, samples_us
from earshot.client.local_clock import monotonic_us
from earshot.codec.errors import AudioError
from earshot.codec.pcm import Pcm

BLOCKS_PER_SECOND = 75
"""Callbacks of a device: one for each frame."""
MAX_QUEUED = 38
"""Blocks between a microphone's callback and its thread (0.5 s)."""
MIN_BLOCKS, MAX_BLOCKS = 2, 6
"""Blocks kept ready for a loudspeaker's callback."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Discards what is written to standard error meanwhile: ALSA prints pages of complaints about
    devices that nobody asked for."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _portaudio() -> ModuleType:
    """Returns the sounddevice module. Raises AudioError where the PortAudio library is missing."""
    try:
        with _quiet():
            import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there, the library is not
        raise AudioError(
            "the PortAudio library is missing. Install it (Debian, Ubuntu: apt install libportaudio2; "
            "Fedora: dnf install portaudio; macOS: brew install portaudio), or give files as --input and --output"
        ) from error
    except Exception as error:  # importing it starts PortAudio, whose own error cannot be named before that
        raise AudioError(f"PortAudio does not start: {error}. Files can be given as --input and --output") from error
    return sounddevice  # type: ignore[no-any-return]


@dataclass(frozen=True)
class DeviceInfo:
    """A sound device."""

    index: int
    name: str
    host_api: str
    inputs: int
    """Channels that it records."""
    outputs: int
    """Channels that it plays."""
    rate: float
    """The device's own rate, in samples a second."""
    default_input: bool
    default_output: bool


def list_devices() -> list[DeviceInfo]:
    """Returns every sound device that PortAudio finds. Raises AudioError where PortAudio itself is
    missing."""
    sd = _portaudio()
    apis = [api["name"] for api in sd.query_hostapis()]
    default_input, default_output = sd.default.device
    return [
        DeviceInfo(
            index,
            device["name"],
            apis[device["hostapi"]],
            device["max_input_channels"],
            device["max_output_channels"],
            device["default_samplerate"],
            index == default_input,
            index == default_output,
        )
        for index, device in enumerate(sd.query_devices())
    ]


def _find(sd: ModuleType, name: str | None, kind: str) -> dict[str, Any]:
    wanted = int(name) if name is not None and name.isdecimal() else name
    try:
        return dict(sd.query_devices(wanted, kind))
    except (ValueError, sd.PortAudioError) as error:
        what = f"no default sound device for {kind}" if name is None else f"no sound device {name!r} for {kind}"
        detail = " (" + " ".join(str(error).split()) + ")" if "Multiple" in str(error) else ""
        raise AudioError(f"{what}{detail}. `earshot devices` lists them; files can be given instead") from error


def _open(kind: str, name: str | None, callback: Any, form: Format) -> Any:
    """Opens a stream: in the format if the device takes that, else at the device's own rate, else
    also with its own channels."""
    sd = _portaudio()
    device = _find(sd, name, kind)
    own = float(device["default_samplerate"])
    channels = int(device[f"max_{kind}_channels"])
    make = sd.InputStream if kind == "input" else sd.OutputStream
    tries = [(float(form.rate), form.channels), (own, form.channels), (own, min(channels, 2))]
    failure: Exception | None = None
    for rate, count in dict.fromkeys(tries):
        try:
            with _quiet():
                return make(
                    samplerate=rate,
                    blocksize=round(rate / BLOCKS_PER_SECOND),
                    device=device["index"],
                    channels=count,
                    dtype="float32",
                    latency="low",
                    callback=callback,
                )
        except (sd.PortAudioError, ValueError) as error:
            failure = error
    raise AudioError(
        f"cannot open the sound device {device['name']!r} for {kind}: {failure}. "
        "Another program may hold it; `earshot devices` lists the others"
    ) from failure


def _start(stream: Any, name: str) -> None:
    try:
        with _quiet():
            stream.start()
    except Exception as error:
        stream.close(ignore_errors=True)
        raise AudioError(f"cannot start the sound device {name!r}: {error}") from error


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


class DeviceSource(Source):
    """A microphone. `name` is a device's number or part of its name, or None for the default
    device."""

    def __init__(self, name: str | None = None, form: Format = TALK) -> None:
        super().__init__()
        self._form = form
        self._queue: queue.SimpleQueue[tuple[Pcm, int, int] | None] = queue.SimpleQueue()
        self._read = 0
        self._wanted = name
        self._stream = _open("input", name, self._callback, form)
        self.name = _find(_portaudio(), name, "input")["name"]

    def _callback(self, data: Pcm, frames: int, times: Any, status: Any) -> None:
        now = monotonic_us()
        ago = (times.currentTime - times.inputBufferAdcTime) * 1e6
        if not 0 <= ago <= 1e6:  # some host interfaces leave these times empty
            ago = samples_us(frames, self._stream.samplerate)
        if status.input_overflow or self._queue.qsize() >= MAX_QUEUED:
            self.overflows += 1
        if self._queue.qsize() < MAX_QUEUED:
            self._queue.put((data.copy(), self._read, now - int(ago)))
        self._read += frames

    def start(self, on_block: OnBlock) -> None:
        _start(self._stream, self.name)
        self._begin(lambda: self._run(on_block))

    def _run(self, on_block: OnBlock) -> None:
        rate = float(self._stream.samplerate)
        channels = self._form.channels
        clock, resampler, given = DeviceClock(rate), _resampler(rate, self._form.rate, channels), 0
        origin = expected = 0
        while not self._stopping.is_set():
            try:
                item = self._queue.get(timeout=2)
            except queue.Empty:
                raise AudioError(f"the sound device {self.name!r} has stopped delivering sound") from None
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

    def stop(self) -> None:
        self._queue.put(None)
        super().stop()
        self._stream.close(ignore_errors=True)


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
        self._cushion = Cushion(MIN_BLOCKS, MAX_BLOCKS)
        self._stream = _open("output", name, self._callback, form)
        self._clock = DeviceClock(float(self._stream.samplerate))
        self.name = _find(_portaudio(), name, "output")["name"]

    def _callback(self, out: Pcm, frames: int, times: Any, status: Any) -> None:
        now = monotonic_us()
        ahead = (times.outputBufferDacTime - times.currentTime) * 1e6
        if not 0 <= ahead <= 1e6:  # some host interfaces leave these times empty
            ahead = self._stream.latency * 1e6
        with self._lock:
            pcm, self._ready = self._ready[:frames], self._ready[frames:]
            self._clock.update(self._played, now + ahead)
            self._played += frames
        out[: len(pcm)] = in_channels(pcm, out.shape[1])
        out[len(pcm) :] = 0
        dry = bool(status.output_underflow) or (len(pcm) < frames and self.started_us is not None)
        self.underflows += dry
        self._cushion.block(dry)
        self._wake.set()

    def start(self, pull: Pull) -> None:
        _start(self._stream, self.name)
        self._begin(lambda: self._run(pull))

    def _run(self, pull: Pull) -> None:
        rate = float(self._stream.samplerate)
        resampler = _resampler(self._form.rate, rate, self._form.channels)
        block = round(self._form.rate / BLOCKS_PER_SECOND)
        device_block = rate / BLOCKS_PER_SECOND
        pulled = made = 0
        while not self._stopping.is_set():
            if not self._wake.wait(2):
                raise AudioError(f"the sound device {self.name!r} has stopped taking sound")
            self._wake.clear()
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

    def stop(self) -> None:
        self._wake.set()
        super().stop()
        self._stream.close(ignore_errors=True)
