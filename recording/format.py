"""The bytes of a recording (docs/recordings.md): records of codes and events, framed so that damage
is found and skipped. This module uses no file and no clock."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from earshot.codec.bitstream import Codes, packed_size, unpack
from earshot.codec.errors import AudioError, DataError, UsageError
from earshot.protocol.messages import Name
from earshot.protocol.packet import MAX_CODEBOOKS

MAGIC = b"ESHTREC\n"
VERSION = 1
TICK_US = 100
"""Unit of times since the recording began: 32 bits of it are 59 hours."""
MAX_FRAMES = 96
"""Most frames in one record (1.28 s); with MAX_CODEBOOKS they fit into MAX_BODY."""
MAX_BODY = 4096
HEAD_SEARCH = 1 << 16
"""Bytes at the start within which there must be a header, however damaged the file is."""

_FRONT = struct.Struct("<BBHI")
_CODES = struct.Struct("<HBBIi")
_MARK = 0xA7
_HEADER, _EVENT, _CODES_KIND = 1, 2, 3
_START = re.compile(rb"\xa7[\x01-\x03]")
_TICKS = 1 << 31

Ticks = Annotated[int, Field(ge=-_TICKS, lt=_TICKS)]
Plain = Annotated[str, Field(max_length=200, pattern=r"^[^\p{C}\p{Zl}\p{Zp}]*$")]
"""Text without control characters, because it is shown in terminals."""
Positive = Annotated[int, Field(ge=1, le=1 << 20)]


class _Json(BaseModel):
    """A JSON object. Unknown fields are ignored, so that later versions may add some."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class _Version(_Json):
    version: int


class Header(_Json):
    """What the codes of a recording are, and when it began."""

    version: int = VERSION
    room: Plain
    model: Plain
    digest: Plain
    """Digest of the encoder and codebooks that made the codes; only a decoder trained with these
    can read them."""
    sample_rate: Positive
    hop_length: Positive
    n_codebooks: Annotated[int, Field(ge=1, le=MAX_CODEBOOKS)]
    began: Plain
    """Time at which the recording began, in UTC and ISO 8601."""
    max_kbps: float | None = None
    """Highest rate that was recorded of each speaker; None if everything was recorded."""
    salt: Annotated[int, Field(ge=0, lt=1 << 32)]
    """Start value of the checksums of all other records. Peers cannot guess it, so nobody can send
    codes that look like a record."""


class Event(_Json):
    """An event in the room, `at` ticks after the beginning."""

    type: Literal["joined", "left", "muted", "unmuted", "lost", "ended"]
    at: Ticks
    peer: Annotated[int, Field(ge=0, lt=1 << 16)] = 0
    """Peer that the event concerns; 0 for none in particular."""
    name: Name = ""
    frames: Annotated[int, Field(ge=0)] = 0
    """Frames that could not be written in time, for `lost`."""
    reason: Plain = ""

    @property
    def at_us(self) -> int:
        return self.at * TICK_US


@dataclass(frozen=True)
class Spoken:
    """Consecutive frames of one speaker. `payload` is what `bitstream.pack` returns for their codes
    [n_q, frames]."""

    speaker: int
    n_q: int
    frames: int
    timestamp: int
    """Timestamp of the first sample, on the speaker's own count, modulo 2^32."""
    start: int
    """Latest time at which the first sample can have been spoken, in ticks from the beginning: the
    least, over all frames, of a frame's arrival minus the sound before its end."""
    payload: bytes

    @property
    def start_us(self) -> int:
        return self.start * TICK_US

    def codes(self) -> Codes:
        """Returns the codes, int16 [n_q, frames]."""
        return unpack(self.payload, self.n_q, self.frames)


@dataclass(frozen=True)
class Damage:
    """Bytes that are not a record."""

    at: int
    size: int


Item = Header | Event | Spoken | Damage


def clamp_ticks(us: int) -> int:
    """Converts microseconds to ticks, limited to the range of ticks."""
    return min(max(us // TICK_US, -_TICKS), _TICKS - 1)


def _record(kind: int, body: bytes, salt: int) -> bytes:
    if len(body) > MAX_BODY:
        raise UsageError(f"a record of {len(body)} bytes: at most {MAX_BODY}")
    front = _FRONT.pack(_MARK, kind, len(body), 0)[:4]
    return front + zlib.crc32(body, zlib.crc32(front, salt)).to_bytes(4, "little") + body


def encode_header(header: Header) -> bytes:
    """Returns the beginning of a recording. It holds the header twice, because nothing could be
    read without it."""
    return MAGIC + 2 * _record(_HEADER, header.model_dump_json().encode(), 0)


def encode_event(event: Event, salt: int) -> bytes:
    return _record(_EVENT, event.model_dump_json(exclude_defaults=True).encode(), salt)


def encode_spoken(part: Spoken, salt: int) -> bytes:
    """Returns the record of consecutive frames. Raises UsageError for more frames than a record
    holds."""
    if not 1 <= part.frames <= MAX_FRAMES:
        raise UsageError(f"{part.frames} frames in a record: 1..{MAX_FRAMES} are allowed")
    front = _CODES.pack(part.speaker, part.n_q, part.frames, part.timestamp, part.start)
    return _record(_CODES_KIND, front + part.payload, salt)


class Reader:
    """Parses a recording that is fed in pieces of any size. Damage is reported as `Damage`, and
    reading continues at the next good record. It holds at most a few records beside the piece."""

    def __init__(self) -> None:
        self.header: Header | None = None
        self._buffer = bytearray()
        self._offset = 0
        """Position of the buffer in the recording."""
        self._bad: int | None = None
        """Position where the current damage begins; None outside damage."""
        self._begun = False

    def feed(self, data: bytes) -> Iterator[Item]:
        """Yields the items that these bytes complete. Raises AudioError for bytes that are not a
        recording, and for a later version of the format."""
        self._buffer += data
        return self._take(last=False)

    def close(self) -> Iterator[Item]:
        """Ends the recording: the bytes of an incomplete record are damage."""
        return self._take(last=True)

    def _take(self, last: bool) -> Iterator[Item]:
        at = 0
        if not self._begun:
            if len(self._buffer) < len(MAGIC) and not last:
                return
            self._begun = True
            at = len(MAGIC) if self._buffer.startswith(MAGIC) else 0
        while at < len(self._buffer):
            found = self._record_at(at)
            if isinstance(found, _Unfinished) and not last:
                break
            if not isinstance(found, tuple):
                self._bad = self._offset + at if self._bad is None else self._bad
                following = _START.search(self._buffer, at + 1)
                # The last byte may be the first half of a mark.
                at = following.start() if following else max(at + 1, len(self._buffer) - (not last))
                continue
            end, item = found
            yield from self._end_of_damage(self._offset + at)
            at = end
            if isinstance(item, Header):
                if self.header is not None:
                    continue
                self.header = item
            yield item
        self._offset += at
        del self._buffer[:at]
        if self.header is None and (last or self._offset > HEAD_SEARCH):
            raise AudioError("it is no recording (a server makes those with --record)")
        if last:
            yield from self._end_of_damage(self._offset)

    def _end_of_damage(self, at: int) -> Iterator[Damage]:
        if self._bad is not None:
            yield Damage(self._bad, at - self._bad)
            self._bad = None

    def _record_at(self, at: int) -> tuple[int, Header | Event | Spoken] | _Unfinished | None:
        """Returns the record that begins at `at` and where it ends, or None if there is none."""
        buffer = self._buffer
        if not _START.match(buffer, at):
            return _UNFINISHED if len(buffer) - at < 2 and buffer[at] == _MARK else None
        if len(buffer) - at < _FRONT.size:
            return _UNFINISHED
        _, kind, size, checksum = _FRONT.unpack_from(buffer, at)
        begin, end = at + _FRONT.size, at + _FRONT.size + size
        if size > MAX_BODY or (kind != _HEADER and self.header is None):
            return None
        if len(buffer) < end:
            return _UNFINISHED
        body = bytes(buffer[begin:end])
        salt = 0 if kind == _HEADER or self.header is None else self.header.salt
        if zlib.crc32(body, zlib.crc32(buffer[at : at + 4], salt)) != checksum:
            return None
        item = self._parse(kind, body)
        return None if item is None else (end, item)

    def _parse(self, kind: int, body: bytes) -> Header | Event | Spoken | None:
        try:
            if kind == _HEADER:
                return _parse_header(body)
            if kind == _EVENT:
                return Event.model_validate_json(body)
            speaker, n_q, frames, timestamp, start = _CODES.unpack_from(body)
            payload = body[_CODES.size :]
            most = self.header.n_codebooks if self.header else 0
            if not 1 <= n_q <= most or not 1 <= frames <= MAX_FRAMES or len(payload) != packed_size(n_q, frames):
                return None
            unpack(payload, n_q, frames)
            return Spoken(speaker, n_q, frames, timestamp, start, payload)
        except (ValidationError, DataError, struct.error):
            return None


class _Unfinished:
    """Marks bytes that may become a record when more bytes come."""


_UNFINISHED = _Unfinished()


def _parse_header(body: bytes) -> Header:
    version = _Version.model_validate_json(body).version
    if version != VERSION:
        raise AudioError(f"it is of version {version} of the format; this Earshot reads version {VERSION}")
    return Header.model_validate_json(body)
