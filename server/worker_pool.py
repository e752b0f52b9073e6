"""All codec workers of a server: who takes a new stream, and whether another one fits."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from codec.errors import EngineFull
from server.admission import Kind, fit_all
from server.encoder_worker import CodecSession, Deliver, Worker


class WorkerPool:
    """New streams go to the worker with the fewest, among those where one more fits.

    `limit_us` is the longest that results may take once another speaker has come in."""

    def __init__(self, workers: Sequence[Worker], limit_us: float) -> None:
        self.workers = workers
        self.limit_us = limit_us

    async def start(self) -> None:
        await asyncio.gather(*(worker.start() for worker in self.workers))

    async def stop(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    @property
    def alive(self) -> bool:
        return all(worker.alive for worker in self.workers)

    def fits(self, encoders: int, decoders: int) -> bool:
        """Whether so many streams more would all get their results in time, those that are there too."""
        loads = [(worker.load, worker.streams) for worker in self.workers if worker.alive]
        return fit_all(loads, {"encoder": encoders, "decoder": decoders}, self.limit_us, _now_us())

    @property
    def encoders(self) -> int:
        return sum(worker.streams["encoder"] for worker in self.workers)

    def more_speakers(self) -> int:
        """How many encoders more are expected to fit."""
        return sum(worker.more_speakers(self.limit_us, _now_us()) for worker in self.workers)

    def open(self, kind: Kind, deliver: Deliver) -> CodecSession:
        """A stream, whether it fits or not. Raises EngineFull if no worker has memory for it."""
        able = [worker for worker in self.workers if worker.has_room(kind)]
        if not able:
            raise EngineFull(f"all {kind}s of this server are taken")
        now_us = _now_us()

        def order(worker: Worker) -> tuple[bool, int]:
            more = {**worker.streams, kind: worker.streams[kind] + 1}
            return not worker.load.fits(more, self.limit_us, now_us), worker.sessions

        return min(able, key=order).open(kind, deliver)

    def busy(self) -> float:
        """The part of the workers' time, over the last seconds, that steps and chores took; 1 if no worker is left."""
        loads = [worker.load.punctuality.load(_now_us()) for worker in self.workers if worker.alive]
        return sum(loads) / len(loads) if loads else 1.0

    async def do(self, work: Callable[[], Any], limit_us: float = math.inf) -> Any:
        """What `work` returns or raises, done by the worker for which the least waits. Raises EngineFull if it would
        wait longer than that even so, or if no worker is left."""
        able = [worker for worker in self.workers if worker.alive]
        if not able or (best := min(able, key=lambda worker: worker.chores.wait_us)).chores.wait_us > limit_us:
            raise EngineFull("the workers of this server have no time")
        return await best.do(work)

    def stats(self) -> list[dict[str, Any]]:
        return [worker.stats(self.limit_us, _now_us()) for worker in self.workers]


def cores() -> list[int] | None:
    """The cores that this process may use; None where threads cannot be told to stay on one."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else None


def _now_us() -> int:
    return time.monotonic_ns() // 1000
