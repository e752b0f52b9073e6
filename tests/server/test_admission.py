"""Who comes in: a worker in fake time, whose steps take what a test says."""

from __future__ import annotations

import heapq
import random

import pytest

from server.admission import WINDOW_US, Kind, Punctuality, StepTimes, WorkerLoad, fit_all, rest_us, within_share

FRAME_US = 1e6 * 320 / 24_000
LIMIT_US = 0.8 * FRAME_US
BASE_US, EACH_US = 400.0, 230.0


def load_of(base_us: float = BASE_US, each_us: float = EACH_US) -> WorkerLoad:
    load = WorkerLoad(FRAME_US)
    for steps in load.steps.values():
        for frames in (1, 16):
            steps.expect(frames, base_us + each_us * frames)
    return load


def streams(encoders: int, decoders: int = 0) -> dict[Kind, int]:
    return {"encoder": encoders, "decoder": decoders}


class FakeWorker:
    """Streams with phases of their own, and one who steps what is ready, as server/encoder_worker.py does."""

    def __init__(self, load: WorkerLoad, base_us: float = BASE_US, each_us: float = EACH_US, seed: int = 0) -> None:
        self.load, self.base_us, self.each_us = load, base_us, each_us
        self.random = random.Random(seed)
        self.now_us = 0.0
        self.due: list[float] = []
        self.longest_us = 0.0

    def join(self) -> None:
        heapq.heappush(self.due, self.now_us + self.random.random() * FRAME_US)

    def run(self, seconds: float) -> None:
        """Afterwards `longest_us` is the longest that a frame took."""
        end, self.longest_us = self.now_us + seconds * 1e6, 0.0
        while self.now_us < end:
            if not self.due or self.due[0] > self.now_us:
                self.now_us = min(self.due[0] if self.due else end, end)
                continue
            ready = []
            while self.due and self.due[0] <= self.now_us:
                ready.append(heapq.heappop(self.due))
            for came in ready:
                heapq.heappush(self.due, came + FRAME_US)
            took = self.base_us + self.each_us * len(ready)
            self.now_us += took
            self.load.steps["encoder"].add(len(ready), took)
            taken = [int(self.now_us - came) for came in ready]
            self.load.punctuality.add(taken, int(took), int(self.now_us))
            self.longest_us = max(self.longest_us, *taken)
            self.now_us += rest_us(took, FRAME_US)

    def fits(self) -> bool:
        return self.load.fits(streams(len(self.due) + 1), LIMIT_US, int(self.now_us))


def test_a_line_is_found_and_follows_what_changes() -> None:
    steps = StepTimes()
    assert steps.line() == (0.0, 0.0)
    for frames in (1, 16):
        steps.expect(frames, 400 + 230 * frames)
    assert steps.line() == pytest.approx((400, 230))
    for turn in range(3000):
        frames = 4 + turn % 9
        steps.add(frames, 800 + 460 * frames)
    base, each = steps.line()
    assert each > 300
    assert base + 8 * each == pytest.approx(800 + 8 * 460, rel=0.05)


def test_one_step_that_is_far_too_long_changes_little() -> None:
    steps = StepTimes()
    for frames in (1, 16):
        steps.expect(frames, 400 + 230 * frames)
    steps.add(1, 500_000)
    assert steps.of(1) < 1.2 * 630


def test_speakers_are_refused_before_any_frame_is_late() -> None:
    worker = FakeWorker(load_of())
    while worker.fits():
        worker.join()
        worker.run(0.1)
        assert len(worker.due) < 200
    assert 30 < len(worker.due) < FRAME_US / EACH_US
    worker.run(10)
    assert worker.longest_us < FRAME_US


def test_an_engine_that_became_slower_takes_fewer_and_takes_more_again_when_it_has_recovered() -> None:
    worker = FakeWorker(load_of())
    for _ in range(15):
        worker.join()
    worker.run(3)
    before = worker.load.room(streams(15), LIMIT_US, int(worker.now_us), 200)
    assert before > 15
    worker.base_us, worker.each_us = 3 * BASE_US, 3 * EACH_US
    worker.run(10)
    assert not worker.fits()
    worker.base_us, worker.each_us = BASE_US, EACH_US
    worker.run(20)
    assert worker.load.room(streams(15), LIMIT_US, int(worker.now_us), 200) == pytest.approx(before, abs=3)


def test_it_recovers_when_speakers_leave() -> None:
    worker = FakeWorker(load_of())
    while worker.fits():
        worker.join()
    assert not worker.fits()
    worker.due = worker.due[:10]
    heapq.heapify(worker.due)
    assert worker.fits()


@pytest.mark.parametrize("speaking", [0, 1])
def test_one_slow_first_step_refuses_nobody(speaking: int) -> None:
    worker = FakeWorker(load_of())
    for _ in range(speaking):
        worker.join()
    worker.run(2)
    worker.load.steps["encoder"].add(1, 400_000)
    worker.load.punctuality.add([400_000], 400_000, int(worker.now_us))
    for _ in range(5):
        assert worker.fits()
        worker.run(1)


@pytest.mark.parametrize(
    ("step_us", "rested_us"), [(200, 200), (2000, 2000), (3000, FRAME_US / 3 - 3000), (5000, 0), (50_000, 0)]
)
def test_a_rest_is_as_long_as_the_step_and_ends_with_a_third_of_a_frame(step_us: float, rested_us: float) -> None:
    assert rest_us(step_us, FRAME_US) == pytest.approx(rested_us)


def test_nothing_is_known_of_a_worker_that_never_stepped_and_it_takes_the_first() -> None:
    assert WorkerLoad(FRAME_US).fits(streams(1), LIMIT_US, 0)


def test_late_results_refuse_although_steps_are_short_and_are_forgotten() -> None:
    """As when something else holds up the event loop."""
    load = load_of()
    for second in range(3):
        for frame in range(75):
            load.punctuality.add([20_000], 500, second * WINDOW_US + frame * 13_333)
    assert not load.fits(streams(2), LIMIT_US, 3 * WINDOW_US)
    assert load.room(streams(1), LIMIT_US, 3 * WINDOW_US, 10) == 0
    assert load.fits(streams(2), LIMIT_US, 60 * WINDOW_US)


def test_decoders_count_too() -> None:
    load = load_of()
    most = load.room(streams(0), LIMIT_US, 0, 200)
    assert load.room(streams(0, 10), LIMIT_US, 0, 200) == pytest.approx(most - 10, abs=4)
    assert load.room(streams(0, most), LIMIT_US, 0, 200) == 0


def test_a_crowd_is_spread_and_refused_as_a_whole() -> None:
    loads = [load_of(), load_of()]
    most = loads[0].room(streams(0), LIMIT_US, 0, 200)
    idle = [(load, streams(0)) for load in loads]
    assert fit_all(idle, {"encoder": 2 * most}, LIMIT_US, 0)
    assert not fit_all(idle, {"encoder": 2 * most + 1}, LIMIT_US, 0)
    assert fit_all([(loads[0], streams(most)), (loads[1], streams(0))], {"encoder": 1, "decoder": 3}, LIMIT_US, 0)
    assert not fit_all([], {"encoder": 1}, LIMIT_US, 0)


def test_windows_say_how_much_time_was_used_and_left() -> None:
    punctuality = Punctuality()
    for frame in range(300):
        punctuality.add([2000] * 98 + [9000] * 2, 4000, frame * 10_000)
    assert punctuality.load(3 * WINDOW_US) == pytest.approx(0.4, abs=0.01)
    assert punctuality.percentile_us(0.5, 3 * WINDOW_US) == 2000
    assert punctuality.percentile_us(0.99, 3 * WINDOW_US) == 9000
    assert punctuality.percentile_us(0.5, 100 * WINDOW_US) is None


@pytest.mark.parametrize(
    ("held", "capacity", "share", "allowed"),
    [
        (0, 1, 0.5, True),
        (1, 2, 0.5, False),
        (1, 3, 0.5, True),
        (29, 60, 0.5, True),
        (30, 60, 0.5, False),
        (59, 60, 1.0, True),
        (0, 0, 0.5, False),
    ],
)
def test_an_address_has_its_share(held: int, capacity: int, share: float, allowed: bool) -> None:
    assert within_share(held, capacity, share) is allowed
