"""The server's clock, which never goes back."""

from __future__ import annotations

import time


def clock_us() -> int:
    """Returns microseconds since some moment in the past."""
    return time.monotonic_ns() // 1000
