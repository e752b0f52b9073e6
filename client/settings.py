"""What a user asks of a call."""

from __future__ import annotations

from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Literal, get_args

from earshot.client.core.sender import SendFormat

Uplink = SendFormat | Literal["auto"]
"""What a client sends; "auto" are codes where this machine encodes easily, else PCM."""
Latency = Literal["low", "balanced", "thrift"]
"""What a call saves: time, or bits on the wire."""
LATENCIES: tuple[Latency, ...] = get_args(Latency)


@dataclass(frozen=True)
class Pace:
    """How often a client sends and gets messages."""

    frames: int
    """Frames of one speaker in a message, both ways."""
    ping_every_s: float
    stats_every_s: float
    """Seconds between two reports, and between two `stats` of the server."""
    thrifty: bool = True
    """Whether bits that silence saves stay saved. Else they make messages with fewer frames
    (client/core/economy.py)."""


PACES: dict[Latency, Pace] = {
    "low": Pace(1, 1.0, 1.0),
    "balanced": Pace(3, 2.5, 5.0, thrifty=False),
    "thrift": Pace(7, 2.5, 10.0),
}


@dataclass(frozen=True)
class CallSettings:
    """What a user asks for. A call ends after `seconds`, `linger_s` after its source, or when it is
    left."""

    room: str
    server: str = "ws://127.0.0.1:8765"
    """A ws:// or wss:// address."""
    name: str = ""
    uplink: Uplink = "auto"
    kbps: float = 6.0
    max_kbps: float = 12.0
    seconds: float | None = None
    linger_s: float = 1.0
    give_up_s: float = 120.0
    """How long it is tried to make a lost connection again."""
    token: str | None = field(default=None, repr=False)
    """What lets this client in where not everyone may enter."""
    tls: SSLContext | None = field(default=None, repr=False, compare=False)
    """What the server's certificate is checked by, if not as browsers do."""
    latency: Latency = "balanced"
    dtx: bool = True
    """Whether silence is not sent."""
    trace_every_s: float = 0.5
    """Seconds of speech between two packets that say when what happened to them."""
