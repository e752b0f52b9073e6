"""Rounds in which all candidates take turns, so that a drift of the machine's speed hits all of
them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from earshot.lab.benchmark.candidates import Candidate
from earshot.lab.benchmark.floor import Machine, Work
from earshot.lab.benchmark.inputs import Inputs
from earshot.lab.benchmark.machine import Caches, Probe
from earshot.lab.benchmark.peers import ENCODEC, OPUS
from earshot.lab.benchmark.results import Key, Row

WARM_STEPS = 3


@dataclass(frozen=True)
class Effort:
    """How long everything takes."""

    rounds: int = 7
    turn_seconds: float = 0.15
    """Seconds of processor for each candidate in each round."""
    paced_frames: int = 15
    """Paced frames of each candidate in each round."""
    codes: int = 8192
    """Codes that each engine computes to be compared with the reference."""
    signal_seconds: float = 10.0
    """Seconds of the signal that is coded whole."""


QUICK = Effort(rounds=3, turn_seconds=0.05, paced_frames=10, codes=2048)
Turns = dict[Key, list[float]]
"""Milliseconds of processor for a second of sound of one stream."""


def run_rounds(
    candidates: Sequence[Candidate],
    probe: Probe,
    effort: Effort,
    frame_seconds: float | None,
    turned: Callable[[], None],
) -> Turns:
    """Measures the machine in every round, and then each candidate once.

    Candidates first step as fast as they can. Where `frame_seconds` is given, those that step are
    then measured with a frame so often and cold caches. `turned` is called after every turn."""
    times: Turns = {own.key: [] for own in candidates}
    caches = Caches() if frame_seconds else None
    for own in candidates:
        for _ in range(WARM_STEPS if own.key.batch else 1):
            own.step()
    for _ in range(effort.rounds):
        probe.turn()
        for own in candidates:
            times[own.key].append(tight_turn(own, effort.turn_seconds))
            turned()
        for own in candidates:
            if caches and frame_seconds and own.key.batch:
                paced = times.setdefault(replace(own.key, paced=True), [])
                paced.append(paced_turn(own, caches, effort.paced_frames, frame_seconds))
                turned()
    return times


def tight_turn(own: Candidate, seconds: float) -> float:
    """Returns the median of the steps that fit into a turn.

    The time that other programs take of the processor is not counted, but their use of the caches
    shows. The time of a runtime's own threads is counted."""
    clock = time.process_time if own.cpu else time.perf_counter
    times: list[float] = []
    end = clock() + seconds
    while not times or clock() < end:
        began = clock()
        own.step()
        times.append(clock() - began)
    return median(times) * 1000 / own.seconds


def paced_turn(own: Candidate, caches: Caches, frames: int, frame_seconds: float) -> float:
    """Returns the median of steps at the pace of a call: between two frames the rest of the machine
    has time to take the caches."""
    clock = time.process_time if own.cpu else time.perf_counter
    times: list[float] = []
    due = time.perf_counter() + frame_seconds
    for _ in range(frames):
        caches.flush()
        time.sleep(max(0.0, due - time.perf_counter()))
        due = max(due + frame_seconds, time.perf_counter())
        began = clock()
        own.step()
        times.append(clock() - began)
    return median(times) * 1000 / own.seconds


def equal_codes(candidates: Iterable[Candidate], inputs: Inputs) -> dict[Key, float]:
    """Returns the fraction of codes that equal the reference's, for the encoders that are
    compared."""
    return {own.key: float(np.mean(own.encode(inputs.pcm) == inputs.codes)) for own in candidates if own.encode}


def rows_of(times: Turns, equal: dict[Key, float], work: Work, machine: Machine | None) -> list[Row]:
    """Makes rows: whole signals first, then steps one after the other, then paced steps."""
    offline = next((median(own) for key, own in times.items() if key.engine == ENCODEC), None)
    rows = []
    for key, own in times.items():
        middle = median(own)
        floor = None
        if machine and key.engine not in (OPUS, "cuda"):
            batch = float("inf") if key.batch is None else key.batch
            floor = machine.floor_ms(work, key.precision, batch, cold=key.paced)
        same = equal.get(replace(key, paced=False))
        rows.append(Row(key, middle, floor, same, offline and offline / middle, len(own)))
    return sorted(rows, key=lambda row: (row.key.batch is not None, row.key.paced))
