"""A codec worker: a thread that steps whatever frames are ready as one batch, and does coding tasks
between its steps."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np

from earshot.codec.bitstream import pack_frames
from earshot.codec.engine.base import Engine
from earshot.codec.pcm import Pcm, from_s16
from earshot.server.core.jobs import KINDS, Kind, Result
from earshot.server.encoding.queue import Batch, CodecSession, FrameQueue
from earshot.server.settings import IDLE_NICE
from earshot.server.watchdog import Activity

log = logging.getLogger(__name__)


class Stepped(NamedTuple):
    """What came of one batch."""

    results: list[tuple[CodecSession, Result]]
    steps: list[tuple[Kind, int, int]]
    """Kind, number of frames, us."""
    faults: int
    """Steps that failed and were done again, frame by frame."""


class Worker:
    """Several may share an engine and a queue. `hand_over` is called on the worker's thread."""

    def __init__(
        self,
        queue: FrameQueue,
        hand_over: Callable[[Stepped], None],
        core: int | None = None,
        nice: int = 0,
        stuck_after_s: float = math.inf,
    ) -> None:
        """`core` is where the thread stays, if anywhere."""
        self._queue = queue
        self._hand_over = hand_over
        self._core = core
        self._nice = nice
        self._activity = Activity("a codec worker", stuck_after_s)
        self._thread: threading.Thread | None = None

    def start(self, make_engine: Callable[[], Engine], ended: Callable[[], None]) -> Future[None]:
        """Makes or finds its engine on its own thread, and works until the queue ends; then `ended`
        is called. The future is done when the work begins, or has what `make_engine` raised."""
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(make_engine, ready, ended), name="earshot-codec", daemon=True
        )
        self._thread.start()
        return ready

    def join(self, timeout_s: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def stuck(self) -> bool:
        """Returns whether its present step takes too long."""
        return self.alive and self._activity.stuck

    def fault(self) -> str | None:
        """Returns what is wrong with it, if something is. It must have been started."""
        return self._activity.fault() if self.alive else "a codec worker has ended"

    def _run(self, make_engine: Callable[[], Engine], ready: Future[None], ended: Callable[[], None]) -> None:
        try:
            self._settle()
            engine = make_engine()
        except BaseException as error:
            ended()
            ready.set_exception(error)
            return
        ready.set_result(None)
        try:
            while (batch := self._queue.take(engine, self._activity)) is not None:
                if batch:
                    with self._activity:
                        self._work(engine, batch)
                else:
                    self._queue.coding_tasks.do_one(self._activity)
        except Exception:
            log.exception("a codec worker has ended")
        finally:
            ended()

    def _settle(self) -> None:
        """Moves this thread to its core, and behind the event loop: what a step waits is little
        beside what it takes."""
        from earshot.codec.engine.torch.threads import settle_thread

        settle_thread()
        if self._core is not None:
            os.sched_setaffinity(0, {self._core})
        if sys.platform == "linux":  # elsewhere all threads of a process share their niceness
            if self._nice >= IDLE_NICE:
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            elif self._nice:
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)

    def _work(self, engine: Engine, batch: Batch) -> None:
        began, stepped = time.monotonic_ns(), Stepped([], [], 0)
        try:
            for kind in KINDS:
                mine = [(session, job) for session, job in batch if session.kind == kind]
                if mine:
                    stepped = _with(stepped, engine, mine, kind)
            self._hand_over(stepped)
        finally:
            self._queue.done(batch, (time.monotonic_ns() - began) / 1000)


def _with(so_far: Stepped, engine: Engine, batch: Batch, kind: Kind) -> Stepped:
    """Adds a step of the sessions of one kind; should that fail, steps them one by one, so that a
    fault stays its own."""
    began, faults = time.monotonic_ns(), 0
    try:
        values = _step(engine, batch)
        packed = pack_frames(values) if kind == "encoder" else [b""] * len(values)
    except Exception:
        faults = 1
        log.exception("a batch of %d %s frames failed; stepping them one by one", len(batch), kind)
        values = [_step_alone(engine, one) for one in batch]
        packed = [b"" if value is None or kind == "decoder" else pack_frames([value])[0] for value in values]
    now_us = time.monotonic_ns() // 1000
    results = [
        (session, Result(job.tag, value, now_us, payload, job.ready_us))
        for (session, job), value, payload in zip(batch, values, packed, strict=True)
    ]
    steps = [*so_far.steps, (kind, len(batch), now_us - began // 1000)]
    return Stepped(so_far.results + results, steps, so_far.faults + faults)


def _step_alone(engine: Engine, one: tuple[CodecSession, Any]) -> Any:
    try:
        return _step(engine, [one])[0]
    except Exception:
        log.exception("a %s session failed and is ended", one[0].kind)
        return None


def _together(frames: list[Pcm | bytes]) -> Pcm:
    """Returns the frames as one array [len(frames), hop]."""
    whole = [frame for frame in frames if isinstance(frame, bytes)]
    if len(whole) == len(frames):
        return from_s16(b"".join(whole)).reshape(len(frames), -1)
    return np.stack([from_s16(frame) if isinstance(frame, bytes) else frame for frame in frames])


def _step(engine: Engine, batch: Batch) -> list[Any]:
    slots = [session.slot for session, _ in batch if session.slot is not None]
    if batch[0][0].kind == "encoder":
        return list(engine.encode(slots, _together([job.data for _, job in batch]), [job.n_q for _, job in batch]))
    return list(engine.decode(slots, [job.data for _, job in batch]))
