"""Converts audio files to `.ecdc` files (docs/files.md) and back, in constant memory. The target is
written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile

from earshot.codec.audio_files import mean
from earshot.codec.audio_formats import Written, written_as
from earshot.codec.audio_reader import AudioReader, sound_path
from earshot.codec.bitstream import BITS, Codes, Window
from earshot.codec.ecdc.coding import PLAIN, Coding, coding_to_read
from earshot.codec.ecdc.format import SCALE, Header, Reader, Writer, exactly, read_header
from earshot.codec.errors import AudioError, DataError, UsageError
from earshot.codec.lm.arithmetic import Damaged
from earshot.codec.model.window_streams import WindowDecoder, WindowEncoder
from earshot.codec.pcm import MOST_SCALE, Pcm
from earshot.codec.targets import check_apart, part_of

if TYPE_CHECKING:
    from earshot.codec.config import ModelConfig
    from earshot.codec.model.model import Model

_READ = 65_536

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""


@dataclass(frozen=True)
class Decoded:
    """Result of decoding a file. If the file is damaged, `damage` says how, and `samples` is less
    than the header says."""

    header: Header
    samples: int
    sample_rate: int
    damage: str | None = None


def encode_file(
    model: Model,
    source: Path,
    target: Path,
    kbps: float = 6.0,
    progress: Progress | None = None,
    coding: Coding = PLAIN,
) -> Header:
    """Encodes any audio file to an `.ecdc` file, in the model's channels and at its rate.

    Raises AudioError for files that cannot be read or written (`target` is then as it was before),
    and UsageError for a target that is the source and for a rate that the model does not have."""
    n_q = model.config.n_q(kbps)
    if model.config.codebook_size != 1 << BITS:
        raise UsageError(f"files hold codes of 10 bits; {model.name} has codebooks of {model.config.codebook_size}")
    check_apart([target], [source])
    encoder = model.encoder(kbps, model.config.padding)
    writer, samples = coding.writer(n_q), 0

    def coded(made: Codes | list[Window]) -> bytes:
        if not isinstance(made, list):
            return writer.push(made)
        return b"".join(_window(writer, window) for window in made)

    with _whole(target) as part, tempfile.TemporaryFile(dir=_folder(target)) as body:
        for pcm, in_all in _read(source, model.config):
            samples += pcm.shape[1]
            body.write(coded(encoder.push(pcm if isinstance(encoder, WindowEncoder) else pcm[0])))
            if progress:
                progress(samples, max(in_all, samples))
        body.write(coded(encoder.flush()))
        if not isinstance(encoder, WindowEncoder):
            body.write(writer.end())
        header = coding.header(model, samples, n_q)
        body.seek(0)
        with part.open("wb") as file:
            file.write(header.to_bytes())  # the header holds the length of the audio, which is known only now
            shutil.copyfileobj(body, file)
    return header


def _window(writer: Writer, window: Window) -> bytes:
    scale = b"" if window.scale is None else SCALE.pack(window.scale)
    return scale + writer.push(window.codes) + writer.end()


def decode_file(
    model: Model, source: Path, target: Path, progress: Progress | None = None, lm: Path | None = None
) -> Decoded:
    """Decodes an `.ecdc` file to an audio file in the format of its suffix, exactly as long as the
    original, or up to where the file is damaged.

    `lm` is the file of the language model, if it is not the usual one for this codec. Raises
    AudioError for a source that is not an `.ecdc` file or has nothing left to decode, and for a
    target that cannot be written (it is then as it was before). Raises ModelError if other weights
    made the codes."""
    form = written_as(target)
    check_apart([target], [source])
    with _opened(source) as file:
        header = read_header(file, source)
        coding = coding_to_read(model, header, source, lm)
        left, damage, config = header.samples, None, model.config
        with _whole(target) as part, _audio(part, config, form, target) as audio:
            try:
                for pcm in _decoded(model, header, file, coding.reader(file, header.n_q)):
                    left -= _write(audio, pcm[:, :left], target)
                    if progress:
                        progress(header.samples - left, header.samples)
                if file.read(1):
                    damage = "there are bytes after its end"
            except EOFError:
                damage = "the file ends too soon"
            except (Damaged, DataError) as error:
                damage = str(error)
            if damage and left == header.samples and header.samples:
                raise AudioError(f"{source} is damaged at its beginning: {damage}")
    return Decoded(header, header.samples - left, config.sample_rate, damage)


def read_info(source: Path) -> tuple[Header, int]:
    """Returns the header of a file, and its size in bytes. Raises AudioError if it is not an
    `.ecdc` file."""
    with _opened(source) as file:
        return read_header(file, source), source.stat().st_size


def _decoded(model: Model, header: Header, file: BinaryIO, reader: Reader) -> Iterator[Pcm]:
    """Yields blocks [channels, n]. If the reader raises, the samples that were held are yielded
    first."""
    config = model.config
    if config.window_stride is not None and config.window_length is not None:
        windows = WindowDecoder(model.network)
        try:
            for start in range(0, header.samples, config.window_stride):
                length = min(config.window_length, header.samples - start)
                scale = _scale(file) if config.normalize else None
                parts: list[Codes] = []
                try:
                    parts.extend(reader.read(-(-length // config.hop_length)))
                finally:
                    if parts:
                        yield windows.push([Window(np.concatenate(parts, axis=1), scale)])
        except (EOFError, Damaged, DataError):
            yield windows.flush()
            raise
        yield windows.flush()
    else:
        decoder = model.frame_decoder(config.padding)
        try:
            for codes in reader.read(-(-header.samples // config.hop_length)):
                yield decoder.push(codes)[None]
        except (EOFError, Damaged, DataError):
            yield decoder.flush()[None]
            raise
        yield decoder.flush()[None]


def _scale(file: BinaryIO) -> float:
    scale: float = SCALE.unpack(exactly(file, SCALE.size))[0]
    if not 0 <= scale <= MOST_SCALE:
        raise Damaged(f"a window's scale is {scale:g}")
    return scale


def _read(source: Path, config: ModelConfig) -> Iterator[tuple[Pcm, int]]:
    """Yields blocks [channels, n] at the model's rate, each with the number of samples in the whole
    file."""

    def mix(raw: Pcm) -> Pcm:
        mixed = raw if raw.shape[1] == config.channels else mean(raw)
        return np.broadcast_to(mixed, (len(mixed), config.channels))

    with AudioReader(source) as audio:
        in_all = round(audio.seconds * config.sample_rate)
        for pcm in audio.resampled(config.sample_rate, config.channels, mix):
            yield np.ascontiguousarray(pcm.T), in_all


@contextmanager
def _opened(source: Path) -> Iterator[BinaryIO]:
    try:
        file = source.open("rb")
    except OSError as error:
        raise AudioError(f"cannot read {source}: {error.strerror}") from error
    with file:
        yield file


def _folder(target: Path) -> Path:
    """Returns the folder of `target`. Raises AudioError if it does not exist."""
    if not target.parent.is_dir():
        raise AudioError(f"cannot write {target}: there is no folder {target.parent}")
    return target.parent


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """Yields a path to write to. It becomes `target` if all goes well, and is removed otherwise."""
    part = part_of(target)
    try:
        yield part
        os.replace(part, target)
    except OSError as error:
        raise AudioError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _audio(part: Path, config: ModelConfig, form: Written, target: Path) -> Iterator[soundfile.SoundFile]:
    try:
        file = soundfile.SoundFile(
            sound_path(part), "w", config.sample_rate, config.channels, form.subtype, format=form.format
        )
    except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
        raise AudioError(f"cannot write {target}: {error}") from error
    with file:
        yield file


def _write(audio: soundfile.SoundFile, pcm: Pcm, target: Path) -> int:
    """Writes samples [channels, n]. Returns how many were written."""
    try:
        audio.write(np.clip(pcm.T, -1, 1))
    except soundfile.SoundFileError as error:
        raise AudioError(f"cannot write {target}: {error}") from error
    return int(pcm.shape[1])
