"""What server/net/transport/ offers a connection beyond ASGI, by the names under which it is in
the scope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

LAST_WORDS = "earshot.last_words"
"""A function after which what is sent waits for no buffer."""
SHORT_CUT = "earshot.short_cut"
"""A `ShortCut`."""
PROGRESS = "earshot.progress"
"""A function that an answer calls which may take longer than one: each time that the client has
taken a part of it, it has as long for the next."""
CLOSE_REASON_BYTES = 123
"""RFC 6455, section 5.5: a control frame holds 125 bytes, two of which are the code."""


class ShortCut(Protocol):
    """The way of media around tasks and queues, for when nothing else is on its way."""

    media: Callable[[bytes], None] | None
    """Gets binary messages as they come; it may not raise."""

    def ready(self) -> bool:
        """Whether what `write` is given would go out now."""
        ...

    def write(self, message: bytes) -> None:
        """Sends a binary message."""
        ...
