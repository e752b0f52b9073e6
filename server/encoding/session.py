"""One stream in the codec workers: what it gives them to step, and what it gets back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from earshot.server.core.admission import Kind

if TYPE_CHECKING:
    from earshot.server.encoding.pool import WorkerPool


class Job(NamedTuple):
    """One frame to step: PCM [hop], or the same as bytes of signed 16-bit samples, and the number
    of codebooks to make of it; or codes [n_q] (and no number)."""

    data: Any
    ready_us: int
    """When it was there to step."""
    n_q: int = 0
    tag: Any = None
    """Comes back with the result."""


class Result(NamedTuple):
    tag: Any
    value: Any
    """Codes [n_q] or PCM [hop]; None where the step failed, after which the session takes nothing
    more."""
    finished_us: int
    packed: bytes = b""
    """The codes as a packet holds them."""
    ready_us: int = 0


Deliver = Callable[[Result], None]


@dataclass(eq=False)
class CodecSession:
    """Made by `WorkerPool.open`; used from the event loop only."""

    pool: WorkerPool
    kind: Kind
    deliver: Deliver
    """Called on the event loop, in order; never again once `close` was called."""
    pending: deque[Job] = field(default_factory=deque)
    slot: int | None = None
    stepping: bool = False
    """A worker has a frame of it; nobody takes another until that is done."""
    closed: bool = False

    def push(self, job: Job) -> int:
        """Queues a frame; returns how many of the oldest were dropped for it (0 or 1)."""
        return self.pool.push(self, job)

    def close(self) -> None:
        self.pool.close(self)


Batch = list[tuple[CodecSession, Job]]
"""One frame of each of some sessions."""
