"""The streams of the codec workers: frames that wait, and which worker takes which.

All workers take from here, one after the other. The worker whose turn it is takes what is ready: at
most one frame of each stream. No stream is with two workers at once. Between two turns some time
must pass (`admission.turn_us`), so that batches are large: what a frame costs falls with their
size, above all where the weights do not fit into the caches of a core (docs/capacity.md)."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from earshot.codec.engine.base import Engine
from earshot.server.core.admission import largest_batch, turn_us
from earshot.server.core.jobs import Deliver, Job, Kind
from earshot.server.encoding.coding_tasks import IDLE, CodingTasks


@dataclass(eq=False)
class CodecSession:
    """One stream in the codec workers: what it gives them to step, and where its results go. The
    event loop pushes and closes; the rest is guarded by the lock of the queue."""

    queue: FrameQueue
    kind: Kind
    deliver: Deliver
    """Called on the event loop, in order; never again once `close` was called."""
    pending: deque[Job] = field(default_factory=deque)
    """Frames that wait, oldest first."""
    slot: int | None = None
    """The state of this stream in the engine; None until its first frame is taken."""
    stepping: bool = False
    """Whether a worker has a frame of this stream; nobody takes another until that is done."""
    closed: bool = False

    def push(self, job: Job) -> int:
        """Queues a frame; returns how many of the oldest were dropped for it (0 or 1)."""
        return self.queue.push(self, job)

    def close(self) -> None:
        """Drops what waits and frees the slot; a second time it does nothing."""
        self.queue.close(self)


Batch = list[tuple[CodecSession, Job]]
"""One frame of each of some sessions."""


class FrameQueue:
    """`open`, `push`, `close`, `wake` and `stop` are for the event loop; `take` and `done` for the
    workers' threads."""

    def __init__(self, backlog: int, max_batch: int, workers: int, frame_us: float) -> None:
        """`backlog` bounds the frames that wait of one stream."""
        self._backlog = backlog
        self._max_batch = max_batch
        self._workers = workers
        self._frame_us = frame_us
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._turn = threading.Lock()
        self._next_turn = 0.0
        self._step_us = 0.0
        self._ready: dict[CodecSession, None] = {}
        self._closing: list[CodecSession] = []
        self._stopping = False
        self.streams: dict[Kind, int] = {"encoder": 0, "decoder": 0}
        self.frames_dropped = 0
        self.coding_tasks = CodingTasks()

    def open(self, kind: Kind, deliver: Deliver) -> CodecSession:
        """Returns a new stream, which counts until it is closed."""
        self.streams[kind] += 1
        return CodecSession(self, kind, deliver)

    def push(self, session: CodecSession, job: Job) -> int:
        """Returns how many of the session's oldest frames were dropped for this one."""
        with self._lock:
            if session.closed:
                return 1
            dropped = len(session.pending) >= self._backlog
            if dropped:
                session.pending.popleft()
                self.frames_dropped += 1
            session.pending.append(job)
            if not session.stepping:
                self._ready[session] = None
                self._changed.notify()
        return int(dropped)

    def close(self, session: CodecSession) -> None:
        """Drops what waits of a session and has its slot closed, unless that was done before."""
        with self._lock:
            if session.closed:
                return
            session.closed = True
            self.streams[session.kind] -= 1
            session.pending.clear()
            self._ready.pop(session, None)
            if not session.stepping:
                self._closing.append(session)
                self._changed.notify()

    def wake(self) -> None:
        """Tells a worker that there is a coding task."""
        with self._lock:
            self._changed.notify()

    def stop(self) -> None:
        """Tells all workers that nothing comes any more."""
        with self._lock:
            self._stopping = True
            self._changed.notify_all()

    def waiting(self) -> int:
        """Returns how many frames wait, without those of streams that are stepped just now."""
        with self._lock:
            return sum(len(session.pending) for session in self._ready)

    def take(self, engine: Engine, activity: AbstractContextManager[None] = IDLE) -> Batch | None:
        """Waits for a turn, unless a whole batch is there, and for work, and does coding tasks
        meanwhile. Returns an empty batch if there are only coding tasks, and None at the end. The
        worker whose turn it is also opens and closes slots here, which with coding tasks are its
        steps of `activity`. `done` must follow a batch."""
        with self._turn:
            full = len(self._ready) >= self._most()
            self.coding_tasks.rest(0.0 if full else max(self._next_turn - time.monotonic(), 0.0), activity)
            while True:
                with self._lock:
                    while not (self._ready or self._closing or self._stopping or self.coding_tasks):
                        self._changed.wait()
                    if self._stopping:
                        return None
                    closing, self._closing = self._closing, []
                    batch = self._batch()
                with activity:
                    for session in closing:
                        if session.slot is not None:
                            engine.close(session.slot)
                    for session, _ in batch:
                        if session.slot is None:
                            session.slot = engine.open_encoder() if session.kind == "encoder" else engine.open_decoder()
                if batch or self.coding_tasks:
                    self._next_turn = time.monotonic() + turn_us(self._step_us, self._frame_us, self._workers) / 1e6
                    return batch

    def _batch(self) -> Batch:
        """Takes a frame of each of the streams that waited longest."""
        batch = []
        for session in list(self._ready)[: self._most()]:
            del self._ready[session]
            session.stepping = True
            batch.append((session, session.pending.popleft()))
        return batch

    def _most(self) -> int:
        return min(self._max_batch, largest_batch(sum(self.streams.values()), self._workers))

    def done(self, batch: Batch, step_us: float) -> None:
        """Lets the streams of a batch be taken again; to be called once its results are on their
        way."""
        with self._lock:
            self._step_us = step_us
            for session, _ in batch:
                session.stepping = False
                if session.closed:
                    self._closing.append(session)
                elif session.pending:
                    self._ready[session] = None
            self._changed.notify()
