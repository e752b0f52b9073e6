"""The bytes of an `.ecdc` file (docs/files.md): its header, and codes in three codings.

Plain codes, and codes with the official language models, are written as the `encodec` package
writes them. Codes with the integer language model are written in a format of our own, in blocks
with a checksum. This module knows neither files nor models: it reads bytes from the caller and
returns bytes. Readers yield all good codes before they raise an error."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from earshot.codec.bitstream import BITS, Codes, pack
from earshot.codec.errors import AudioError
from earshot.codec.lm.arithmetic import ArithmeticDecoder, ArithmeticEncoder, Cdf, Damaged
from earshot.codec.lm.entropy import CodesLm, EntropyDecoder, EntropyEncoder, spans

MAGIC, VERSION = b"ECDC", 0
FRONT = struct.Struct("!4sBI")
"""Magic bytes, version, and length of the JSON header."""
MOST_HEADER, MOST_SAMPLES, MOST_CODEBOOKS = 1 << 16, 1 << 48, 32
BLOCK_FRAMES = 300
"""Frames that are read together, and with the integer model coded together: 4 s at 24 kHz."""
SCALE = struct.Struct("!f")
_LENGTH, _SUM = struct.Struct("!H"), struct.Struct("!I")


_OWN = {"d": "digest", "sr": "sample_rate", "hl": "hop_length", "ld": "lm_digest"}
"""Our additions to the header. The package ignores them."""


@dataclass(frozen=True)
class Header:
    """The header of a file. The first four fields are the package's; files that the package must
    not read have a prefix before the model name."""

    model: str
    samples: int
    n_q: int
    lm: bool
    digest: str | None = None
    """Digest of the codec's weights, if the model name does not identify them."""
    sample_rate: int | None = None
    hop_length: int | None = None
    """Samples in a frame."""
    lm_digest: str | None = None
    """Digest of the integer language model, if the file was coded with one."""

    def to_bytes(self) -> bytes:
        values: dict[str, object] = {"m": self.model, "al": self.samples, "nc": self.n_q, "lm": self.lm}
        values |= {key: value for key, name in _OWN.items() if (value := getattr(self, name)) is not None}
        if self.lm_digest is not None:
            values["li"] = 1
        text = json.dumps(values).encode()
        return FRONT.pack(MAGIC, VERSION, len(text)) + text


def read_header(file: BinaryIO, name: object) -> Header:
    """Reads the header, up to the codes. Raises AudioError, with `name` for the file, for bytes
    that are not an `.ecdc` file."""
    front = file.read(FRONT.size)
    if len(front) < FRONT.size or not front.startswith(MAGIC):
        raise AudioError(f"{name} is no file of codes (those are made by 'earshot encode' or the encodec package)")
    _, version, length = FRONT.unpack(front)
    if version != VERSION:
        raise AudioError(f"{name} is of version {version} of the format; this Earshot reads version {VERSION}")
    if length > MOST_HEADER:
        raise AudioError(f"{name} is damaged: a header of {length} bytes")
    try:
        values = json.loads(file.read(length).decode())
        if not isinstance(values, dict):
            raise ValueError("it is no object")
        own = {name: values.get(key) for key, name in _OWN.items()}
        header = Header(values["m"], values["al"], values["nc"], values["lm"], **own)
        _check(header, values.get("li"))
    except (ValueError, KeyError, RecursionError) as error:
        raise AudioError(f"{name} is damaged: its header does not say what is in it ({error})") from error
    return header


def _check(header: Header, marker: object) -> None:
    numbers = [
        (header.samples, 0, MOST_SAMPLES, "al"),
        (header.n_q, 1, MOST_CODEBOOKS, "nc"),
        (1 if header.sample_rate is None else header.sample_rate, 1, MOST_SAMPLES, "sr"),
        (1 if header.hop_length is None else header.hop_length, 1, MOST_SAMPLES, "hl"),
    ]
    for value, least, most, key in numbers:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{key} is {value!r}")
    texts = [header.model, header.digest or "", header.lm_digest or ""]
    if type(header.lm) is not bool or any(not isinstance(text, str) or not text.isprintable() for text in texts):
        raise ValueError("m, lm, d or ld is no such thing")
    if marker not in (None, 1) or (marker is not None) != (header.lm_digest is not None):
        raise ValueError(f"li is {marker!r}")


class Writer(Protocol):
    def push(self, codes: Codes) -> bytes:
        """Takes the next frames [n_q, k]. Returns the bytes that are decided."""

    def end(self) -> bytes:
        """Ends a window, or a stream without windows. Returns the rest of its bytes; the next
        frames start a new one."""


class Reader(Protocol):
    def read(self, frames: int) -> Iterator[Codes]:
        """Yields the codes of a window, or of a stream without windows, in parts [n_q,
        1..BLOCK_FRAMES].

        If the file ends too soon or is found to be damaged, it yields all that came before and then
        raises EOFError, Damaged or DataError."""


class PlainWriter:
    """Writes 10 bits per code, frame by frame, least significant bit first. Each window takes a
    whole number of bytes."""

    def __init__(self) -> None:
        self._held = np.zeros(0, np.uint16)

    def push(self, codes: Codes) -> bytes:
        held = np.concatenate([self._held, codes.T.reshape(-1).astype(np.uint16)])
        whole = held.size - held.size % 4  # four codes of 10 bits are a whole number of bytes
        self._held = held[whole:]
        return pack(held[:whole])

    def end(self) -> bytes:
        rest, self._held = self._held, self._held[:0]
        return pack(rest)


class PlainReader:
    def __init__(self, file: BinaryIO, n_q: int) -> None:
        self._file, self._n_q = file, n_q

    def read(self, frames: int) -> Iterator[Codes]:
        for first in range(0, frames, BLOCK_FRAMES):
            count = min(BLOCK_FRAMES, frames - first)
            size = -(-count * self._n_q * BITS // 8)
            data = self._file.read(size)
            whole = min(count, len(data) * 8 // (BITS * self._n_q))
            bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: whole * self._n_q * BITS]
            if whole:
                yield (bits.reshape(whole, self._n_q, BITS) @ (1 << np.arange(BITS)).astype(np.int16)).T.astype(
                    np.int16
                )
            if len(data) < size:
                raise EOFError


class Predictor(Protocol):
    """A language model that predicts all codebooks of a frame together."""

    def reset(self) -> None: ...

    def cdfs(self) -> list[Cdf]:
        """Returns the CDF of each codebook of the next frame."""

    def push(self, codes: NDArray[np.integer]) -> None:
        """Takes the codes [n_q] of that frame."""


class LmWriter:
    """Writes codes as the package does with a language model: one arithmetic code for each
    window."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor, self._coder = predictor, ArithmeticEncoder()
        predictor.reset()

    def push(self, codes: Codes) -> bytes:
        for frame in codes.T:
            for code, cdf in zip(frame.tolist(), self._predictor.cdfs(), strict=True):
                self._coder.push(code, cdf)
            self._predictor.push(frame)
        return self._coder.take()

    def end(self) -> bytes:
        self._predictor.reset()
        return self._coder.finish()


class LmReader:
    def __init__(self, file: BinaryIO, n_q: int, predictor: Predictor) -> None:
        self._file, self._n_q, self._predictor = file, n_q, predictor

    def read(self, frames: int) -> Iterator[Codes]:
        self._predictor.reset()
        coder = ArithmeticDecoder(byte[0] for byte in iter(lambda: self._file.read(1), b""))
        for _ in range(frames):
            frame = np.array([coder.pull(cdf) for cdf in self._predictor.cdfs()], np.int16)
            self._predictor.push(frame)
            yield frame[:, None]


class BlockWriter:
    """Writes codes with the integer language model. Each block has the sections of a packet
    (codec/lm/entropy.py), each after its length, and a CRC-32 of them all."""

    def __init__(self, lm: CodesLm) -> None:
        self._encoder = EntropyEncoder(lm)
        self._held: Codes | None = None

    def push(self, codes: Codes) -> bytes:
        held = codes if self._held is None else np.concatenate([self._held, codes], axis=1)
        done = b""
        while held.shape[1] >= BLOCK_FRAMES:
            done += self._block(held[:, :BLOCK_FRAMES])
            held = held[:, BLOCK_FRAMES:]
        self._held = held
        return done

    def end(self) -> bytes:
        rest, self._held = self._held, None
        done = self._block(rest) if rest is not None and rest.size else b""
        self._encoder.reset()
        return done

    def _block(self, codes: Codes) -> bytes:
        data = b"".join(_LENGTH.pack(len(section)) + section for section in self._encoder.encode(codes))
        return data + _SUM.pack(zlib.crc32(data))


class BlockReader:
    def __init__(self, file: BinaryIO, n_q: int, lm: CodesLm) -> None:
        self._file, self._n_q = file, n_q
        self._decoder, self._sections = EntropyDecoder(lm), len(spans(lm.shape, n_q))

    def read(self, frames: int) -> Iterator[Codes]:
        self._decoder.reset()
        for first in range(0, frames, BLOCK_FRAMES):
            sections, seen = [], b""
            for _ in range(self._sections):
                length = exactly(self._file, _LENGTH.size)
                sections.append(exactly(self._file, _LENGTH.unpack(length)[0]))
                seen += length + sections[-1]
            if _SUM.unpack(exactly(self._file, _SUM.size))[0] != zlib.crc32(seen):
                raise Damaged("a checksum does not fit")
            yield self._decoder.decode(sections, self._n_q, min(BLOCK_FRAMES, frames - first))


def exactly(file: BinaryIO, size: int) -> bytes:
    """Reads `size` bytes. Raises EOFError if there are fewer."""
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data
