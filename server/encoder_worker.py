"""Codec work off the event loop: threads that each own an engine and step whatever frames are ready as one batch.

What steps take and how late results are is counted on the event loop (server/admission.py): it decides who comes in."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from codec.bitstream import pack_frames
from codec.engine.base import Engine
from codec.errors import EngineFull
from server.admission import Kind, WorkerLoad, rest_us
from server.chores import Chores

log = logging.getLogger(__name__)

KINDS: tuple[Kind, ...] = ("encoder", "decoder")
WARM_UP_STEPS = 3
TRIAL_BATCHES = (1, 16)
"""An idle engine is timed with so many frames a step, so that what one more costs is known before anyone speaks."""
TRIAL_STEPS = 3
STOP_TIMEOUT_S = 5.0


class Job(NamedTuple):
    """One frame to step: PCM [hop] and the number of codebooks to make of it, or codes [n_q] (and no number)."""

    data: Any
    ready_us: int
    """When it was there to step."""
    n_q: int = 0
    tag: Any = None
    """Comes back with the result."""


class Result(NamedTuple):
    tag: Any
    value: Any
    """Codes [n_q] or PCM [hop]; None where the step failed, after which the session takes nothing more."""
    finished_us: int
    packed: bytes = b""
    """The codes as a packet holds them."""
    ready_us: int = 0


class Stepped(NamedTuple):
    """What a thread tells of one batch."""

    results: list[tuple[CodecSession, Result]]
    steps: list[tuple[Kind, int, int]]
    """Kind, number of frames, us."""


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
        self,
        make_engine: Callable[[], Engine],
        hop: int,
        encoders: int,
        decoders: int,
        backlog: int,
        max_batch: int,
        core: int | None = None,
        nice: int = 0,
        frame_us: float = 1e6 * 320 / 24_000,
    ) -> None:
        """`encoders` and `decoders` bound the memory of streams; `core` is where the thread stays, if anywhere."""
        self._make_engine = make_engine
        self._hop = hop
        self._core = core
        self._nice = nice
        self._room: dict[Kind, int] = {"encoder": encoders, "decoder": decoders}
        self.streams: dict[Kind, int] = {"encoder": 0, "decoder": 0}
        self.load = WorkerLoad(frame_us, time.monotonic_ns() // 1000)
        self._backlog = backlog
        self._max_batch = max_batch
        self._changed = threading.Condition()
        self._ready: dict[CodecSession, None] = {}
        self._closing: list[CodecSession] = []
        self._stopping = False
        self.chores = Chores()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._warm = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="earshot-codec", daemon=True)
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

    @property
    def sessions(self) -> int:
        return sum(self.streams.values())

    def has_room(self, kind: Kind) -> bool:
        return self._room[kind] > 0 and self.alive

    def open(self, kind: Kind, deliver: Deliver) -> CodecSession:
        """A new stream. Raises EngineFull."""
        if not self.has_room(kind):
            raise EngineFull(f"all {kind}s of this server are taken")
        self._room[kind] -= 1
        self.streams[kind] += 1
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

    async def do(self, work: Callable[[], Any]) -> Any:
        """What `work` returns or raises, done on this thread between two steps. Raises EngineFull if the thread ends
        before that."""
        future = self.chores.put(work)
        with self._changed:
            self._changed.notify()
        try:
            value, busy_us = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise EngineFull("a codec worker has ended") from None
        self.load.punctuality.add((), busy_us, time.monotonic_ns() // 1000)
        return value

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
        self.streams[session.kind] -= 1

    def more_speakers(self, limit_us: float, now_us: int) -> int:
        """How many encoders more are expected to fit."""
        return self.load.room(self.streams, limit_us, now_us, self._room["encoder"]) if self.alive else 0

    def stats(self, limit_us: float, now_us: int) -> dict[str, Any]:
        with self._changed:
            waiting = sum(len(session.pending) for session in self._ready)
        return {
            "sessions": self.sessions,
            "load": round(self.load.punctuality.load(now_us), 3),
            "slack_ms": self.load.slack_ms(now_us),
            "more_speakers": self.more_speakers(limit_us, now_us),
            "step_ms": self.load.step_ms(),
            "free_encoders": self._room["encoder"],
            "free_decoders": self._room["decoder"],
            "steps": self.steps,
            "frames": self.frames,
            "frames_waiting": waiting,
            "chores": self.chores.count,
            "frames_dropped": self.frames_dropped,
            "faults": self.faults,
            "batch_sizes": {str(size): count for size, count in sorted(self.batches.items())},
            "step_ms_mean": round(self.step_us_mean / 1000, 3),
            "step_ms_max": round(self.step_us_max / 1000, 3),
        }

    def _take(self, stepped: Stepped) -> None:
        """Counts a batch, and passes its results on."""
        now_us = time.monotonic_ns() // 1000
        busy_us, frames = sum(us for _, _, us in stepped.steps), len(stepped.results)
        self.steps += 1
        self.frames += frames
        self.batches[frames] += 1
        self.step_us_max = max(self.step_us_max, busy_us)
        self.step_us_mean += (busy_us - self.step_us_mean) / min(self.steps, 100)
        for kind, count, us in stepped.steps:
            self.load.steps[kind].add(count, us)
        self.load.punctuality.add([now_us - result.ready_us for _, result in stepped.results], busy_us, now_us)
        for session, result in stepped.results:
            if not session.closed:
                try:
                    session.deliver(result)
                except Exception:
                    log.exception("a result could not be delivered")

    # What follows runs on the worker's own thread.

    def _run(self) -> None:
        try:
            self._settle()
            engine = self._make_engine()
            _warm_up(engine, self._hop)
            self._try_out(engine)
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._warm.set()
        try:
            self._work(engine)
        except Exception:
            log.exception("a codec worker has ended")
        finally:
            self.chores.end()

    def _work(self, engine: Engine) -> None:
        while (batch := self._next_batch(engine)) is not None:
            if not batch:
                self.chores.do_one()
                continue
            began = time.monotonic_ns()
            stepped = Stepped([], [])
            for kind in KINDS:
                mine = [(session, job) for session, job in batch if session.kind == kind]
                if mine:
                    started = time.monotonic_ns()
                    stepped.results.extend(self._step(engine, mine, kind))
                    stepped.steps.append((kind, len(mine), (time.monotonic_ns() - started) // 1000))
            if self._loop is None or self._loop.is_closed():
                return
            with suppress(RuntimeError):  # it was closed just now: nobody is left to hear of it
                self._loop.call_soon_threadsafe(self._take, stepped)
            self.chores.rest(rest_us((time.monotonic_ns() - began) / 1000, self.load.frame_us) / 1e6)

    def _settle(self) -> None:
        """To its core, and behind the event loop: what a step waits is little beside what it takes."""
        if self._core is not None:
            os.sched_setaffinity(0, {self._core})
        if self._nice and sys.platform == "linux":  # elsewhere all threads of a process share their niceness
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)

    def _try_out(self, engine: Engine) -> None:
        """Times steps of few and of many frames."""
        batches = sorted({min(batch, *self._room.values()) for batch in TRIAL_BATCHES})
        for batch in batches:
            encoders = [engine.open_encoder() for _ in range(batch)]
            decoders = [engine.open_decoder() for _ in range(batch)]
            pcm = np.random.default_rng(0).standard_normal((batch, self._hop)).astype(np.float32) * 0.1
            times: dict[Kind, list[int]] = {"encoder": [], "decoder": []}
            for _ in range(TRIAL_STEPS):
                started = time.monotonic_ns()
                codes = engine.encode(encoders, pcm, [1] * batch)
                encoded = time.monotonic_ns()
                engine.decode(decoders, codes)
                times["encoder"].append(encoded - started)
                times["decoder"].append(time.monotonic_ns() - encoded)
            for kind in KINDS:
                self.load.steps[kind].expect(batch, min(times[kind]) / 1000)
            for slot in encoders + decoders:
                engine.close(slot)

    def _next_batch(self, engine: Engine) -> list[tuple[CodecSession, Job]] | None:
        """Waits for work: one frame of each session that has one, those that waited longest first; none if there are
        only chores."""
        while True:
            with self._changed:
                while not (self._ready or self._closing or self._stopping or self.chores):
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
            if batch or self.chores:
                return batch

    def _step(
        self, engine: Engine, batch: Sequence[tuple[CodecSession, Job]], kind: Kind
    ) -> list[tuple[CodecSession, Result]]:
        """Steps the sessions of one kind together; should that fail, one by one, so that a fault stays its own."""
        try:
            values = _step_together(engine, batch)
            packed = pack_frames(values) if kind == "encoder" else [b""] * len(values)
        except Exception:
            self.faults += 1
            log.exception("a batch of %d %s frames failed; stepping them one by one", len(batch), kind)
            values = [self._step_alone(engine, session, job) for session, job in batch]
            packed = [b"" if value is None or kind == "decoder" else pack_frames([value])[0] for value in values]
        now_us = time.monotonic_ns() // 1000
        return [
            (session, Result(job.tag, value, now_us, payload, job.ready_us))
            for (session, job), value, payload in zip(batch, values, packed, strict=True)
        ]

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
