"""Which bytes of a file a request asks for (RFC 9110, section 14)."""

from __future__ import annotations

import re

_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


class RangeError(ValueError):
    """Says that a file has none of the bytes asked for."""


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """Returns the first byte and the one after the last that `Range: HEADER` asks for, of `size`
    bytes. None stands for all of them, without a partial answer: for a header that cannot be read,
    and for several ranges at once. Raises RangeError."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:  # the last bytes
        begin, end = max(0, size - int(match[2])), size
    else:
        begin = int(match[1])
        end = min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < begin:
            return None
    if begin >= end:
        raise RangeError
    return begin, end
