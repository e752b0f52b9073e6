"""This machine's clock, which every time in the client is measured by."""

from __future__ import annotations

import time


def monotonic_us() -> int:
    """Returns the time of a clock that never goes back, in microseconds."""
    return time.monotonic_ns() // 1000
