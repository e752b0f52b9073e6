"""Sound devices that take only what they have, fail, or are unplugged: a PortAudio of the test's
own."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from earshot.client.audio import devices
from earshot.client.audio.devices import DeviceSink, DeviceSource
from earshot.client.audio.endpoints import Format, in_channels
from earshot.client.audio.portaudio import as_float, fill
from earshot.codec.errors import AudioError
from earshot.codec.pcm import Pcm

TALK, MUSIC = Format(), Format(48_000, 2)


class PortAudioError(Exception):
    pass


class Stream:
    """A device that is driven by a thread, as PortAudio drives a callback."""

    def __init__(self, world: World, kind: str, **asked: Any) -> None:
        world.asked.append((asked["samplerate"], asked["channels"], asked["dtype"]))
        if world.failure:
            raise PortAudioError(world.failure)
        for key, words in (
            ("samplerate", "sample rate"),
            ("channels", "number of channels"),
            ("dtype", "sample format"),
        ):
            if asked[key] not in getattr(world, key):
                raise PortAudioError(f"Error opening Stream: Invalid {words} [PaErrorCode -9997]")
        self.world, self.kind, self.asked = world, kind, asked
        self.samplerate, self.latency, self.closed = asked["samplerate"], 0.01, False
        self.heard: list[np.ndarray] = []
        world.streams.append(self)

    def start(self) -> None:
        if self.world.cannot_start:
            raise PortAudioError(self.world.cannot_start)
        threading.Thread(target=self._run, daemon=True).start()

    def close(self, ignore_errors: bool = True) -> None:
        self.closed = True

    def _run(self) -> None:
        size, channels, dtype = self.asked["blocksize"], self.asked["channels"], self.asked["dtype"]
        most = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
        times = SimpleNamespace(currentTime=0.0, inputBufferAdcTime=-0.01, outputBufferDacTime=0.01)
        status = SimpleNamespace(input_overflow=False, output_underflow=False)
        while not self.closed:
            if self.world.plugged:
                block = np.zeros((size, channels), dtype)
                if self.kind == "input":
                    block[:] = 0.5 * most
                self.asked["callback"](block, size, times, status)
                self.heard.append(block / most)
            time.sleep(0.002)


class World:
    """What a PortAudio has: one device for each way."""

    PortAudioError = PortAudioError
    default = SimpleNamespace(device=(0, 0))

    def __init__(self, rates: Any = (48_000.0,), channels: Any = (1, 2), dtypes: Any = ("float32",)) -> None:
        self.samplerate, self.channels, self.dtype = rates, channels, dtypes
        self.failure = self.cannot_start = ""
        self.plugged = True
        self.asked: list[tuple[float, int, str]] = []
        self.streams: list[Stream] = []
        self.named = "Headset"

    def query_devices(self, wanted: Any, kind: str) -> dict[str, Any]:
        most = max(self.channels)
        own = {"name": self.named, "index": 0, "default_samplerate": 48_000.0}
        return own | {"max_input_channels": most, "max_output_channels": most}

    def InputStream(self, **asked: Any) -> Stream:
        return Stream(self, "input", **asked)

    def OutputStream(self, **asked: Any) -> Stream:
        return Stream(self, "output", **asked)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[World], World]]:
    monkeypatch.setattr(devices, "SILENT_S", 0.1)
    monkeypatch.setattr(devices, "AGAIN_S", 0.05)
    worlds: list[World] = []

    def use(world: World) -> World:
        monkeypatch.setitem(sys.modules, "sounddevice", world)
        worlds.append(world)
        return world

    yield use
    for stream in (stream for world in worlds for stream in world.streams):
        stream.close()


ODD = {
    "what is asked for": ((24_000.0, 48_000.0), (1, 2), ("float32",)),
    "48 kHz alone": ((48_000.0,), (1, 2), ("float32",)),
    "44.1 kHz alone, which is not the rate that it names": ((44_100.0,), (1, 2), ("float32",)),
    "16 kHz alone, as a telephone": ((16_000.0,), (1,), ("int16",)),
    "96 kHz alone": ((96_000.0,), (2,), ("int32",)),
    "stereo alone": ((48_000.0,), (2,), ("float32",)),
    "mono alone": ((48_000.0,), (1,), ("float32",)),
    "eight channels alone": ((48_000.0,), (8,), ("float32",)),
    "16 bits alone": ((48_000.0,), (1, 2), ("int16",)),
    "32 bits alone": ((48_000.0,), (2,), ("int32",)),
    "six channels of 16 bits at 44.1 kHz": ((44_100.0,), (6,), ("int16",)),
}


@pytest.mark.parametrize("kind", [devices.DeviceSource, devices.DeviceSink])
def test_a_device_has_two_blocks_a_frame(kind: Any, use: Callable[[World], World]) -> None:
    """What lies ahead of a loudspeaker is counted in blocks."""
    world = use(World())
    device = kind()
    assert [stream.asked["blocksize"] for stream in world.streams] == [320], "at 48 kHz"
    device.release()


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not done() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert done()


@pytest.mark.parametrize("form", [TALK, MUSIC], ids=["talk", "music"])
@pytest.mark.parametrize("name", ODD)
def test_a_microphone_is_opened_with_what_it_has(name: str, form: Format, use: Callable[[World], World]) -> None:
    use(World(*ODD[name]))
    came: list[Pcm] = []
    source = DeviceSource(None, form)
    source.start(lambda pcm, captured_us: came.append(pcm))
    until(lambda: sum(pcm.shape[-1] for pcm in came) > form.rate // 10)
    source.stop()
    assert source.error is None
    heard = np.concatenate(came, axis=-1)
    assert heard.shape[:-1] == ((2,) if form is MUSIC else ())
    assert heard[..., heard.shape[-1] // 2 :] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("form", [TALK, MUSIC], ids=["talk", "music"])
@pytest.mark.parametrize("name", ODD)
def test_a_loudspeaker_is_opened_with_what_it_has(name: str, form: Format, use: Callable[[World], World]) -> None:
    world = use(World(*ODD[name]))
    sink = DeviceSink(None, form)
    shape = (2,) if form is MUSIC else ()
    sink.start(lambda n, now, heard: np.full((*shape, n), 0.5, np.float32))
    (stream,) = world.streams
    until(lambda: len(stream.heard) > 40)
    sink.stop()
    assert sink.error is None
    played = np.concatenate([block for block in stream.heard if block.any()])[1000:]
    assert np.median(played[:, 0]) == pytest.approx(0.5, abs=0.02)
    assert not played[:, 2:].any(), "the other loudspeakers are silent"


CAUSES = {
    "Device unavailable [PaErrorCode -9985]": 1,
    "Unanticipated host error [PaErrorCode -9999]: 'AUDCLNT_E_DEVICE_IN_USE'": 3,
    "Insufficient memory [PaErrorCode -9992]": 1,
    "Internal PortAudio error [PaErrorCode -9986]": 1,
    "Wait timed out [PaErrorCode -9987]": 1,
}


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("make", [DeviceSource, DeviceSink])
def test_the_error_names_the_cause_and_no_guess(make: Any, cause: str, use: Callable[[World], World]) -> None:
    world = use(World())
    world.failure = cause
    with pytest.raises(AudioError) as error:
        make(None)
    assert f"cannot open the sound device 'Headset' for {'in' if make is DeviceSource else 'out'}put: {cause}" in str(
        error.value
    )
    assert "may hold it" not in str(error.value)
    assert (len(world.asked) == 1) == (CAUSES[cause] == 1), "other formats are tried only where that may help"
    world.failure, world.cannot_start = "", cause
    with pytest.raises(AudioError, match="cannot start the sound device 'Headset'") as error:
        make(None).start(lambda *_: np.zeros(0, np.float32))
    assert cause in str(error.value)


@pytest.mark.parametrize("back", ["the same", "another", "slowly", "another that takes other formats"])
def test_a_microphone_that_was_unplugged_is_taken_up_again(back: str, use: Callable[[World], World]) -> None:
    world = use(World())
    came: list[int] = []
    source = DeviceSource()
    source.start(lambda pcm, captured_us: came.append(captured_us))
    until(lambda: came)
    unplug(world, source, back, "the microphone 'Headset' delivers no sound", lambda: came.clear())
    until(lambda: came and not source.notice)
    assert source.error is None
    late_us = 50_000  # a callback that the machine ran late is taken for one of a little later
    assert all(later > earlier - late_us for earlier, later in pairwise(came))
    source.stop()
    assert world.streams[-1].closed


@pytest.mark.parametrize("back", ["the same", "another", "slowly", "another that takes other formats"])
def test_a_loudspeaker_that_was_unplugged_is_taken_up_again(back: str, use: Callable[[World], World]) -> None:
    world = use(World())
    asked: list[int] = []

    def pull(n: int, now_us: int, heard_us: int) -> Pcm:
        asked.append(heard_us)
        return np.zeros(n, np.float32)

    sink = DeviceSink()
    sink.start(pull)
    until(lambda: asked)
    unplug(world, sink, back, "the loudspeaker 'Headset' takes no sound", lambda: asked.clear())
    until(lambda: asked and not sink.notice)
    assert sink.error is None
    sink.stop()
    assert world.streams[-1].closed


def unplug(world: World, device: Any, back: str, said: str, gone: Callable[[], None]) -> None:
    """Takes the device away until that is said, and gives back the same one or another."""
    world.plugged = False
    until(lambda: device.notice)
    assert said in device.notice
    assert "plug it in, or choose another as the default" in device.notice
    world.failure = "Device unavailable [PaErrorCode -9985]"
    until(lambda: len(world.asked) > len(world.streams))
    gone()
    if back == "slowly":
        time.sleep(0.3)
    if back != "the same":
        world.named = "Loudspeaker of the room"
    if "formats" in back:
        world.samplerate, world.channels, world.dtype = (44_100.0,), (2,), ("int16",)
    world.plugged, world.failure = True, ""


@pytest.mark.parametrize("make", [DeviceSource, DeviceSink])
def test_to_leave_does_not_wait_for_a_device_that_has_gone(make: Any, use: Callable[[World], World]) -> None:
    world = use(World())
    device = make()
    device.start(lambda *arguments: np.zeros(arguments[0] if isinstance(arguments[0], int) else 0, np.float32))
    world.plugged = False
    until(lambda: device.notice)
    world.failure = "Device unavailable"
    device.stop()
    assert device.ended.is_set()
    assert device.error is None


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("of", [1, 2, 6])
def test_channels(of: int, channels: int) -> None:
    pcm = np.arange(of, dtype=np.float32)[None].repeat(4, axis=0)
    mixed = in_channels(pcm, channels)
    assert mixed.shape == (4, channels)
    if of == channels:
        assert np.array_equal(mixed, pcm)
    elif channels == 1:
        assert np.allclose(mixed, pcm.mean())
    else:
        assert np.array_equal(mixed[:, :2], pcm[:, :2] if of > 1 else np.repeat(pcm, 2, axis=1))
        assert not mixed[:, 2:].any()


@pytest.mark.parametrize("dtype", ["float32", "int16", "int32"])
def test_formats_there_and_back(dtype: str) -> None:
    pcm = np.linspace(-1, 1, 9, dtype=np.float32)[:, None]
    out = np.full((12, 2), 7, dtype)
    fill(out, pcm)
    assert not out[9:].any()
    assert as_float(out[:9]) == pytest.approx(np.repeat(pcm, 2, axis=1), abs=1e-4)
