"""How long what was given to a socket has waited there, from how many bytes are still on their
way."""

from __future__ import annotations

from collections import deque

MAX_NOTED = 1024
"""Messages that are noted; more than wait in 10 s."""
TLS_BYTES = 22
"""What TLS 1.3 adds to a message."""


class Backlog:
    """Notes what was written to one socket and when."""

    def __init__(self, headers: int) -> None:
        """`headers` is what each message has around it, above TCP."""
        self._headers = headers
        self._written: deque[tuple[int, int]] = deque(maxlen=MAX_NOTED)

    def add(self, now_us: int, size: int) -> None:
        """Notes that a message of `size` bytes was given to the socket."""
        self._written.append((now_us, size + self._headers))

    def age_us(self, waiting_bytes: int, now_us: int) -> int:
        """Returns the age of the oldest message of which something is among the last
        `waiting_bytes`, those that the other end has not acknowledged; 0 if there are none."""
        if waiting_bytes <= 0:
            self._written.clear()
        oldest_us, rest = now_us, waiting_bytes
        for at_us, size in reversed(self._written):
            if rest <= 0:
                break
            oldest_us, rest = at_us, rest - size
        return max(now_us - oldest_us, 0)
