"""Codec workers: real threads and loop; engines that wait or fail when a test wants it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from codec.engine.torch_engine import TorchEngine
from codec.errors import EngineFull
from codec.model import Model
from codec.pcm import Pcm
from server.encoder_worker import Job, Result, Worker
from server.hub import clock_us
from server.worker_pool import WorkerPool
from tests.peers import HOP, noise, until
from tests.peers import tiny_model as make_model


class FakeEngine:
    """Codes are the sum of a slot's frames so far. `gate` closed holds a step; poison makes it fail."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.sums: dict[int, float] = {}
        self.batches: list[int] = []
        self.closed: list[int] = []
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
        self.entered.set()
        assert self.gate.wait(60)
        if np.isnan(frames).any():
            raise RuntimeError("poison")
        self.batches.append(len(slots))
        for slot, frame in zip(slots, frames, strict=True):
            self.sums[slot] += float(frame[0])
        return [np.full(count, self.sums[slot], np.int16) for slot, count in zip(slots, n_q, strict=True)]

    def decode(self, slots: Sequence[int], codes: Sequence[Any]) -> Pcm:
        return np.zeros((len(slots), HOP), np.float32)


def worker_of(make: Callable[[], Any], encoders: int = 8, backlog: int = 5, max_batch: int = 32) -> Worker:
    return Worker(make, HOP, encoders, 8, backlog, max_batch)


@pytest.fixture
async def engine_and_worker() -> AsyncIterator[tuple[FakeEngine, Worker]]:
    engine = FakeEngine()
    worker = worker_of(lambda: engine)
    await worker.start()
    engine.batches.clear()
    yield engine, worker
    engine.gate.set()
    await worker.stop()


def frame(value: float) -> Pcm:
    return np.full(HOP, value, np.float32)


def job(data: Any, n_q: int = 0, tag: Any = None) -> Job:
    return Job(data, clock_us(), n_q, tag)


async def test_a_lone_frame_waits_for_nobody(engine_and_worker: tuple[FakeEngine, Worker]) -> None:
    engine, worker = engine_and_worker
    results: list[Result] = []
    worker.open("encoder", results.append).push(job(frame(3), 4, "tag"))
    await until(lambda: results)
    assert (results[0].tag, list(results[0].value), engine.batches) == ("tag", [3, 3, 3, 3], [1])


async def test_whatever_is_ready_is_one_batch_with_one_frame_of_each_in_order(
    engine_and_worker: tuple[FakeEngine, Worker],
) -> None:
    engine, worker = engine_and_worker
    results: list[Result] = []
    sessions = [worker.open("encoder", results.append) for _ in range(4)]
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


async def test_a_backlog_is_bounded_and_its_oldest_frames_go(engine_and_worker: tuple[FakeEngine, Worker]) -> None:
    engine, worker = engine_and_worker
    results: list[Result] = []
    session = worker.open("encoder", results.append)
    engine.hold()
    session.push(job(frame(0), 1, "first"))
    await until(engine.entered.is_set)
    dropped = [session.push(job(frame(0), 1, number)) for number in range(8)]
    engine.gate.set()
    await until(lambda: len(results) == 6)
    assert dropped == [0] * 5 + [1] * 3
    assert [result.tag for result in results] == ["first", 3, 4, 5, 6, 7]
    assert worker.stats(1e6, 0)["frames_dropped"] == 3


async def test_a_fault_ends_the_session_that_caused_it_and_no_other(
    engine_and_worker: tuple[FakeEngine, Worker],
) -> None:
    engine, worker = engine_and_worker
    results: list[Result] = []
    good, bad = worker.open("encoder", results.append), worker.open("encoder", results.append)
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
    assert worker.stats(1e6, 0)["faults"] == 1


async def test_a_session_that_is_closed_hears_nothing_more_and_its_slot_is_free(
    engine_and_worker: tuple[FakeEngine, Worker],
) -> None:
    engine, worker = engine_and_worker
    results: list[Result] = []
    session = worker.open("encoder", results.append)
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
    assert worker.stats(1e6, 0)["free_encoders"] == 8


async def test_no_more_streams_than_slots() -> None:
    workers = [worker_of(FakeEngine, encoders=2) for _ in range(2)]
    pool = WorkerPool(workers, 1e6)
    await pool.start()
    sessions = [pool.open("encoder", lambda result: None) for _ in range(4)]
    assert [worker.sessions for worker in workers] == [2, 2]
    with pytest.raises(EngineFull):
        pool.open("encoder", lambda result: None)
    sessions[1].close()
    assert pool.open("encoder", lambda result: None).worker is sessions[1].worker
    await pool.stop()


async def test_an_engine_that_cannot_be_made_stops_the_start() -> None:
    def fail() -> FakeEngine:
        raise MemoryError("no room")

    with pytest.raises(MemoryError):
        await worker_of(fail).start()


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model()


async def test_streams_in_company_equal_streams_alone(model: Model) -> None:
    worker = worker_of(lambda: TorchEngine(model, 8, 8), backlog=100)
    await worker.start()
    spoken = [noise(10, seed) for seed in range(4)]
    heard: list[list[Result]] = [[] for _ in spoken]
    decoded: list[list[Result]] = [[] for _ in spoken]
    for index, pcm in enumerate(spoken):
        decoder = worker.open("decoder", decoded[index].append)

        def pass_on(result: Result, index: int = index, decoder: Any = decoder) -> None:
            heard[index].append(result)
            decoder.push(job(result.value))

        encoder = worker.open("encoder", pass_on)
        for part in pcm.reshape(-1, HOP):
            encoder.push(job(part, 8))
    await until(lambda: all(len(results) == 10 for results in decoded))
    await worker.stop()
    for pcm, codes, sound in zip(spoken, heard, decoded, strict=True):
        expected = model.encoder(6.0).push(pcm)
        np.testing.assert_array_equal(np.stack([result.value for result in codes], axis=1), expected)
        alone = model.decoder().push(expected)
        np.testing.assert_allclose(np.concatenate([result.value for result in sound]), alone, atol=1e-5)
