"""The codec workers of a server as the event loop sees them: streams come and go, frames go in,
results come back.

The workers share one engine and one queue of frames. What steps take and how late results are is
counted here, on the event loop (server/core/admission.py): it decides who comes in."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from earshot.codec.engine.base import Engine
from earshot.codec.errors import EngineFull
from earshot.server.clock import clock_us
from earshot.server.core.admission import WorkerLoad
from earshot.server.core.jobs import KINDS, Deliver, Kind
from earshot.server.core.tally import Tally
from earshot.server.encoding.queue import CodecSession, FrameQueue
from earshot.server.encoding.worker import Stepped, Worker

log = logging.getLogger(__name__)

WARM_UP_STEPS = 3
TRIAL_BATCHES = (1, 16)
"""An idle engine is timed with so many frames a step, so that what one more costs is known before
anyone speaks."""
TRIAL_STEPS = 3
STOP_TIMEOUT_S = 5.0
STEP_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.0133, 0.02, 0.04, 0.1, 0.5)
STEP_FRAMES = (1, 2, 4, 8, 16, 32, 64)
"""Classes of times and of batches in `/metrics`; a frame of the default model lasts 13.3 ms."""
NOT_WORKING = "the codec of this server does not work now; try again later, or send and take codes (--uplink codes)"


class WorkerPool:
    """All methods are for the event loop's thread, but those that say that they run on a
    worker's."""

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        hop: int,
        encoders: int,
        decoders: int,
        backlog: int,
        max_batch: int,
        limit_us: float,
        frame_us: float = 1e6 * 320 / 24_000,
        nice: int = 0,
        cores: Sequence[int | None] = (None,),
        stuck_after_s: float = math.inf,
    ) -> None:
        """Makes a worker for each of `cores`; None stands for a worker that stays nowhere.
        `encoders` and `decoders` bound the memory of streams. `limit_us` is the longest that
        results may take once another speaker has come in. `make_engine` runs on the first worker's
        thread. A worker counts as stuck while one of its steps takes longer than
        `stuck_after_s`."""
        self._make_engine = make_engine
        self._hop = hop
        self._most: dict[Kind, int] = {"encoder": encoders, "decoder": decoders}
        self.limit_us = limit_us
        self.load = WorkerLoad(frame_us, clock_us(), len(cores))
        self._queue = FrameQueue(backlog, max_batch, len(cores), frame_us)
        self.coding_tasks = self._queue.coding_tasks
        self.workers = [Worker(self._queue, self._hand_over, core, nice, stuck_after_s) for core in cores]
        self._working = 0
        self._making = threading.Lock()
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.steps = 0
        self.frames = 0
        self.faults = 0
        self.batches: Counter[int] = Counter()
        self.step_us_mean = 0.0
        self.step_us_max = 0
        self.frames_late = 0
        """Results that took longer than `limit_us`."""
        self.step_s = {kind: Tally(STEP_S) for kind in KINDS}
        self.step_frames = {kind: Tally(STEP_FRAMES) for kind in KINDS}
        self.result_s = Tally(STEP_S)
        """From when a frame was ready to when its result was there."""

    async def start(self) -> None:
        """Returns once all workers are warm. Raises what making the engine raised."""
        self._loop = asyncio.get_running_loop()
        self._working = len(self.workers)
        starts = [asyncio.wrap_future(worker.start(self._warm_engine, self._one_ended)) for worker in self.workers]
        for failure in await asyncio.gather(*starts, return_exceptions=True):
            if failure is not None:
                raise failure

    async def stop(self) -> None:
        """Lets the steps that run finish; what waits is dropped."""
        self._queue.stop()
        for worker in self.workers:
            if worker.alive:
                await asyncio.to_thread(worker.join, STOP_TIMEOUT_S)

    @property
    def alive(self) -> bool:
        """Returns False once a worker has ended, be it by a fault; while others are left, they do
        what it would have done."""
        return all(worker.alive for worker in self.workers)

    def has_headroom(self, kind: Kind) -> bool:
        """Returns whether there is memory for another stream, and a worker to step it."""
        return self._free(kind) > 0 and self.works

    @property
    def works(self) -> bool:
        """Returns whether a worker is left, and none is stuck: the streams of one that is stuck
        wait for it, and others may."""
        return any(worker.alive for worker in self.workers) and not any(worker.stuck for worker in self.workers)

    def worker_faults(self) -> list[str]:
        """Returns what is wrong with workers. May be called on any thread."""
        return [fault for worker in self.workers if (fault := worker.fault()) is not None]

    def _free(self, kind: Kind) -> int:
        return self._most[kind] - self.streams[kind]

    def open(self, kind: Kind, deliver: Deliver) -> CodecSession:
        """Opens a new stream, whether it fits or not. Raises EngineFull if there is no memory for
        it, or no worker."""
        if not self.works:
            raise EngineFull(NOT_WORKING)
        if not self.has_headroom(kind):
            raise EngineFull(f"all {kind}s of this server are taken")
        return self._queue.open(kind, deliver)

    @property
    def streams(self) -> dict[Kind, int]:
        """Open streams of each kind."""
        return self._queue.streams

    def fits(self, encoders: int, decoders: int) -> bool:
        """Returns whether so many streams more would all get their results in time, those that are
        there too."""
        more: dict[Kind, int] = {
            "encoder": self.streams["encoder"] + encoders,
            "decoder": self.streams["decoder"] + decoders,
        }
        return self.load.fits(more, self.limit_us, clock_us())

    @property
    def encoders(self) -> int:
        """Speakers whose PCM is encoded here."""
        return self.streams["encoder"]

    @property
    def behind(self) -> bool:
        """Whether results came late lately, second after second."""
        return self.load.latency.behind(self.limit_us, clock_us())

    def more_speakers(self) -> int:
        """Returns how many encoders more are expected to fit."""
        if not self.has_headroom("encoder"):
            return 0
        return self.load.headroom(self.streams, self.limit_us, clock_us(), self._free("encoder"))

    def decoder_capacity(self) -> int:
        """Returns how many decoders this server can have, those that are open included."""
        more = 0
        if self.has_headroom("decoder"):
            more = self.load.headroom(self.streams, self.limit_us, clock_us(), self._free("decoder"), "decoder")
        return self.streams["decoder"] + more

    def busy(self) -> float:
        """Returns the part of the workers' time, over the last seconds, that steps and coding tasks
        took; 1 if no worker is left."""
        return self.load.busy(clock_us()) if any(worker.alive for worker in self.workers) else 1.0

    @property
    def coding_cpu_us(self) -> int:
        """Processor time that coding tasks took, in all."""
        return self.coding_tasks.cpu_us

    async def do(self, work: Callable[[], Any], limit_us: float = math.inf) -> Any:
        """Returns or raises what `work` does, done by a worker between two steps. Raises EngineFull
        if it would wait longer than `limit_us`, or if no worker is left."""
        if self.coding_tasks.wait_us > limit_us:
            raise EngineFull("the workers of this server have no time")
        future = self.coding_tasks.put(work)
        self._queue.wake()
        try:
            value, busy_us = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise EngineFull("a codec worker has ended") from None
        self.load.latency.add((), busy_us, clock_us())
        return value

    def stats(self) -> dict[str, Any]:
        now_us = clock_us()
        return {
            "threads": len(self.workers),
            "sessions": sum(self.streams.values()),
            "load": round(self.load.busy(now_us), 3),
            "slack_ms": self.load.slack_ms(now_us),
            "step_ms": self.load.step_ms(),
            "free_encoders": self._free("encoder"),
            "free_decoders": self._free("decoder"),
            "steps": self.steps,
            "frames": self.frames,
            "frames_waiting": self._queue.waiting(),
            "coding_tasks": self.coding_tasks.count,
            "frames_dropped": self._queue.frames_dropped,
            "frames_late": self.frames_late,
            "faults": self.faults,
            "batch_sizes": {str(size): count for size, count in sorted(self.batches.items())},
            "step_ms_mean": round(self.step_us_mean / 1000, 3),
            "step_ms_max": round(self.step_us_max / 1000, 3),
        }

    def _take(self, stepped: Stepped) -> None:
        """Counts a batch, and passes its results on."""
        now_us = clock_us()
        busy_us, frames = sum(us for _, _, us in stepped.steps), len(stepped.results)
        self.steps += 1
        self.frames += frames
        self.faults += stepped.faults
        self.batches[frames] += 1
        self.step_us_max = max(self.step_us_max, busy_us)
        self.step_us_mean += (busy_us - self.step_us_mean) / min(self.steps, 100)
        for kind, count, us in stepped.steps:
            self.load.steps[kind].add(count, us)
            self.step_s[kind].add(us / 1e6)
            self.step_frames[kind].add(count)
        taken_us = [now_us - result.ready_us for _, result in stepped.results]
        self.load.latency.add(taken_us, busy_us, now_us)
        for us in taken_us:
            self.result_s.add(us / 1e6)
            self.frames_late += us > self.limit_us
        for session, result in stepped.results:
            if not session.closed:
                try:
                    session.deliver(result)
                except Exception:
                    log.exception("a result could not be delivered")

    # What follows runs on the workers' threads.

    def _hand_over(self, stepped: Stepped) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it was closed just now: nobody is left to hear of it
                self._loop.call_soon_threadsafe(self._take, stepped)

    def _warm_engine(self) -> Engine:
        """Returns the engine that all workers share, stepped a few times by the worker that
        asks."""
        with self._making:
            if self._engine is not None:
                _warm_up(self._engine, self._hop)
                return self._engine
            engine = self._make_engine()
            _warm_up(engine, self._hop)
            self._try_out(engine)
            self._engine = engine
        return engine

    def _one_ended(self) -> None:
        with self._making:
            self._working -= 1
            if not self._working:
                self.coding_tasks.end()

    def _try_out(self, engine: Engine) -> None:
        """Times steps of few and of many frames."""
        batches = sorted({min(batch, *self._most.values()) for batch in TRIAL_BATCHES})
        for batch in batches:
            encoders = [engine.open_encoder() for _ in range(batch)]
            decoders = [engine.open_decoder() for _ in range(batch)]
            pcm = np.random.default_rng(0).standard_normal((batch, self._hop)).astype(np.float32) * 0.1
            times: dict[Kind, list[int]] = {kind: [] for kind in KINDS}
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


def _warm_up(engine: Engine, hop: int) -> None:
    """Takes the first steps of a process or a thread, which allocate and compile: better before
    anyone speaks."""
    encoder, decoder = engine.open_encoder(), engine.open_decoder()
    for _ in range(WARM_UP_STEPS):
        codes = engine.encode([encoder], np.zeros((1, hop), np.float32), [1])
        engine.decode([decoder], codes)
    engine.close(encoder)
    engine.close(decoder)


def cpu_affinity(workers: int, pinned: bool) -> list[int | None]:
    """Returns a core for each worker to stay on, or None where it is not to, or cannot be told
    to."""
    own = sorted(os.sched_getaffinity(0)) if pinned and hasattr(os, "sched_getaffinity") else []
    return [own[index % len(own)] if own else None for index in range(workers)]
