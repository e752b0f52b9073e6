from __future__ import annotations

import numpy as np
import pytest

from earshot.client.core.clock import ServerClock
from earshot.client.core.latency import STAGES, LatencyLog, Path, Stages
from earshot.protocol.messages import Pong
from earshot.protocol.packet import Trace
from earshot.protocol.sequence import CLOCK_MODULUS


@pytest.fixture
def clock() -> ServerClock:
    clock = ServerClock()
    clock.ping(1_000)
    clock.pong(Pong(ping_us=1_000, received_us=CLOCK_MODULUS - 5_000, sent_us=CLOCK_MODULUS - 5_000), 1_000)
    return clock


CAPTURE = 1_000_000


def stages_of(trace_ticks: tuple[int, int, int, int], clock: ServerClock) -> Stages:
    trace = Trace(clock.to_server(CAPTURE) % CLOCK_MODULUS, *trace_ticks)
    path = Path.of(trace, clock, CAPTURE + 40_000)
    assert path.capture_us == CAPTURE
    return path.stages(CAPTURE, CAPTURE + 40_000, CAPTURE + 55_000, CAPTURE + 58_000, CAPTURE + 70_000)


def test_stages_of_codes_up(clock: ServerClock) -> None:
    stages = stages_of((134, 170, 200, 210), clock)
    assert stages == Stages(13_400, 3_000, 3_600, 1_000, 19_000, 15_000, 3_000, 12_000)
    assert stages.total == 70_000


def test_stages_of_pcm_up(clock: ServerClock) -> None:
    stages = stages_of((134, 200, 160, 210), clock)
    assert stages == Stages(13_400, 2_600, 4_000, 1_000, 19_000, 15_000, 3_000, 12_000)
    assert stages.total == 70_000


@pytest.mark.parametrize(
    "ticks", [(0, 0, 0, 0), (134, 0, 0, 0), (134, 0, 160, 0), (134, 150, 0, 0), (134, 200, 160, 0)]
)
def test_unknown_times_take_none_of_it_away(ticks: tuple[int, int, int, int], clock: ServerClock) -> None:
    stages = stages_of(ticks, clock)
    assert stages.total == 70_000
    assert min(stages) >= 0


def test_log_percentiles_and_timeline() -> None:
    log = LatencyLog()
    assert log.percentiles() == {}
    assert log.timeline() == []
    for index in range(1_001):
        log.add(index * 10_000, Stages(13_000, 0, 4_000, 0, 1_000, index * 10, 3_000, 0))
    table = log.percentiles()
    assert set(table) == {*STAGES, "total"}
    assert table["jitter"] == pytest.approx({"p50": 5.0, "p95": 9.5, "p99": 9.9})
    assert table["total"]["p50"] == pytest.approx(26.0)
    rows = log.timeline(100)
    assert len(rows) == 100
    assert [row["t_s"] for row in rows] == sorted(row["t_s"] for row in rows)
    assert rows[0]["t_s"] == 0
    for row in rows:
        assert sum(row[name] for name in STAGES) == pytest.approx(row["total"])


def test_log_forgets_the_oldest() -> None:
    log = LatencyLog(keep=10)
    for index in range(25):
        log.add(index, Stages(*[0.0] * 8))
    assert len(log) == 10
    assert log.added == 25
    assert np.array_equal(log.rows()[:, 0], np.arange(15, 25))
