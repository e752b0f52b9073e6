"""Chooses a source or a sink by the name that a user gives."""

from __future__ import annotations

from pathlib import Path

from earshot.client.audio.devices import DeviceSink, DeviceSource
from earshot.client.audio.endpoints import TALK, Format, NoSink, NoSource, Sink, Source
from earshot.client.audio.files import FileSink, FileSource
from earshot.client.audio.portaudio import find_device, portaudio
from earshot.codec.audio_formats import is_audio_name
from earshot.codec.errors import AudioError


def is_file(name: str) -> bool:
    """Returns whether a source or sink of this name is a file, not a sound device."""
    return is_audio_name(Path(name)) or Path(name).is_file()


def check_devices(source: str | None, sink: str | None) -> None:
    """Raises AudioError where either name is that of a sound device which is not there."""
    for name, kind in ((source, "input"), (sink, "output")):
        if name is None or (name not in (NoSource.name, NoSink.name) and not is_file(name)):
            find_device(portaudio(), name, kind)


def open_source(name: str | None, loop: bool = False, form: Format = TALK) -> Source:
    """Opens a source by name.

    The name is that of a file (by its suffix, or because there is one), "none", or a sound device's
    number or part of its name. None is the default device. Raises AudioError."""
    if name is not None and is_file(name):
        return FileSource(Path(name), loop, form)
    if loop:
        raise AudioError("only a file can be played in a loop")
    if name == NoSource.name:
        return NoSource()
    return DeviceSource(name, form)


def open_sink(name: str | None, form: Format = TALK) -> Sink:
    """Opens a sink by a name as `open_source` takes it. A file is created or overwritten when the
    sink starts. Raises AudioError, for a file also where its name says no format that is
    written."""
    if name is not None and is_file(name):
        return FileSink(Path(name), form)
    if name == NoSink.name:
        return NoSink()
    return DeviceSink(name, form)
