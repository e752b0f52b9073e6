"""What a user asks of a call."""

from __future__ import annotations

from dataclasses import dataclass, field

from earshot.client.core.sender import SendFormat


@dataclass(frozen=True)
class CallSettings:
    """What a user asks for. A call ends after `seconds`, `linger_s` after its source, or when it is
    left."""

    room: str
    server: str = "ws://127.0.0.1:8765"
    """A ws:// or wss:// address."""
    name: str = ""
    uplink: SendFormat = "pcm"
    kbps: float = 6.0
    max_kbps: float = 12.0
    seconds: float | None = None
    linger_s: float = 1.0
    give_up_s: float = 120.0
    """How long it is tried to make a lost connection again."""
    token: str | None = field(default=None, repr=False)
    """What lets this client in where not everyone may enter."""
