"""The true length of a FLAC recording, from its last frame. Its header has 0 where the program that
wrote it was killed or wrote into a pipe, and libsndfile reads no more than a header says."""

from __future__ import annotations

import mmap

SEARCHED = 1 << 20
"""Bytes at the end in which a frame begins."""
TOTAL_AT = 21
"""Place of the length (36 bits, the upper 4 of which share a byte) behind the beginning."""
_SIZES = {
    1: 192,
    **{code: 576 << (code - 2) for code in range(2, 6)},
    **{code: 256 << (code - 8) for code in range(8, 16)},
}


def true_length(data: mmap.mmap, start: int, end: int) -> dict[int, bytes]:
    """Returns the bytes of a recording's header with the length that it has, by their place; none
    if the header says that already, or if nobody can tell."""
    usual = int.from_bytes(data[start + 10 : start + 12], "big")
    said = int.from_bytes(data[start + TOTAL_AT : start + TOTAL_AT + 5], "big")
    upper, said = said >> 36 << 36, said & ((1 << 36) - 1)
    at, first = end, max(end - SEARCHED, start + 42)
    for _ in range(100_000):
        at = data.rfind(b"\xff", first, at)
        if at < 0:
            return {}
        if at + 16 <= end and data[at + 1] in (0xF8, 0xF9) and (found := _end_of(data[at : at + 16], usual)):
            return {} if found <= said else {start + TOTAL_AT: (upper | found).to_bytes(5, "big")}
    return {}


def _end_of(head: bytes, usual: int) -> int:
    """Returns how many samples there are up to the end of the frame with this head; 0 if it is
    none."""
    code, number = head[2] >> 4, head[4]
    more = 0
    while more < 7 and number & (0x80 >> more):
        more += 1
    if more == 1 or more > 7 or head[3] & 1:
        return 0
    length = max(more, 1)
    number &= 0x7F >> more
    for byte in head[5 : 4 + length]:
        if byte >> 6 != 2:
            return 0
        number = number << 6 | byte & 0x3F
    at = 4 + length
    size = _SIZES.get(code, 0)
    if code in (6, 7):
        size = int.from_bytes(head[at : at + code - 5], "big") + 1
        at += code - 5
    at += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if not size or at >= len(head) or _crc8(head[:at]) != head[at]:
        return 0
    return number + size if head[1] == 0xF9 else number * usual + size


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF
    return crc
