"""What codec workers are given to do, and what they give back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

Kind = Literal["encoder", "decoder"]
"""The two kinds of streams that workers step."""
KINDS: tuple[Kind, ...] = ("encoder", "decoder")


class Job(NamedTuple):
    """One frame to step: PCM [hop], or the same as bytes of signed 16-bit samples, and the number
    of codebooks to make of it; or codes [n_q] (and no number)."""

    data: Any
    ready_us: int
    """When the frame was there to step."""
    n_q: int = 0
    tag: Any = None
    """Comes back with the result."""


class Result(NamedTuple):
    """What came of one job."""

    tag: Any
    """The tag of the job."""
    value: Any
    """Codes [n_q] or PCM [hop]; None where the step failed, after which the session takes nothing
    more."""
    finished_us: int
    packed: bytes = b""
    """The codes as a packet holds them."""
    ready_us: int = 0
    """When the frame was there to step."""


Deliver = Callable[[Result], None]
