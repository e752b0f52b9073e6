"""Exports a recording as audio: a mix, or a file for each speaker, on the server's clock and in
constant memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import soundfile

from earshot.codec.audio_reader import sound_path
from earshot.codec.errors import AudioError, ModelError, UsageError
from earshot.codec.pcm import Pcm, soft_limit
from earshot.codec.targets import check_apart, part_of
from earshot.recording.alignment import EARLY_S, LOOK_S, Aligner, Fader
from earshot.recording.description import Description, Speaker, clock, describe, read_items
from earshot.recording.format import TICK_US, Spoken

if TYPE_CHECKING:
    from earshot.codec.model.model import Model

FORMATS = ("wav", "flac")
WAV_BYTES = (1 << 32) - 4096
"""Size limit of WAV, whose header counts bytes in 32 bits."""
BEHIND_S = LOOK_S + EARLY_S + 3.0
"""No more sound comes for times this far back: Aligner holds records for LOOK_S, may move them by
EARLY_S, and a few records may be late."""

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all) of the recording."""


@dataclass
class Exported:
    """Result of an export."""

    description: Description
    files: list[Path] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Returns what was written and what is missing, a sentence per line."""
        length = clock(self.description.seconds)
        return [*(f"{file}: {length}" for file in self.files), *self.description.remarks()]


class _Out(Protocol):
    """A destination of sound. `add` may be called for any speaker, at any position not long before
    the last one."""

    def add(self, speaker: int, position: int, pcm: Pcm) -> None: ...
    def left(self, speaker: int) -> None: ...
    def pass_by(self, position: int) -> None: ...
    def finish(self) -> None: ...


def export_recording(
    model: Model,
    source: Path,
    mix: Path | None = None,
    folder: Path | None = None,
    form: str = "flac",
    progress: Progress | None = None,
) -> Exported:
    """Decodes a recording into the file `mix`, and into a file of the format `form` ("wav" or
    "flac") for each speaker in `folder`. All files are mono at the model's rate, as long as the
    recording, and silent where nothing was said.

    Raises AudioError for a file that is not a recording or cannot be written (no file is then left
    half written), ModelError if other weights made the codes, and UsageError for unknown formats.
    Damage is reported in the result."""
    found = describe(source)
    _check(found, model)
    if mix is not None:
        check_apart([mix], [source])
    made = Exported(found)
    samples = round(found.seconds * model.sample_rate)
    with ExitStack() as stack:
        outs: list[_Out] = []
        if mix is not None:
            sound = _Sound(mix, _format_of(mix, samples), model.sample_rate, samples)
            stack.callback(sound.discard)
            outs.append(_Mix(sound, model.sample_rate))
            made.files.append(mix)
        if folder is not None:
            names = speaker_files(folder, found, form)
            _check_size(form, samples)
            with _written(folder):
                folder.mkdir(parents=True, exist_ok=True)
            tracks = _Tracks(names, form, model.sample_rate, samples)
            stack.callback(tracks.discard)
            outs.append(tracks)
            made.files += names.values()
        for read in _decode(model, found, outs):
            if progress:
                progress(min(read, samples), samples)
        for out in outs:
            out.finish()
        if progress:
            progress(samples, samples)
    return made


def _check(found: Description, model: Model) -> None:
    header = found.header
    if header.digest != model.digest:
        raise ModelError(
            f"{found.path} was recorded with the model {header.model!r} ({header.digest}), not with {model.name!r} "
            f"({model.digest}); name that model with --model"
        )
    shape = header.sample_rate, header.hop_length, header.n_codebooks
    if shape != (model.sample_rate, model.hop_length, model.config.n_codebooks):
        raise AudioError(f"{found.path} is damaged: its header says {shape} of the model {model.digest}")


def _format_of(target: Path, samples: int) -> str:
    form = target.suffix.lstrip(".").lower()
    if form not in FORMATS:
        raise UsageError(f"cannot write a mix to {target}: end its name in .wav or .flac")
    _check_size(form, samples)
    return form


def _check_size(form: str, samples: int) -> None:
    if form not in FORMATS:
        raise UsageError(f"there is no format {form!r} here: choose wav or flac")
    if form == "wav" and samples * 2 > WAV_BYTES:
        raise UsageError("this recording is too long for WAV (4 GB): choose FLAC")


def speaker_files(folder: Path, found: Description, form: str) -> dict[int, Path]:
    """Returns a path for each speaker with sound. Their names are reduced to characters that any
    file system allows."""

    def plain(speaker: Speaker) -> str:
        kept = "".join(letter if letter.isalnum() else "_" for letter in speaker.name).strip("_")[:40]
        return f"{speaker.id:03d}{'-' if kept else ''}{kept}.{form}"

    return {speaker.id: folder / plain(speaker) for speaker in found.speakers.values() if speaker.frames}


class _Voice:
    """Decodes one speaker's records and aligns them."""

    def __init__(self, model: Model, records: int) -> None:
        self.aligner = Aligner(model.sample_rate, model.hop_length)
        self.left = records
        """Records that are still to come."""
        self._decoder = model.frame_decoder("zeros")
        self._fader = Fader(model.sample_rate)

    def take(self, now: int | None) -> Iterator[tuple[int, Pcm]]:
        """Yields (position, samples) of all records that can be aligned when the recording has been
        read up to sample `now`."""
        # After the last record of a speaker there is nothing to wait for.
        for aligned in self.aligner.take(now if self.aligner.waiting < self.left else None):
            pcm = self._decoder.push(aligned.record.codes())
            yield from self._fader.push(aligned.position + aligned.skip, pcm[aligned.skip :], aligned.skip > 0)
            self.left -= 1
        if not self.left:
            yield from self._fader.end()


def _decode(model: Model, found: Description, outs: Sequence[_Out]) -> Iterator[int]:
    """Reads the recording once more and passes all of its sound to `outs`. Yields how far it has
    come, in samples."""
    rate, voices, now, passed = model.sample_rate, dict[int, _Voice](), 0, 0
    for item, _ in read_items(found.path, found.size):
        if not isinstance(item, Spoken):
            continue
        if item.speaker not in voices:
            voices[item.speaker] = _Voice(model, found.speakers[item.speaker].records)
        voices[item.speaker].aligner.add(item)
        now = max(now, item.start * rate * TICK_US // 1_000_000 + item.frames * model.hop_length)
        if now - passed >= rate:
            passed = now
            _pass_on(model, voices, now, outs)
            yield now
    _pass_on(model, voices, None, outs)
    yield now


def _pass_on(model: Model, voices: dict[int, _Voice], now: int | None, outs: Sequence[_Out]) -> None:
    for speaker, voice in list(voices.items()):
        for position, pcm in voice.take(now):
            for out in outs:
                out.add(speaker, position, pcm)
        if not voice.left:
            del voices[speaker]
            for out in outs:
                out.left(speaker)
    if now is not None:
        for out in outs:
            out.pass_by(now - round(BEHIND_S * model.sample_rate))


class _Sound:
    """An audio file of a known length that is written from beginning to end."""

    def __init__(self, target: Path, form: str, sample_rate: int, samples: int) -> None:
        self._target, self._part = target, part_of(target)
        self._samples, self._chunk = samples, sample_rate
        self.position = 0
        with _written(target):
            self._file = soundfile.SoundFile(sound_path(self._part), "w", sample_rate, 1, "PCM_16", format=form.upper())

    def write(self, position: int, pcm: Pcm) -> None:
        """Writes silence up to `position`, then `pcm`. Samples before or after the file are left
        out."""
        pcm = pcm[max(self.position - position, 0) : max(self._samples - position, 0)]
        while (silent := min(position, self._samples) - self.position) > 0:
            self._put(np.zeros(min(silent, self._chunk), np.float32))
        if pcm.size:
            self._put(pcm)

    def _put(self, pcm: Pcm) -> None:
        with _written(self._target):
            self._file.write(np.clip(pcm, -1, 1))
        self.position += pcm.size

    def finish(self) -> None:
        """Writes silence up to the end, and gives the file its name."""
        self.write(self._samples, np.zeros(0, np.float32))
        with _written(self._target):
            self._file.close()
            os.replace(self._part, self._target)

    def discard(self) -> None:
        """Removes the file if it is not finished."""
        with suppress(soundfile.SoundFileError):
            self._file.close()
        self._part.unlink(missing_ok=True)


@contextmanager
def _written(target: Path) -> Iterator[None]:
    try:
        yield
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"cannot write {target}: {getattr(error, 'strerror', None) or error}") from error


class _Mix:
    """Adds up all speakers in one file."""

    def __init__(self, sound: _Sound, sample_rate: int) -> None:
        self._sound, self._chunk = sound, sample_rate
        self._sum = np.zeros(0, np.float32)
        """Samples from the position of `_sound` on."""

    def add(self, speaker: int, position: int, pcm: Pcm) -> None:
        at = position - self._sound.position
        pcm, at = pcm[max(-at, 0) :], max(at, 0)
        if at + pcm.size > self._sum.size:
            self._sum = np.concatenate([self._sum, np.zeros(at + pcm.size - self._sum.size + self._chunk, np.float32)])
        self._sum[at : at + pcm.size] += pcm

    def left(self, speaker: int) -> None:
        pass

    def pass_by(self, position: int) -> None:
        done = position - self._sound.position
        if done > 0:
            self._sound.write(self._sound.position, soft_limit(self._sum[:done]))
            self._sum = self._sum[done:].copy()

    def finish(self) -> None:
        self.pass_by(self._sound.position + self._sum.size)
        self._sound.finish()


class _Tracks:
    """Writes a file for each speaker, which is open while the speaker is in the room."""

    def __init__(self, names: dict[int, Path], form: str, sample_rate: int, samples: int) -> None:
        self._names, self._settings = names, (form, sample_rate, samples)
        self._open: dict[int, _Sound] = {}

    def add(self, speaker: int, position: int, pcm: Pcm) -> None:
        if speaker not in self._open:
            self._open[speaker] = _Sound(self._names[speaker], *self._settings)
        self._open[speaker].write(position, pcm)

    def left(self, speaker: int) -> None:
        if speaker in self._open:
            self._open[speaker].finish()
            del self._open[speaker]

    def pass_by(self, position: int) -> None:
        pass

    def finish(self) -> None:
        pass

    def discard(self) -> None:
        for sound in self._open.values():
            sound.discard()
