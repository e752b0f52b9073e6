"""Finds the recordings in an audio file: there may be several, one behind the other, and what the
header of one says of its length may be wrong, because the program that wrote it was killed or wrote
into a pipe.

libsndfile reads only the first of several, and believes headers."""

from __future__ import annotations

import io
import mmap
import re
from dataclasses import dataclass, field
from pathlib import Path

from earshot.codec.flac_frames import true_length

_UNKNOWN = b"\xff\xff\xff\xff"
"""What a header says of a length that its program does not know."""
_RIFF = (b"RIFF", b"RIFX", b"RF64")
_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_MP3 = re.compile(rb"\xff[\xe2-\xff][\x00-\xff]{2}(?:\x00{32}|\x00{17}|\x00{9})(?:Xing|Info)")
_NO_SOUND = (b"TAG", b"ID3", b"APETAGEX", b"LYRICS")
"""What other programs put behind the sound."""


@dataclass
class Section:
    """A recording in a file: the bytes from `start` to `end`, some of which are read as others."""

    path: Path
    start: int
    end: int
    patches: dict[int, bytes] = field(default_factory=dict)
    """Bytes by their place in the file."""

    def open(self) -> io.RawIOBase:
        """Opens it as a file of its own."""
        return _Part(self)


class _Part(io.RawIOBase):
    def __init__(self, section: Section) -> None:
        self._section, self._at = section, 0
        self._file = section.path.open("rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        size = self._section.end - self._section.start
        self._at = max(offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: size}[whence], 0)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        at = self._section.start + self._at
        size = max(min(len(buffer), self._section.end - at), 0)
        self._file.seek(at)
        data = bytearray(self._file.read(size))
        for place, patch in self._section.patches.items():
            for index, byte in enumerate(patch, place - at):
                if 0 <= index < len(data):
                    data[index] = byte
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def sections(path: Path) -> list[Section]:
    """Returns the recordings of a file that is not empty; of a format that is not known here, the
    whole file. Raises OSError."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        starts, patches = [0], dict[int, bytes]()
        magic = data[:4]
        if magic in _RIFF:
            starts, patches = _riff(data)
        elif magic == b"FORM":
            starts = _chain(data, magic, lambda at: 8 + int.from_bytes(data[at + 4 : at + 8], "big"))
        elif magic == b".snd":
            starts, patches = _au(data)
        elif magic == b"OggS":
            starts = _ogg(data)
        elif found := [match.start() for match in _FLAC.finditer(data)] if b"fLaC" in data[:65536] else []:
            starts = [0, *found[1:]]
            for start, end in zip(found, [*found[1:], len(data)], strict=True):
                patches |= true_length(data, start, end)
        elif magic[:3] == b"ID3" or magic[:1] == b"\xff":
            starts = [0, *(match.start() for match in _MP3.finditer(data))][:1000]
            if len(starts) > 1:  # the first tag is that of the first recording
                del starts[1]
        size = len(data)
    found_sections = [Section(path, start, end) for start, end in zip(starts, [*starts[1:], size], strict=True)]
    for section in found_sections:
        section.patches = {at: patch for at, patch in patches.items() if section.start <= at < section.end}
    return found_sections


def _chain(data: mmap.mmap, magic: bytes, length: object) -> list[int]:
    """Returns where recordings begin, each of which says how long it is."""
    starts, at = [0], 0
    assert callable(length)  # noqa: S101 -- for mypy
    while (step := int(length(at))) > 8 and (at := at + step) < len(data) and len(starts) < 1000:
        if data[at : at + 4] != magic:
            break
        starts.append(at)
    return starts


def _au(data: mmap.mmap) -> tuple[list[int], dict[int, bytes]]:
    starts, patches, at = list[int](), dict[int, bytes](), 0
    while data[at : at + 4] == b".snd" and len(starts) < 1000:
        starts.append(at)
        body, size = (int.from_bytes(data[at + place : at + place + 4], "big") for place in (4, 8))
        if size == 0 and at + body < len(data):
            patches[at + 8] = _UNKNOWN
            break
        at += max(body + size, 24)
    return starts, patches


def _ogg(data: mmap.mmap) -> list[int]:
    """Follows the pages. One that begins a stream behind one that goes on begins a recording."""
    starts, at, going_on = [0], 0, False
    while data[at : at + 4] == b"OggS" and at + 27 <= len(data):
        begins, segments = bool(data[at + 5] & 2), data[at + 26]
        if begins and going_on:
            starts.append(at)
        going_on = not begins
        at += 27 + segments + sum(data[at + 27 : at + 27 + segments])
    return starts


def _riff(data: mmap.mmap) -> tuple[list[int], dict[int, bytes]]:
    starts, patches, at = [0], dict[int, bytes](), 12
    order = "big" if data[:4] == b"RIFX" else "little"
    while at + 8 <= len(data) and len(starts) < 1000:
        if data[at : at + 4] in _RIFF:
            starts.append(at)
            at += 12
            continue
        size = int.from_bytes(data[at + 4 : at + 8], order)  # type: ignore[arg-type]
        body, following = at + 8, at + 8 + size + size % 2
        if data[at : at + 4] == b"data" and size != 0xFFFFFFFF and body < len(data) and not _ends(data, following):
            patches |= {at + 4: _UNKNOWN, starts[-1] + 4: _UNKNOWN}
            break
        at = following
    return starts, patches


def _ends(data: mmap.mmap, at: int) -> bool:
    """Returns whether the sound can end here: at the end of the file, or before what is none."""
    if at + 8 > len(data):
        return True
    if data[at : at + 4] in _RIFF or any(data[at : at + 8].startswith(tag) for tag in _NO_SOUND):
        return True
    size = int.from_bytes(data[at + 4 : at + 8], "little")
    if all(32 <= byte < 127 for byte in data[at : at + 4]) and at + 8 + size <= len(data) + 1:
        return True
    return not any(data[at : at + 65536])  # padding
