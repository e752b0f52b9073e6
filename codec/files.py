"""Speech in files of codes (docs/files.md): written and read in constant memory, and never half."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import soundfile
import soxr

from codec.bitstream import pack, packed_size, unpack
from codec.errors import AudioError, ModelError, ProtocolError, UsageError
from codec.pcm import Pcm

if TYPE_CHECKING:
    from codec.bitstream import Codes
    from codec.config import Padding
    from codec.model import Model

MAGIC, VERSION = b"ESHT", 1
FRONT = struct.Struct("<4sBxH")
"""Magic, version, length of the JSON header."""
BLOCK_FRAMES = 75
"""Frames packed together: one second."""
MAX_SAMPLES = 1 << 48
_READ = 65_536

Progress = Callable[[int, int], None]
"""(done, all), both in samples."""


@dataclass(frozen=True)
class Header:
    """What is in a file of codes."""

    model: str
    digest: str
    kbps: float
    n_q: int
    start: Padding
    sample_rate: int
    hop_length: int
    samples: int

    def __post_init__(self) -> None:
        kinds = {"str": str, "float": int | float, "int": int, "Padding": str}
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, kinds[str(field.type)]) or isinstance(value, bool):
                raise ValueError(f"{field.name} is {value!r}")
        if not 0 <= self.samples <= MAX_SAMPLES or min(self.n_q, self.sample_rate, self.hop_length) < 1:
            raise ValueError("numbers out of range")
        if self.start not in ("zeros", "reflect"):
            raise ValueError(f"start is {self.start!r}")

    @property
    def frames(self) -> int:
        return -(-self.samples // self.hop_length)

    @property
    def payload_bytes(self) -> int:
        whole, rest = divmod(self.frames, BLOCK_FRAMES)
        return whole * packed_size(self.n_q, BLOCK_FRAMES) + packed_size(self.n_q, rest)

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate


def encode_file(
    model: Model, source: Path, target: Path, kbps: float = 6.0, progress: Progress | None = None
) -> Header:
    """Any audio file -> a file of codes, mixed to mono and resampled to the model's rate.

    Raises AudioError for what cannot be read or written (`target` is then as it was before), UsageError for a rate
    that the model does not have."""
    start = model.config.padding
    encoder = model.frame_encoder(kbps, start)
    if model.config.codebook_size != 1024:
        raise UsageError(f"files hold codes of 10 bits; {model.name} has codebooks of {model.config.codebook_size}")
    header = Header(
        model.name, model.digest, kbps, model.config.n_q(kbps), start, model.sample_rate, model.hop_length, MAX_SAMPLES
    )
    samples, waiting = 0, np.zeros((header.n_q, 0), np.int16)
    with _whole(target) as part, part.open("wb") as file:
        front = _front(header)
        file.write(front)
        for pcm, in_all in _read(source, model.sample_rate):
            samples += pcm.size
            waiting = _write_blocks(file, np.concatenate([waiting, encoder.push(pcm)], axis=1))
            if progress:
                progress(samples, max(in_all, samples))
        waiting = _write_blocks(file, np.concatenate([waiting, encoder.flush()], axis=1))
        file.write(pack(waiting))
        header = Header(**{**asdict(header), "samples": samples})
        file.seek(0)
        file.write(_front(header, len(front)))
    return header


def decode_file(model: Model, source: Path, target: Path, progress: Progress | None = None) -> Header:
    """A file of codes -> an audio file in the format of its suffix, exactly as long as what was encoded.

    Raises AudioError for what is no file of codes, is cut or damaged, or cannot be written (`target` is then as it
    was before), ModelError if other weights made the codes."""
    form = target.suffix.lstrip(".").upper()
    if form not in soundfile.available_formats():
        raise AudioError(f"cannot write audio to {target}: end its name in .wav, .flac or .ogg")
    with _opened(source) as file:
        header = _header(file, source)
        if header.digest != model.digest:
            raise ModelError(
                f"{source} was made by the model {header.model!r} ({header.digest}), not by {model.name!r} "
                f"({model.digest}); name that model with --model"
            )
        decoder = model.frame_decoder(header.start)
        with _whole(target) as part, _audio(part, header.sample_rate, form, target) as audio:
            left = header.samples
            for codes in _blocks(file, header, source):
                left -= _write(audio, decoder.push(codes)[:left], target)
                if progress:
                    progress(header.samples - left, header.samples)
            left -= _write(audio, decoder.flush()[:left], target)
    return header


def read_header(source: Path) -> Header:
    """What a file of codes says of itself. Raises AudioError if it is none, or not as long as it says."""
    with _opened(source) as file:
        return _header(file, source)


def _front(header: Header, size: int = 0) -> bytes:
    """The bytes before the codes, filled up with spaces to `size`."""
    length = max(0, size - FRONT.size)
    text = json.dumps(asdict(header)).encode().ljust(length)
    return FRONT.pack(MAGIC, VERSION, len(text)) + text


def _header(file: BinaryIO, source: Path) -> Header:
    """Reads up to the codes."""
    front = file.read(FRONT.size)
    if len(front) < FRONT.size or not front.startswith(MAGIC):
        raise AudioError(f"{source} is no file of codes (those are made by 'earshot encode')")
    _, version, length = FRONT.unpack(front)
    if version != VERSION:
        raise AudioError(f"{source} is of version {version} of the format; this Earshot reads version {VERSION}")
    try:
        values: dict[str, Any] = json.loads(file.read(length))
        header = Header(**values)
    except (ValueError, TypeError, RecursionError) as error:
        raise AudioError(f"{source} is damaged: its header does not say what is in it ({error})") from error
    missing = FRONT.size + length + header.payload_bytes - source.stat().st_size
    if missing:
        raise AudioError(f"{source} is damaged: {abs(missing)} bytes {'are missing' if missing > 0 else 'too many'}")
    return header


def _blocks(file: BinaryIO, header: Header, source: Path) -> Iterator[Codes]:
    """int16 [n_q, 1..BLOCK_FRAMES] at a time."""
    for first in range(0, header.frames, BLOCK_FRAMES):
        frames = min(BLOCK_FRAMES, header.frames - first)
        try:
            yield unpack(file.read(packed_size(header.n_q, frames)), header.n_q, frames)
        except ProtocolError as error:
            raise AudioError(f"{source} is damaged at second {first // BLOCK_FRAMES}: {error}") from error


def _write_blocks(file: BinaryIO, codes: Codes) -> Codes:
    """Writes the whole blocks of [n_q, k]; returns the frames left over."""
    while codes.shape[1] >= BLOCK_FRAMES:
        file.write(pack(codes[:, :BLOCK_FRAMES]))
        codes = codes[:, BLOCK_FRAMES:]
    return codes


def _read(source: Path, sample_rate: int) -> Iterator[tuple[Pcm, int]]:
    """Mono blocks at `sample_rate`, each with the samples that there will be in all."""
    if not source.exists():
        raise AudioError(f"cannot read {source}: there is no such file")
    try:
        with soundfile.SoundFile(source) as file:
            in_all = round(file.frames * sample_rate / file.samplerate)
            resampler = soxr.ResampleStream(file.samplerate, sample_rate, 1, dtype="float32")
            while True:
                pcm = file.read(_READ, dtype="float32", always_2d=True).mean(axis=1)
                last = pcm.size < _READ
                if file.samplerate != sample_rate:
                    pcm = resampler.resample_chunk(pcm, last=last)
                yield pcm, in_all
                if last:
                    return
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"cannot read {source} as audio: {error}") from error


@contextmanager
def _opened(source: Path) -> Iterator[BinaryIO]:
    try:
        file = source.open("rb")
    except OSError as error:
        raise AudioError(f"cannot read {source}: {error.strerror}") from error
    with file:
        yield file


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A name to write to that becomes `target` when all went well, and is removed otherwise."""
    part = target.with_name(f"{target.name}.part")
    try:
        yield part
        os.replace(part, target)
    except OSError as error:
        raise AudioError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _audio(part: Path, sample_rate: int, form: str, target: Path) -> Iterator[soundfile.SoundFile]:
    try:
        file = soundfile.SoundFile(part, "w", sample_rate, 1, format=form)
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise AudioError(f"cannot write {target}: {error}") from error
    with file:
        yield file


def _write(audio: soundfile.SoundFile, pcm: Pcm, target: Path) -> int:
    """Returns how many samples were written."""
    try:
        audio.write(np.clip(pcm, -1, 1))
    except soundfile.SoundFileError as error:
        raise AudioError(f"cannot write {target}: {error}") from error
    return int(pcm.size)
