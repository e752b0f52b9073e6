"""Codec work off the event loop: threads that each own an engine and step whatever frames are ready as one batch."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from codec.engine.base import Engine
from codec.errors import EarshotError, EngineFull

log = logging.getLogger(__name__)

Kind = Literal["encoder", "decoder"]
WARM_UP_STEPS = 3
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Job:
    """One frame to step: PCM [hop] and the number of codebooks to make of it, or codes [n_q] (and no number)."""

    data: Any
    n_q: int = 0
    tag: Any = None
    """Comes back with the result."""


@dataclass(frozen=True)
class Result:
    tag: Any
    value: Any
    """Codes [n_q] or PCM [hop]; None where the step failed, after which the session takes nothing more."""
    finished_us: int


Deliver = Callable[[Result], None]


@dataclass(eq=False)
class CodecSession:
    """One stream on one worker. Made by `Worker.open`; used from the event loop only."""

    worker: Worker
    kind: Kind
    deliver: Deliver
    """Called on the event loop, in order; never again once `close` was called."""
    pending: deque[Job] = field(default_factory=deque)
    slot: int | None = None
    closed: bool = False

    def push(self, job: Job) -> int:
        """Queues a frame; returns how many of the oldest were dropped for it (0 or 1)."""
        return self.worker.push(self, job)

    def close(self) -> None:
        self.worker.close(self)


class Worker:
    """One thread and its engine. All methods are for the event loop's thread."""

    def __init__(
        self, make_engine: Callable[[], Engine], hop: int, encoders: int, decoders: int, backlog: int, max_batch: int
    ) -> None:
        self._make_engine = make_engine
        self._hop = hop
        self._room: dict[Kind, int] = {"encoder": encoders, "decoder": decoders}
        self._backlog = backlog
        self._max_batch = max_batch
        self._changed = threading.Condition()
        self._ready: dict[CodecSession, None] = {}
        self._closing: list[CodecSession] = []
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._warm = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="earshot-codec", daemon=True)
        self.sessions = 0
        self.steps = 0
        self.frames = 0
        self.frames_dropped = 0
        self.faults = 0
        self.batches: Counter[int] = Counter()
        self.step_us_mean = 0.0
        self.step_us_max = 0

    async def start(self) -> None:
        """Returns once the engine is warm. Raises what making it raised."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        await asyncio.to_thread(self._warm.wait)
        if self._failure is not None:
            raise self._failure

    async def stop(self) -> None:
        """Lets the step that runs finish; what waits is dropped."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, STOP_TIMEOUT_S)

    @property
    def alive(self) -> bool:
        """False once the thread has ended, be it by a fault: its streams stand still, and it takes no more."""
        return self._thread.is_alive()

    def open(self, kind: Kind, deliver: Deliver) -> CodecSession:
        """A new stream. Raises EngineFull."""
        if not self._room[kind] or not self.alive:
            raise EngineFull(f"all {kind}s of this server are taken")
        self._room[kind] -= 1
        self.sessions += 1
        return CodecSession(self, kind, deliver)

    def push(self, session: CodecSession, job: Job) -> int:
        with self._changed:
            if session.closed:
                return 1
            dropped = len(session.pending) >= self._backlog
            if dropped:
                session.pending.popleft()
                self.frames_dropped += 1
            session.pending.append(job)
            self._ready[session] = None
            self._changed.notify()
        return int(dropped)

    def close(self, session: CodecSession) -> None:
        with self._changed:
            if session.closed:
                return
            session.closed = True
            session.pending.clear()
            self._ready.pop(session, None)
            self._closing.append(session)
            self._changed.notify()
        self._room[session.kind] += 1
        self.sessions -= 1

    def load(self) -> dict[str, Any]:
        with self._changed:
            waiting = sum(len(session.pending) for session in self._ready)
        return {
            "sessions": self.sessions,
            "free_encoders": self._room["encoder"],
            "free_decoders": self._room["decoder"],
            "steps": self.steps,
            "frames": self.frames,
            "frames_waiting": waiting,
            "frames_dropped": self.frames_dropped,
            "faults": self.faults,
            "batch_sizes": {str(size): count for size, count in sorted(self.batches.items())},
            "step_ms_mean": round(self.step_us_mean / 1000, 3),
            "step_ms_max": round(self.step_us_max / 1000, 3),
        }

    # What follows runs on the worker's own thread.

    def _run(self) -> None:
        try:
            engine = self._make_engine()
            _warm_up(engine, self._hop)
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._warm.set()
        try:
            self._work(engine)
        except Exception:
            log.exception("a codec worker has ended")

    def _work(self, engine: Engine) -> None:
        while (batch := self._next_batch(engine)) is not None:
            started = time.monotonic_ns()
            results = [
                (session, result)
                for kind in ("encoder", "decoder")
                for session, result in self._step(engine, batch, kind)
            ]
            elapsed_us = (time.monotonic_ns() - started) // 1000
            self.steps += 1
            self.frames += len(batch)
            self.batches[len(batch)] += 1
            self.step_us_max = max(self.step_us_max, elapsed_us)
            self.step_us_mean += (elapsed_us - self.step_us_mean) / min(self.steps, 100)
            if self._loop is None or self._loop.is_closed():
                return
            with suppress(RuntimeError):  # it was closed just now: nobody is left to hear of it
                self._loop.call_soon_threadsafe(_deliver, results)

    def _next_batch(self, engine: Engine) -> list[tuple[CodecSession, Job]] | None:
        """Waits for work: one frame of each session that has one, those that waited longest first."""
        while True:
            with self._changed:
                while not (self._ready or self._closing or self._stopping):
                    self._changed.wait()
                if self._stopping:
                    return None
                closing, self._closing = self._closing, []
                batch = []
                for session in list(self._ready)[: self._max_batch]:
                    del self._ready[session]
                    batch.append((session, session.pending.popleft()))
                    if session.pending:
                        self._ready[session] = None
            for session in closing:
                if session.slot is not None:
                    engine.close(session.slot)
            if batch:
                return batch

    def _step(
        self, engine: Engine, batch: Sequence[tuple[CodecSession, Job]], kind: str
    ) -> list[tuple[CodecSession, Result]]:
        """Steps the sessions of one kind together; should that fail, one by one, so that a fault stays its own."""
        mine = [(session, job) for session, job in batch if session.kind == kind]
        if not mine:
            return []
        try:
            values = _step_together(engine, mine)
        except Exception:
            self.faults += 1
            log.exception("a batch of %d %s frames failed; stepping them one by one", len(mine), kind)
            values = [self._step_alone(engine, session, job) for session, job in mine]
        now_us = time.monotonic_ns() // 1000
        return [(session, Result(job.tag, value, now_us)) for (session, job), value in zip(mine, values, strict=True)]

    def _step_alone(self, engine: Engine, session: CodecSession, job: Job) -> Any:
        try:
            return _step_together(engine, [(session, job)])[0]
        except Exception:
            log.exception("a %s session failed and is ended", session.kind)
            return None


def _step_together(engine: Engine, work: Sequence[tuple[CodecSession, Job]]) -> list[Any]:
    for session, _ in work:
        if session.slot is None:
            session.slot = engine.open_encoder() if session.kind == "encoder" else engine.open_decoder()
    slots = [session.slot for session, _ in work if session.slot is not None]
    if work[0][0].kind == "encoder":
        return list(engine.encode(slots, np.stack([job.data for _, job in work]), [job.n_q for _, job in work]))
    return list(engine.decode(slots, [job.data for _, job in work]))


def _warm_up(engine: Engine, hop: int) -> None:
    """The first steps of a process allocate and compile; better before anyone speaks."""
    encoder, decoder = engine.open_encoder(), engine.open_decoder()
    for _ in range(WARM_UP_STEPS):
        codes = engine.encode([encoder], np.zeros((1, hop), np.float32), [1])
        engine.decode([decoder], codes)
    engine.close(encoder)
    engine.close(decoder)


def _deliver(results: Sequence[tuple[CodecSession, Result]]) -> None:
    for session, result in results:
        if not session.closed:
            try:
                session.deliver(result)
            except Exception:
                log.exception("a result could not be delivered")


class WorkerPool:
    """All workers; new streams go to the one with the fewest."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = workers

    async def start(self) -> None:
        await asyncio.gather(*(worker.start() for worker in self.workers))

    async def stop(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    @property
    def alive(self) -> bool:
        return all(worker.alive for worker in self.workers)

    def open(self, kind: Kind, deliver: Deliver) -> CodecSession:
        """Raises EngineFull if no worker has room."""
        full: EarshotError = EngineFull("this server has no codec worker")
        for worker in sorted(self.workers, key=lambda worker: worker.sessions):
            try:
                return worker.open(kind, deliver)
            except EngineFull as error:
                full = error
        raise full
