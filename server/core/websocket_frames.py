"""Where the frames of a WebSocket begin and end in the bytes that come (RFC 6455, section 5.2).

This is no parser: websockets parses. It finds the one kind of frame that carries all media, a whole
masked binary message, so that such a message needs no parser; and it follows all other frames just
far enough to know where the next one begins."""

from __future__ import annotations

import struct

MASK_BYTES = 4
_BINARY, _MASKED, _LENGTH_16, _LENGTH_64 = 0x82, 0x80, 126, 127
_SHORT_HEAD, _LONG_HEAD = struct.Struct(">BB"), struct.Struct(">BBH")


def whole_binary(data: bytes, at: int, most: int) -> tuple[int, int] | None:
    """Returns where the payload begins and ends, if a frame begins at `at` that is a whole binary
    message from a client (not fragmented, no extension, masked) and lies in `data` entirely; None
    if it is any other frame, or longer than `most` bytes. The mask is the `MASK_BYTES` before the
    payload."""
    if len(data) - at < 2 or data[at] != _BINARY or data[at + 1] < _MASKED:
        return None
    size, body = data[at + 1] & ~_MASKED, at + 2 + MASK_BYTES
    if size >= _LENGTH_16:
        if size == _LENGTH_64 or len(data) < at + 4:
            return None
        size, body = data[at + 2] << 8 | data[at + 3], body + 2
        if size < _LENGTH_16:
            return None  # the longer form for a short message: whoever parses decides
    end = body + size
    return (body, end) if end <= len(data) and end - at <= most else None


def binary_head(size: int) -> bytes:
    """Returns what stands before a binary message of `size` bytes (below 65,536) to a client."""
    if size < _LENGTH_16:
        return _SHORT_HEAD.pack(_BINARY, size)
    return _LONG_HEAD.pack(_BINARY, _LENGTH_16, size)


class FrameEnds:
    """Follows the frames of a stream that comes in pieces."""

    def __init__(self) -> None:
        self._head = b""
        self._owed = 0

    @property
    def between(self) -> bool:
        """Whether the next byte begins a frame."""
        return not self._owed and not self._head

    def follow(self, piece: bytes) -> None:
        """Takes in the next piece of the stream."""
        data, at = self._head + piece, self._owed
        while at < len(data):
            end = _end_of_frame(data, at)
            if end is None:
                break
            at = end
        self._head, self._owed = data[at:], max(0, at - len(data))


def _end_of_frame(data: bytes, at: int) -> int | None:
    """Returns where the frame at `at` ends; None if its head is not whole."""
    if len(data) - at < 2:
        return None
    size, body = data[at + 1] & ~_MASKED, at + 2
    long = {_LENGTH_16: 2, _LENGTH_64: 8}.get(size, 0)
    if len(data) < body + long:
        return None
    if long:
        size = int.from_bytes(data[body : body + long], "big")
    return body + long + (MASK_BYTES if data[at + 1] & _MASKED else 0) + size
