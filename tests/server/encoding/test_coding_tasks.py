"""CodingTasks of a codec worker: in order, between steps, and never waited for in vain."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from earshot.codec.errors import EngineFull
from earshot.server.core.admission import WorkerLoad
from earshot.server.core.jobs import Result
from earshot.server.encoding import pool as worker_pool
from earshot.server.encoding.coding_tasks import CodingTasks
from earshot.server.encoding.pool import WorkerPool
from tests.peers import until
from tests.server.encoding.test_pool import FakeEngine, frame, job, pool_of


@pytest.fixture
async def engine_and_pool() -> AsyncIterator[tuple[FakeEngine, WorkerPool]]:
    engine = FakeEngine()
    pool = pool_of(lambda: engine)
    await pool.start()
    yield engine, pool
    engine.gate.set()
    await pool.stop()


def test_they_are_done_in_order_and_errors_come_back() -> None:
    tasks, done = CodingTasks(), []
    futures = [tasks.put(lambda number=number: done.append(number) or number) for number in range(3)]
    dropped = tasks.put(lambda: done.append("dropped"))
    broken = tasks.put(lambda: 1 // 0)
    assert len(tasks) == 5
    dropped.cancel()
    while tasks.do_one():
        pass
    assert [future.result()[0] for future in futures] == done == [0, 1, 2]
    assert all(future.result()[1] >= 0 for future in futures)
    with pytest.raises(ZeroDivisionError):
        broken.result()
    assert (tasks.count, len(tasks), tasks.wait_us) == (4, 0, 0)


def test_a_rest_is_spent_on_them() -> None:
    tasks, done = CodingTasks(), threading.Event()
    resting = threading.Thread(target=tasks.rest, args=(60.0,))
    late = threading.Timer(0.05, lambda: tasks.put(done.set))
    resting.daemon = True
    resting.start()
    late.start()
    assert done.wait(30)
    tasks.put(lambda: None)
    tasks.rest(0)
    assert not tasks  # one at least, without time too


def test_none_is_left_waiting_at_the_end() -> None:
    tasks = CodingTasks()
    waiting = tasks.put(lambda: None)
    tasks.end()
    assert waiting.cancelled()
    assert tasks.put(lambda: None).cancelled()


async def test_a_worker_does_them_between_its_steps(engine_and_pool: tuple[FakeEngine, WorkerPool]) -> None:
    engine, pool = engine_and_pool
    threads = {await pool.do(threading.get_ident) for _ in range(3)}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}
    results: list[Result] = []
    session = pool.open("encoder", results.append)
    engine.hold()
    session.push(job(frame(1), 1))
    await asyncio.to_thread(engine.entered.wait)
    task = asyncio.create_task(pool.do(lambda: "done"))
    given_up = asyncio.create_task(pool.do(lambda: "never"))
    await asyncio.sleep(0.05)
    assert not task.done()  # a step runs
    given_up.cancel()
    engine.gate.set()
    assert await task == "done"
    await until(lambda: results)
    with pytest.raises(asyncio.CancelledError):
        await given_up


async def test_what_would_wait_too_long_is_refused(engine_and_pool: tuple[FakeEngine, WorkerPool]) -> None:
    _, pool = engine_and_pool
    gate = threading.Event()
    pool.coding_tasks.mean_us = 1000.0
    held = [asyncio.create_task(pool.do(gate.wait)) for _ in range(10)]
    await until(lambda: len(pool.coding_tasks) == 9)
    with pytest.raises(EngineFull, match="no time"):
        await pool.do(lambda: None, 5000.0)
    gate.set()
    assert all(await asyncio.gather(*held))
    assert await pool.do(lambda: "fits", 5000.0) == "fits"


async def test_how_busy_the_workers_were(
    engine_and_pool: tuple[FakeEngine, WorkerPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, pool = engine_and_pool
    began_us = 1_000_000
    monkeypatch.setattr(worker_pool, "clock_us", lambda: began_us + 2_500_000)
    pool.load = WorkerLoad(13_333, began_us)
    for second, busy_us in enumerate((900_000, 500_000)):
        pool.load.latency.add((), busy_us, began_us + second * 1_000_000)
    assert pool.busy() == pytest.approx(0.7)
    await pool.stop()
    assert pool.busy() == 1


async def test_a_worker_that_ends_leaves_nobody_waiting(engine_and_pool: tuple[FakeEngine, WorkerPool]) -> None:
    engine, pool = engine_and_pool
    session = pool.open("encoder", lambda result: None)
    engine.hold()
    session.push(job(frame(1), 1))
    await asyncio.to_thread(engine.entered.wait)
    running = asyncio.create_task(pool.do(lambda: time.sleep(0.05)))  # longer than any rest
    waiting = asyncio.create_task(pool.do(lambda: None))
    stopping = asyncio.create_task(pool.stop())
    await asyncio.sleep(0.05)
    engine.gate.set()
    await stopping
    await running
    with pytest.raises(EngineFull, match="has ended"):
        await waiting
    with pytest.raises(EngineFull):
        await pool.do(lambda: None)
