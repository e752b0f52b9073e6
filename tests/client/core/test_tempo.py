from __future__ import annotations

import pytest

from earshot.client.core.tempo import (
    FAR_US,
    HARD,
    HIGH_WATER_OVER_LOW_US,
    LOW_UNDER_TARGET_US,
    LOW_WATER,
    PAUSE_SPACING,
    SLACK_US,
    SPEECH_SPACING,
    Plan,
    Tempo,
)

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
    tempo.played(200 * PAUSE_SPACING - 1)
    assert tempo.plan(TARGET_US, BASE_US) is None
    tempo.played(1)
    in_pauses = tempo.plan(TARGET_US, BASE_US)
    assert in_pauses is not None
    assert not in_pauses.urgent
    tempo.played(int(200 * (SPEECH_SPACING - PAUSE_SPACING)) + 1)
    in_speech = tempo.plan(TARGET_US, BASE_US)
    assert in_speech is not None
    assert in_speech.urgent


def test_far_from_the_target_nothing_more_is_observed_and_speech_is_cut_as_pauses_are() -> None:
    tempo = Tempo(RATE)
    tempo.observe(0, BASE_US + TARGET_US + FAR_US + 1_000)
    assert tempo.plan(TARGET_US, BASE_US) is not None
    tempo = Tempo(RATE)
    flood = plan_at(HARD * HIGH_US + 50_000, tempo)
    assert flood is not None
    tempo.done(flood, 200, 200)
    tempo.played(200 * PAUSE_SPACING - 1)
    assert tempo.plan(TARGET_US, BASE_US) is None
    tempo.played(1)
    again = tempo.plan(TARGET_US, BASE_US)
    assert again is not None
    assert again.hard


def test_a_high_target_has_its_low_water_near() -> None:
    tempo = Tempo(RATE)
    for index in range(40):
        tempo.observe(index * 13_333, BASE_US + 80_000 - LOW_UNDER_TARGET_US - 500)
    low = tempo.plan(80_000, BASE_US)
    assert low is not None
    assert low.samples < 0


def test_vain_tries_make_it_less_choosy() -> None:
    tempo = Tempo(RATE)
    first = plan_at(HIGH_US + 500, tempo)
    assert first is not None
    for _ in range(10):
        tempo.done(first, 0, 0)
    second = tempo.plan(TARGET_US, BASE_US)
    assert second is not None
    assert second.similar < first.similar
