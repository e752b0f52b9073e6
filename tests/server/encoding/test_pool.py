"""The codec workers: real threads and loop; engines that wait or fail when a test wants it."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from earshot.codec.engine.torch.engine import TorchEngine
from earshot.codec.errors import EngineFull
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from earshot.server.clock import clock_us
from earshot.server.core.jobs import Job, Result
from earshot.server.encoding.pool import WorkerPool
from earshot.server.settings import IDLE_NICE
from tests.peers import HOP, noise, until
from tests.peers import tiny_model as make_model


class FakeEngine:
    """Codes are the sum of a slot's frames so far. `gate` closed holds a step; poison makes it
    fail."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.sums: dict[int, float] = {}
        self.batches: list[int] = []
        self.closed: list[int] = []
        self.inside: list[set[int]] = []
        """The slots of the steps that run."""
        self.model: Any = None

    def hold(self) -> None:
        """The next step begins and does not end before `gate` is set."""
        self.gate.clear()
        self.entered.clear()

    def open_encoder(self) -> int:
        slot = len(self.sums)
        self.sums[slot] = 0.0
        return slot

    open_decoder = open_encoder

    def close(self, slot: int) -> None:
        self.closed.append(slot)

    def reset(self, slot: int) -> None:
        self.sums[slot] = 0.0

    def copy(self, slot: int) -> int:
        raise NotImplementedError

    def encode(self, slots: Sequence[int], frames: Pcm, n_q: Sequence[int]) -> list[Any]:
        self.inside.append(set(slots))
        self.entered.set()
        assert self.gate.wait(60)
        self.inside.remove(set(slots))
        if np.isnan(frames).any():
            raise RuntimeError("poison")
        self.batches.append(len(slots))
        for slot, frame in zip(slots, frames, strict=True):
            self.sums[slot] += float(frame[0])
        return [np.full(count, self.sums[slot], np.int16) for slot, count in zip(slots, n_q, strict=True)]

    def decode(self, slots: Sequence[int], codes: Sequence[Any]) -> Pcm:
        return np.zeros((len(slots), HOP), np.float32)


def pool_of(
    make: Callable[[], Any], encoders: int = 8, backlog: int = 5, workers: int = 1, nice: int = 0, limit_us: float = 1e6
) -> WorkerPool:
    return WorkerPool(make, HOP, encoders, 8, backlog, 32, limit_us, nice=nice, cores=[None] * workers)


@pytest.fixture
async def engine_and_pool() -> AsyncIterator[tuple[FakeEngine, WorkerPool]]:
    engine = FakeEngine()
    pool = pool_of(lambda: engine)
    await pool.start()
    engine.batches.clear()
    yield engine, pool
    engine.gate.set()
    await pool.stop()


def frame(value: float) -> Pcm:
    return np.full(HOP, value, np.float32)


def job(data: Any, n_q: int = 0, tag: Any = None) -> Job:
    return Job(data, clock_us(), n_q, tag)


async def test_a_lone_frame_waits_for_nobody(engine_and_pool: tuple[FakeEngine, WorkerPool]) -> None:
    engine, pool = engine_and_pool
    results: list[Result] = []
    pool.open("encoder", results.append).push(job(frame(3), 4, "tag"))
    await until(lambda: results)
    assert (results[0].tag, list(results[0].value), engine.batches) == ("tag", [3, 3, 3, 3], [1])


async def test_whatever_is_ready_is_one_batch_with_one_frame_of_each_in_order(
    engine_and_pool: tuple[FakeEngine, WorkerPool],
) -> None:
    engine, pool = engine_and_pool
    results: list[Result] = []
    sessions = [pool.open("encoder", results.append) for _ in range(4)]
    engine.hold()
    sessions[0].push(job(frame(0), 1, (0, -1)))
    await until(engine.entered.is_set)
    for number in range(3):
        for index, session in enumerate(sessions):
            session.push(job(frame(1), 1, (index, number)))
    engine.gate.set()
    await until(lambda: len(results) == 13)
    assert engine.batches == [1, 4, 4, 4]
    for index in range(4):
        assert [result.tag[1] for result in results if result.tag[0] == index][-3:] == [0, 1, 2]
        assert [int(result.value[0]) for result in results if result.tag[0] == index][-3:] == [1, 2, 3]


@pytest.mark.parametrize("floats", [0, 1])
async def test_frames_may_be_sixteen_bit_as_they_came_beside_floats_or_alone(
    engine_and_pool: tuple[FakeEngine, WorkerPool], floats: int
) -> None:
    engine, pool = engine_and_pool
    results: list[Result] = []
    frames: list[Pcm | bytes] = [np.full(HOP, value, "<i2").tobytes() for value in (8192, 16384)]
    frames += [frame(0.75)] * floats
    sessions = [pool.open("encoder", results.append) for _ in frames]
    engine.hold()
    sessions[0].push(job(frame(0), 1))
    await until(engine.entered.is_set)
    for session, data in zip(sessions, frames, strict=True):
        session.push(job(data, 1))
    engine.gate.set()
    await until(lambda: len(results) == 1 + len(frames))
    assert engine.batches == [1, len(frames)]
    assert [engine.sums[session.slot or 0] for session in sessions] == [0.25, 0.5, 0.75][: len(frames)]


async def test_a_backlog_is_bounded_and_its_oldest_frames_go(engine_and_pool: tuple[FakeEngine, WorkerPool]) -> None:
    engine, pool = engine_and_pool
    results: list[Result] = []
    session = pool.open("encoder", results.append)
    engine.hold()
    session.push(job(frame(0), 1, "first"))
    await until(engine.entered.is_set)
    dropped = [session.push(job(frame(0), 1, number)) for number in range(8)]
    engine.gate.set()
    await until(lambda: len(results) == 6)
    assert dropped == [0] * 5 + [1] * 3
    assert [result.tag for result in results] == ["first", 3, 4, 5, 6, 7]
    assert pool.stats()["frames_dropped"] == 3


async def test_a_fault_ends_the_session_that_caused_it_and_no_other(
    engine_and_pool: tuple[FakeEngine, WorkerPool],
) -> None:
    engine, pool = engine_and_pool
    results: list[Result] = []
    good, bad = pool.open("encoder", results.append), pool.open("encoder", results.append)
    engine.hold()
    good.push(job(frame(0), 1, "good"))
    await until(engine.entered.is_set)
    good.push(job(frame(5), 1, "good"))
    bad.push(job(frame(float("nan")), 1, "bad"))
    good.push(job(frame(5), 1, "good"))
    engine.gate.set()
    await until(lambda: len(results) == 4)
    assert [int(result.value[0]) for result in results if result.tag == "good"] == [0, 5, 10]
    assert [result.value for result in results if result.tag == "bad"] == [None]
    assert pool.stats()["faults"] == 1


async def test_a_session_that_is_closed_hears_nothing_more_and_its_slot_is_free(
    engine_and_pool: tuple[FakeEngine, WorkerPool],
) -> None:
    engine, pool = engine_and_pool
    results: list[Result] = []
    session = pool.open("encoder", results.append)
    engine.hold()
    session.push(job(frame(0), 1))
    await until(engine.entered.is_set)
    session.push(job(frame(0), 1))
    session.close()
    session.close()
    assert session.push(job(frame(0), 1)) == 1
    before = len(engine.closed)
    engine.gate.set()
    await until(lambda: len(engine.closed) > before)
    await asyncio.sleep(0.02)
    assert results == []
    assert pool.stats()["free_encoders"] == 8


async def test_no_more_streams_than_slots(engine_and_pool: tuple[FakeEngine, WorkerPool]) -> None:
    _, pool = engine_and_pool
    sessions = [pool.open("encoder", lambda result: None) for _ in range(8)]
    assert (pool.encoders, pool.more_speakers()) == (8, 0)
    with pytest.raises(EngineFull):
        pool.open("encoder", lambda result: None)
    sessions[1].close()
    sessions[1].close()
    assert pool.encoders == 7
    pool.open("encoder", lambda result: None)


async def test_workers_share_the_streams_and_each_stream_keeps_its_order() -> None:
    engine, results = FakeEngine(), list[Result]()
    pool = pool_of(lambda: engine, encoders=32, backlog=100, workers=2)
    await pool.start()
    engine.batches.clear()
    sessions = [pool.open("encoder", results.append) for _ in range(32)]
    engine.hold()
    for number in range(10):
        for index, session in enumerate(sessions):
            session.push(job(frame(1), 1, (index, number)))
    await until(lambda: len(engine.inside) == 2)  # both workers step at the same time
    assert all(len(slots) <= 8 for slots in engine.inside), "a worker took more than half of its share"
    assert not set.intersection(*engine.inside), "a stream is with two workers"
    engine.gate.set()
    await until(lambda: len(results) == 320)
    for index in range(32):
        own = [result for result in results if result.tag[0] == index]
        assert [result.tag[1] for result in own] == list(range(10))
        assert [int(result.value[0]) for result in own] == list(range(1, 11))
    await pool.stop()


async def test_a_session_closed_while_it_is_stepped_keeps_its_slot_until_then() -> None:
    engine = FakeEngine()
    pool = pool_of(lambda: engine, workers=2)
    await pool.start()
    sessions = [pool.open("encoder", lambda result: None) for _ in range(2)]
    engine.hold()
    sessions[0].push(job(frame(0), 1))
    await until(engine.entered.is_set)
    sessions[0].close()
    before = len(engine.closed)
    sessions[1].close()  # by the other worker, at once
    await asyncio.sleep(0.05)
    assert len(engine.closed) == before, "it had no slot yet, and the first is stepped"
    engine.gate.set()
    await until(lambda: len(engine.closed) == before + 1)
    await pool.stop()


async def test_a_worker_that_ends_leaves_its_streams_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, results = FakeEngine(), list[Result]()
    pool = pool_of(lambda: engine, backlog=100, workers=2)
    await pool.start()
    sessions = [pool.open("encoder", results.append) for _ in range(4)]
    hand_over, broken = pool.workers[0]._hand_over, threading.Lock()

    def fail_once(stepped: Any) -> None:
        hand_over(stepped)
        if broken.acquire(blocking=False):
            raise SystemError("a fault that nobody foresaw")

    for worker in pool.workers:
        monkeypatch.setattr(worker, "_hand_over", fail_once)
    for number in range(5):
        for session in sessions:
            session.push(job(frame(1), 1, number))
    await until(lambda: len(results) == 20)
    await until(lambda: not pool.alive)
    assert [worker.alive for worker in pool.workers].count(True) == 1
    assert pool.has_headroom("encoder")
    assert await pool.do(lambda: "done") == "done"
    await pool.stop()
    assert not pool.has_headroom("encoder")


@pytest.mark.skipif(sys.platform != "linux", reason="niceness of a thread")
@pytest.mark.parametrize("nice", [0, 7, IDLE_NICE])
async def test_workers_give_way_as_they_are_told(nice: int) -> None:
    pool = pool_of(FakeEngine, nice=nice)
    await pool.start()
    policy, niceness = await pool.do(lambda: (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)))
    await pool.stop()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert policy == (os.SCHED_IDLE if nice == IDLE_NICE else os.SCHED_OTHER)
    assert niceness == (7 if nice == 7 else own)


async def test_an_engine_that_cannot_be_made_stops_the_start() -> None:
    def fail() -> FakeEngine:
        raise MemoryError("no room")

    with pytest.raises(MemoryError):
        await pool_of(fail, workers=2).start()


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model()


async def test_streams_in_company_equal_streams_alone(model: Model) -> None:
    pool = pool_of(lambda: TorchEngine(model, 8, 8), backlog=100, workers=2)
    await pool.start()
    spoken = [noise(10, seed) for seed in range(4)]
    heard: list[list[Result]] = [[] for _ in spoken]
    decoded: list[list[Result]] = [[] for _ in spoken]
    for index, pcm in enumerate(spoken):
        decoder = pool.open("decoder", decoded[index].append)

        def pass_on(result: Result, index: int = index, decoder: Any = decoder) -> None:
            heard[index].append(result)
            decoder.push(job(result.value))

        encoder = pool.open("encoder", pass_on)
        for part in pcm.reshape(-1, HOP):
            encoder.push(job(part, 8))
    await until(lambda: all(len(results) == 10 for results in decoded))
    await pool.stop()
    for pcm, codes, sound in zip(spoken, heard, decoded, strict=True):
        expected = model.encoder(6.0).push(pcm)
        np.testing.assert_array_equal(np.stack([result.value for result in codes], axis=1), expected)
        alone = model.decoder().push(expected)
        np.testing.assert_allclose(np.concatenate([result.value for result in sound]), alone, atol=1e-5)
