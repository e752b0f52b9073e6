"""Sound devices as PortAudio has them: which there are, and streams of them.

The sounddevice package is imported only when a device is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earshot.client.audio.endpoints import Format, in_channels
from earshot.codec.errors import AudioError
from earshot.codec.pcm import Pcm

BLOCKS_PER_SECOND = 150
"""Callbacks of a device: two for each frame. A loudspeaker has four blocks ahead of it, two here
and two in PortAudio, so that with one for each frame sound was 30 ms later."""
RATES = (48_000.0, 44_100.0, 32_000.0, 16_000.0, 96_000.0, 8_000.0)
"""What is tried on a device that takes neither the rate that is wanted nor the one it names."""
FORMATS = ("float32", "int16", "int32")
_ABOUT_FORMATS = ("rate", "channel", "format", "invalid", "combination", "incompatible", "host error")
"""Words of PortAudio's errors after which another format may do."""


@contextmanager
def quiet() -> Iterator[None]:
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


def portaudio() -> ModuleType:
    """Returns the sounddevice module. Raises AudioError where the PortAudio library is missing."""
    try:
        with quiet():
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
    sd = portaudio()
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


def find_device(sd: ModuleType, name: str | None, kind: str) -> dict[str, Any]:
    """Returns what PortAudio says of a device. Raises AudioError where there is none."""
    wanted = int(name) if name is not None and name.isdecimal() else name
    try:
        return dict(sd.query_devices(wanted, kind))
    except (ValueError, sd.PortAudioError) as error:
        what = f"no default sound device for {kind}" if name is None else f"no sound device {name!r} for {kind}"
        detail = " (" + " ".join(str(error).split()) + ")" if "Multiple" in str(error) else ""
        raise AudioError(f"{what}{detail}. `earshot devices` lists them; files can be given instead") from error


def open_stream(kind: str, name: str | None, callback: Any, form: Format) -> Any:
    """Opens a stream: in the format if the device takes that, else with what the device has. What
    comes and goes is then resampled, mixed and converted (`as_float`, `fill`).

    Raises AudioError with the cause that PortAudio gives."""
    sd = portaudio()
    device = find_device(sd, name, kind)
    make = sd.InputStream if kind == "input" else sd.OutputStream
    failures: list[str] = []
    for rate, count, dtype in _tries(device, int(device[f"max_{kind}_channels"]), form):
        try:
            with quiet():
                return make(
                    samplerate=rate,
                    blocksize=round(rate / BLOCKS_PER_SECOND),
                    device=device["index"],
                    channels=count,
                    dtype=dtype,
                    latency="low",
                    callback=callback,
                )
        except (sd.PortAudioError, ValueError) as error:
            failures.append(said_of(error))
            if not any(word in failures[-1].lower() for word in _ABOUT_FORMATS):
                break  # to ask for another format would not help
    raise AudioError(
        f"cannot open the sound device {device['name']!r} for {kind}: {failures[-1]}; `earshot devices` lists all"
    )


def _tries(device: dict[str, Any], most: int, form: Format) -> Iterator[tuple[float, int, str]]:
    """Yields rates, channels and sample formats, the most fitting first."""
    own = float(device["default_samplerate"])
    rates = dict.fromkeys([float(form.rate), own, *RATES])
    counts = dict.fromkeys([form.channels, min(max(most, 1), 2), 1, 2, max(most, 1)])
    near = [(rate, count, "float32") for rate in (float(form.rate), own) for count in counts]
    every = [(rate, count, dtype) for dtype in FORMATS for rate in rates for count in counts]
    yield from dict.fromkeys([*near, *every])


def said_of(error: Exception) -> str:
    """Returns the words of PortAudio, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def start_stream(stream: Any, name: str) -> None:
    """Starts a stream. Raises AudioError, and closes it, where that fails."""
    try:
        with quiet():
            stream.start()
    except Exception as error:
        stream.close(ignore_errors=True)
        raise AudioError(f"cannot start the sound device {name!r}: {said_of(error)}") from error


def as_float(data: NDArray[Any]) -> Pcm:
    """Returns samples of any of FORMATS as float32."""
    if data.dtype == np.float32:
        return data
    return np.asarray(data / -float(np.iinfo(data.dtype).min), np.float32)


def fill(out: NDArray[Any], pcm: Pcm) -> None:
    """Writes samples [n, any] to what a device plays, in its channels and format, and silence
    behind them."""
    mixed = in_channels(pcm, out.shape[1])
    if out.dtype != np.float32:
        most = float(np.iinfo(out.dtype).max)
        mixed = np.rint(np.clip(mixed, -1, 1).astype(np.float64) * most)
    out[: len(mixed)] = mixed
    out[len(mixed) :] = 0
