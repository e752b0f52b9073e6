"""The sounds of a listening test: a folder for each clip, `reference.wav` and one file for each
system in it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from earshot.codec.audio_files import is_shadow
from earshot.codec.audio_reader import sound_path
from earshot.codec.errors import AudioError, UsageError
from earshot.lab.listening.anchor import low_pass
from earshot.lab.listening.plan import ANCHOR, REFERENCE

MAX_SECONDS = 60.0
"""The longest clip that `earshot evaluate` writes. BS.1534-3 asks for about 10: browsers hold a
whole page decoded."""
MAX_CHANNELS = 2
AUDIO = "audio"
"""Folder of `earshot evaluate --save-audio` in its --out."""

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """The sounds of one trial.

    `gain` is at most 1, the same for all of them, and keeps the loudest from clipping."""

    folder: Path
    systems: tuple[str, ...]
    sample_rate: int
    samples: int
    channels: int
    gain: float

    def wav(self, condition: str) -> bytes:
        """Returns the sound of a condition as a 16-bit file. All sounds of a clip have the same
        length and header."""
        if condition == ANCHOR:
            pcm = low_pass(_read(self.folder / f"{REFERENCE}.wav")[0], self.sample_rate)
        else:
            pcm = _read(self.folder / f"{condition}.wav")[0]
        file = io.BytesIO()
        soundfile.write(file, np.clip(pcm * self.gain, -1, 1), self.sample_rate, "PCM_16", format="WAV")
        return file.getvalue()


def find_clips(folder: Path, systems: tuple[str, ...] = ()) -> dict[str, Clip]:
    """Returns the clips of a folder by name, with these systems only if any are named.

    Raises UsageError for a folder that is no listening test, AudioError for files that are no
    sound."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    folders = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    if not folders:
        raise _no_trials(folder)
    found = {each.name: {file.stem for file in each.glob("*.wav") if not is_shadow(file)} for each in folders}
    if not any(REFERENCE in sounds for sounds in found.values()) and any((folder / AUDIO).glob(f"*/{REFERENCE}.wav")):
        raise _no_trials(folder)
    everything = set().union(*found.values()) - {REFERENCE}
    if unknown := set(systems) - everything:
        raise UsageError(f"no clip has a system {min(unknown)}; there are: {', '.join(sorted(everything))}")
    wanted = set(systems) or everything
    if not wanted:
        raise UsageError(f"no systems in {folder}: its clips have no sounds but {REFERENCE}.wav")
    for name, files in found.items():
        if missing := (wanted | {REFERENCE}) - files:
            raise UsageError(f"{folder / name} lacks {', '.join(f'{each}.wav' for each in sorted(missing))}")
    return {each.name: _check(each, tuple(sorted(wanted))) for each in folders}


def _no_trials(folder: Path) -> UsageError:
    """Says what a listening test is, and where it may be: `earshot evaluate` puts it into a folder
    of its own."""
    said = f"no trials in {folder}: it has no folders with {REFERENCE}.wav and a file for each system"
    there = next((place for place in (folder / AUDIO, folder.parent) if any(place.glob(f"*/{REFERENCE}.wav"))), None)
    return UsageError(said if there is None else f"{said}; did you mean {there}?")


def _check(folder: Path, systems: tuple[str, ...]) -> Clip:
    reference, rate = _read(folder / f"{REFERENCE}.wav")
    samples, channels = reference.shape
    peak = max(_peak(reference), _peak(low_pass(reference, rate)))
    for system in systems:
        file = folder / f"{system}.wav"
        pcm, its_rate = _read(file)
        if its_rate != rate:
            raise UsageError(f"{file} has {its_rate} samples a second, its reference {rate}")
        if pcm.shape[1] != channels:
            raise UsageError(f"{file} has {pcm.shape[1]} channels, its reference {channels}")
        if len(pcm) != samples:
            raise UsageError(f"{file} is {len(pcm)} samples long, its reference {samples}")
        peak = max(peak, _peak(pcm))
    return Clip(folder, systems, rate, samples, channels, min(1.0, 1 / peak) if peak else 1.0)


def _read(file: Path) -> tuple[Samples, int]:
    """Returns float32 [n, channels] and the sample rate."""
    try:
        with soundfile.SoundFile(sound_path(file)) as sound:
            if sound.frames > MAX_SECONDS * sound.samplerate:
                raise UsageError(f"{file} is longer than {MAX_SECONDS:g} s")
            if sound.channels > MAX_CHANNELS:
                raise UsageError(f"{file} has {sound.channels} channels; a listening test plays up to {MAX_CHANNELS}")
            pcm, rate = sound.read(dtype="float32", always_2d=True), sound.samplerate
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"cannot read {file} as audio: {error}") from error
    if not pcm.size:
        raise AudioError(f"{file} is empty")
    if not np.isfinite(pcm).all():
        raise AudioError(f"{file} has samples that are no numbers")
    return pcm, rate


def _peak(pcm: Samples) -> float:
    return float(np.abs(pcm).max(initial=0))
