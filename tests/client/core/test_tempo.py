from __future__ import annotations

import pytest

from earshot.client.core.tempo import HARD, HIGH_WATER_OVER_LOW_US, LOW_WATER, RATE_LIMIT, SLACK_US, Plan, Tempo

RATE = 24_000
TARGET_US = 20_000.0
LOW_US = LOW_WATER * TARGET_US
HIGH_US = max(TARGET_US, LOW_US + HIGH_WATER_OVER_LOW_US)
BASE_US = 1_000_000.0


def plan_at(spare_us: float, tempo: Tempo | None = None, start_us: int = 0) -> Plan | None:
    tempo = tempo or Tempo(RATE)
    for index in range(40):
        tempo.observe(start_us + index * 13_333, BASE_US + spare_us)
    assert tempo.spare_us(BASE_US) == pytest.approx(spare_us)
    return tempo.plan(TARGET_US, BASE_US)


def test_nothing_is_done_near_the_target() -> None:
    assert Tempo(RATE).plan(TARGET_US, BASE_US) is None
    for spare in (LOW_US + 100, TARGET_US, TARGET_US + SLACK_US - 100):
        assert plan_at(spare) is None


def test_waters() -> None:
    low, above, high, flood = (plan_at(spare) for spare in (LOW_US - 500, 30_000, HIGH_US + 500, HARD * HIGH_US + 500))
    assert low is not None
    assert (low.samples, low.urgent) == (-132, True)
    assert above is not None
    assert (above.samples, above.urgent, above.hard) == (240, False, False)
    assert high is not None
    assert (high.urgent, high.hard) == (True, False)
    assert flood is not None
    assert flood.hard


def test_compressing_goes_on_down_to_the_target() -> None:
    tempo = Tempo(RATE)
    assert plan_at(HIGH_US + 500, tempo) is not None
    below = plan_at(HIGH_US - 500, tempo, 2_000_000)
    assert below is not None
    assert below.urgent
    assert plan_at(TARGET_US, tempo, 4_000_000) is None
    again = plan_at(HIGH_US - 500, tempo, 6_000_000)
    assert again is not None
    assert not again.urgent


def test_one_lucky_block_is_not_compressed() -> None:
    tempo = Tempo(RATE)
    tempo.observe(0, BASE_US + 50_000)
    assert tempo.plan(TARGET_US, BASE_US) is None


def test_speed_is_limited() -> None:
    tempo = Tempo(RATE)
    plan = plan_at(HIGH_US + 20_000, tempo)
    assert plan is not None
    tempo.done(plan, 200, 200)
    assert tempo.spare_us(BASE_US) == pytest.approx(HIGH_US + 20_000 - 200 * 1e6 / RATE)
    tempo.played(200 * RATE_LIMIT - 1)
    assert tempo.plan(TARGET_US, BASE_US) is None
    tempo.played(1)
    assert tempo.plan(TARGET_US, BASE_US) is not None


def test_vain_tries_make_it_less_choosy() -> None:
    tempo = Tempo(RATE)
    first = plan_at(HIGH_US + 500, tempo)
    assert first is not None
    for _ in range(10):
        tempo.done(first, 0, 0)
    second = tempo.plan(TARGET_US, BASE_US)
    assert second is not None
    assert second.similar < first.similar
