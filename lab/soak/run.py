"""Runs peers that come and go, and looks once a minute at what server and clients hold."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from earshot import codec
from earshot.lab.attacks.soak import Sample, held
from earshot.lab.children import start_server
from earshot.lab.loadtest.run import child_environment, stats
from earshot.lab.soak.peers import STAY_S, Crowd, come_and_go, write_talk

ROOMS = "soak-1", "soak-2"
EMPTY_S = 15.0
"""Time without peers before the last look: seats are kept for 10 s."""
FLAT_MB, FLAT_SHARE = 4.0, 0.05
"""Memory is flat if the last third of a run holds no more than the second one by so much."""
MOST_KEPT = 20
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
"""Gives free memory back, where the C library can: the threads of many calls in one process leave
holes between what is in use, as no client of its own does."""


@dataclass(frozen=True)
class Plan:
    """How long, with how many peers, and how often it is looked."""

    minutes: float
    peers: int = 8
    every_s: float = 60.0
    model: str = "default"


class _Warnings(logging.Handler):
    """Keeps what the clients' log warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage()[:200])


@dataclass
class Found:
    """What was found."""

    server: list[Sample] = field(default_factory=list)
    clients: list[Sample] = field(default_factory=list)
    """The same of this process, which is all clients."""
    crowd: Crowd = field(default_factory=Crowd)
    warnings: list[str] = field(default_factory=list)
    """What server and clients logged as warnings or errors."""

    def faults(self) -> list[str]:
        """Returns what is not as it should be, as sentences."""
        said = []
        for name, samples in (("server", self.server), ("clients", self.clients)):
            first, last = samples[0], samples[-1]
            if last.tasks is not None and first.tasks is not None and last.tasks > first.tasks:
                said.append(f"{name}: {last.tasks - first.tasks} tasks are left")
            grown, most = growth_mb([sample.memory_mb for sample in samples[1:-1]])
            if grown > most:
                said.append(f"{name}: memory grew by {grown:.1f} MB between the second and the last third")
        said += [f"error of {text}" for text in self.crowd.errors[:MOST_KEPT]]
        return said + [f"logged: {text}" for text in self.warnings[:MOST_KEPT]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"faults": self.faults()}


def growth_mb(memory_mb: Sequence[float]) -> tuple[float, float]:
    """Returns by how much the median of the last third is above that of the second, and how much
    that may be; zeros for fewer than 6 looks."""
    third = len(memory_mb) // 3
    if third < 2:
        return 0.0, 0.0
    before, after = (statistics.median(part) for part in (memory_mb[third : 2 * third], memory_mb[-third:]))
    return after - before, max(FLAT_MB, FLAT_SHARE * before)


def soak(plan: Plan, found: Callable[[Found], None]) -> Found:
    """Runs for so many minutes. `found` is called after each look. Raises EarshotError."""
    result, log = Found(), _Warnings()
    logging.captureWarnings(True)
    logging.getLogger().addHandler(log)
    model = codec.load(plan.model)
    with tempfile.TemporaryDirectory(prefix="earshot-") as name, ExitStack() as stack:
        folder = Path(name)
        write_talk(folder / "talk.wav", STAY_S[1])
        environment = {**child_environment(), "EARSHOT_LOG_LEVEL": "warning"}
        server, url = start_server(stack, folder, plan.model, environment)
        began_s = time.monotonic()

        def look(after: str) -> None:
            server.check(ended=True)
            gc.collect()
            if _trim is not None:
                _trim(0)
            minutes, about = (time.monotonic() - began_s) / 60, stats(url)
            ours = {"connections": result.crowd.active, "rooms": ROOMS, "tasks": len(asyncio.all_tasks())}
            result.server.append(held(server.pid, after, minutes, about))
            result.clients.append(held(os.getpid(), after, minutes, ours))
            result.warnings = [*server.said.splitlines(), *log.said]
            found(result)

        async def course() -> None:
            stop = asyncio.Event()
            look("start")
            peers = [
                asyncio.create_task(come_and_go(number, url, ROOMS, model, folder, result.crowd, stop))
                for number in range(plan.peers)
            ]
            while (left_s := began_s + 60 * plan.minutes - time.monotonic()) > 0:
                await asyncio.sleep(min(plan.every_s, left_s))
                look("talk")
            stop.set()
            await asyncio.gather(*peers)
            await asyncio.sleep(EMPTY_S)
            look("end")

        try:
            asyncio.run(course())
        finally:
            logging.getLogger().removeHandler(log)
            logging.captureWarnings(False)
    return result
