"""Who comes in: workers in fake time, whose steps take what a test says."""

from __future__ import annotations

import heapq
import random

import pytest

from earshot.server.core.admission import (
    WINDOW_US,
    Kind,
    LatencyWindow,
    StepTimes,
    WorkerLoad,
    largest_batch,
    turn_us,
)

FRAME_US = 1e6 * 320 / 24_000
LIMIT_US = 0.8 * FRAME_US
BASE_US, EACH_US = 400.0, 230.0


def load_of(base_us: float = BASE_US, each_us: float = EACH_US, workers: int = 1) -> WorkerLoad:
    load = WorkerLoad(FRAME_US, workers=workers)
    for steps in load.steps.values():
        for frames in (1, 16):
            steps.expect(frames, base_us + each_us * frames)
    return load


def streams(encoders: int, decoders: int = 0) -> dict[Kind, int]:
    return {"encoder": encoders, "decoder": decoders}


class FakeWorkers:
    """Streams with phases of their own, and workers that step what is ready in turns, as
    server/encoding/queue.py says."""

    def __init__(self, workers: int = 1, seed: int = 0) -> None:
        self.load = load_of(workers=workers)
        self.base_us, self.each_us = BASE_US, EACH_US
        self.random = random.Random(seed)
        self.now_us = 0.0
        self.due: list[float] = []
        self.free_us = [0.0] * workers
        self.longest_us = 0.0

    def join(self) -> None:
        heapq.heappush(self.due, self.now_us + self.random.random() * FRAME_US)

    def run(self, seconds: float) -> None:
        """Afterwards `longest_us` is the longest that a frame took."""
        end, self.longest_us = self.now_us + seconds * 1e6, 0.0
        while self.now_us < end:
            start = max(self.now_us, self.due[0] if self.due else end, self.free_us[0])
            if start >= end:
                self.now_us = end
                return
            ready = []
            most = largest_batch(len(self.due), len(self.free_us))
            while self.due and self.due[0] <= start and len(ready) < most:
                ready.append(heapq.heappop(self.due))
            took = self.base_us + self.each_us * len(ready)
            for came in ready:
                heapq.heappush(self.due, came + FRAME_US)
            heapq.heapreplace(self.free_us, start + took)
            self.load.steps["encoder"].add(len(ready), took)
            taken = [int(start + took - came) for came in ready]
            self.load.latency.add(taken, int(took), int(start))
            self.longest_us = max(self.longest_us, *taken)
            self.now_us = start + turn_us(took, FRAME_US, len(self.free_us))

    def fits(self) -> bool:
        return self.load.fits(streams(len(self.due) + 1), LIMIT_US, int(self.now_us))


def test_a_line_is_found_and_follows_what_changes() -> None:
    steps = StepTimes()
    assert steps.fit() == (0.0, 0.0)
    for frames in (1, 16):
        steps.expect(frames, 400 + 230 * frames)
    assert steps.fit() == pytest.approx((400, 230))
    for turn in range(3000):
        frames = 4 + turn % 9
        steps.add(frames, 800 + 460 * frames)
    base, each = steps.fit()
    assert each > 300
    assert base + 8 * each == pytest.approx(800 + 8 * 460, rel=0.05)


def test_one_step_that_is_far_too_long_changes_little() -> None:
    steps = StepTimes()
    for frames in (1, 16):
        steps.expect(frames, 400 + 230 * frames)
    steps.add(1, 500_000)
    assert steps.of(1) < 1.2 * 630


@pytest.mark.parametrize("workers", [1, 2, 16])
def test_speakers_are_refused_before_any_frame_is_late(workers: int) -> None:
    pool = FakeWorkers(workers)
    while pool.fits():
        pool.join()
        pool.run(0.1)
        assert len(pool.due) < 100 * workers
    assert 30 * workers < len(pool.due) < workers * FRAME_US / EACH_US
    pool.run(10)
    assert pool.longest_us < FRAME_US


def test_an_engine_that_became_slower_takes_fewer_and_takes_more_again_when_it_has_recovered() -> None:
    worker = FakeWorkers()
    for _ in range(15):
        worker.join()
    worker.run(3)
    before = worker.load.headroom(streams(15), LIMIT_US, int(worker.now_us), 200)
    assert before > 15
    worker.base_us, worker.each_us = 3 * BASE_US, 3 * EACH_US
    worker.run(10)
    assert not worker.fits()
    worker.base_us, worker.each_us = BASE_US, EACH_US
    worker.run(20)
    assert worker.load.headroom(streams(15), LIMIT_US, int(worker.now_us), 200) == pytest.approx(before, abs=3)


def test_it_recovers_when_speakers_leave() -> None:
    worker = FakeWorkers()
    while worker.fits():
        worker.join()
    assert not worker.fits()
    worker.due = worker.due[:10]
    heapq.heapify(worker.due)
    assert worker.fits()


@pytest.mark.parametrize("speaking", [0, 1])
def test_one_slow_first_step_refuses_nobody(speaking: int) -> None:
    worker = FakeWorkers()
    for _ in range(speaking):
        worker.join()
    worker.run(2)
    worker.load.steps["encoder"].add(1, 400_000)
    worker.load.latency.add([400_000], 400_000, int(worker.now_us))
    for _ in range(5):
        assert worker.fits()
        worker.run(1)


@pytest.mark.parametrize(
    ("step_us", "workers", "apart_us"),
    [(0, 1, 0), (200, 1, 400), (2000, 1, 4000), (3000, 1, FRAME_US / 3), (2000, 2, 2000), (9000, 4, FRAME_US / 12)],
)
def test_turns_are_twice_a_step_apart_and_a_third_of_a_frame_at_most(
    step_us: float, workers: int, apart_us: float
) -> None:
    assert turn_us(step_us, FRAME_US, workers) == pytest.approx(apart_us)


def test_nothing_is_known_of_a_worker_that_never_stepped_and_it_takes_the_first() -> None:
    assert WorkerLoad(FRAME_US).fits(streams(1), LIMIT_US, 0)


def test_late_results_refuse_although_steps_are_short_and_are_forgotten() -> None:
    """As when something else holds up the event loop."""
    load = load_of()
    for second in range(3):
        for frame in range(75):
            load.latency.add([20_000], 500, second * WINDOW_US + frame * 13_333)
    assert not load.fits(streams(2), LIMIT_US, 3 * WINDOW_US)
    assert load.headroom(streams(1), LIMIT_US, 3 * WINDOW_US, 10) == 0
    assert load.fits(streams(2), LIMIT_US, 60 * WINDOW_US)


def test_decoders_count_too() -> None:
    load = load_of()
    most = load.headroom(streams(0), LIMIT_US, 0, 200)
    assert load.headroom(streams(0, 10), LIMIT_US, 0, 200) == pytest.approx(most - 10, abs=4)
    assert load.headroom(streams(0, most), LIMIT_US, 0, 200) == 0


def test_more_workers_carry_more() -> None:
    most = [load_of(workers=workers).headroom(streams(0), LIMIT_US, 0, 2000) for workers in (1, 2, 8)]
    assert most[0] < most[1] / 1.9 < most[2] / 7.5


def test_windows_say_how_much_time_was_used_and_left() -> None:
    latency = LatencyWindow()
    for frame in range(300):
        latency.add([2000] * 98 + [9000] * 2, 4000, frame * 10_000)
    assert latency.load(3 * WINDOW_US) == pytest.approx(0.4, abs=0.01)
    load = WorkerLoad(FRAME_US, workers=4)
    load.latency = latency
    assert load.busy(3 * WINDOW_US) == pytest.approx(0.1, abs=0.01)
    assert latency.percentile_us(0.5, 3 * WINDOW_US) == 2000
    assert latency.percentile_us(0.99, 3 * WINDOW_US) == 9000
    assert latency.percentile_us(0.5, 100 * WINDOW_US) is None
