"""What one core of this machine does at best, measured between the candidates: its speed drifts,
and theirs drift with it."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from earshot.codec.engine.choice import native_is_built
from earshot.lab.benchmark.floor import BYTES, Machine, Work

LOOP_ROUNDS = 400_000
"""Rounds of the loop of multiply-adds; they take about a millisecond."""
TURN_SECONDS = 0.01
FLUSH_BYTES = 64 << 20
"""Twice the last-level cache of the machine that this was written on."""


class Caches:
    """Memory that is read so that nothing else is left in a cache."""

    def __init__(self) -> None:
        self._other = np.ones(FLUSH_BYTES // 4, np.float32)  # zeros would be one page

    def flush(self) -> None:
        self._other.sum()


class Probe:
    """Measures the two sides of the floor, a little in every round; nothing without the native
    engine."""

    def __init__(self, work: Work) -> None:
        self._weights = {p: np.ones(max(1, work.bytes(p) // 4), np.float32) for p in BYTES}
        self._caches = Caches()
        self._macs: dict[str, list[float]] = {}
        self._bytes: dict[str, list[float]] = {}
        self._cold: list[float] = []

    def turn(self) -> None:
        if not native_is_built():
            return
        from earshot.codec.engine.native._native import multiply_adds, read_once

        for precision, weights in self._weights.items():
            if macs := _rate(partial(multiply_adds, precision, LOOP_ROUNDS)):
                self._macs.setdefault(precision, []).append(macs)
            read_once(weights)
            self._bytes.setdefault(precision, []).append(_rate(partial(_read, read_once, weights)))
        self._caches.flush()
        cold = self._weights["fp32"]
        began = time.perf_counter()
        read_once(cold)
        self._cold.append(cold.nbytes / (time.perf_counter() - began))

    def machine(self) -> Machine | None:
        """Returns the medians of all turns; None if there was none."""
        if not self._cold:
            return None
        return Machine(_medians(self._macs), _medians(self._bytes), median(self._cold))


def _medians(rates: Mapping[str, list[float]]) -> dict[str, float]:
    return {precision: median(own) for precision, own in rates.items()}


def _read(read_once: Callable[[NDArray[np.float32]], float], floats: NDArray[np.float32]) -> float:
    read_once(floats)
    return floats.nbytes


def _rate(work: Callable[[], float]) -> float:
    """Returns how much `work` says it has done a second; 0 if it can do nothing."""
    done, began = 0.0, time.process_time()
    while (now := time.process_time()) < began + TURN_SECONDS or not done:
        amount = work()
        if not amount:
            return 0.0
        done += amount
    return done / (now - began)


def processor() -> str:
    """Returns the name of the processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
