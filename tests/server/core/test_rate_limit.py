"""The token bucket, in fake time."""

from __future__ import annotations

from earshot.server.core.rate_limit import TokenBucket

SECOND = 1_000_000


def test_a_burst_then_the_rate() -> None:
    bucket = TokenBucket(rate=10, burst=5, now_us=0)
    assert [bucket.take(1, 0) for _ in range(6)] == [True] * 5 + [False]
    assert not bucket.take(1, SECOND // 10 - 1)
    assert bucket.take(1, SECOND // 10)
    taken = sum(bucket.take(1, SECOND // 10 + at) for at in range(0, 10 * SECOND, 1000))
    assert 99 <= taken <= 100


def test_idle_time_saves_up_no_more_than_the_burst() -> None:
    bucket = TokenBucket(rate=10, burst=5, now_us=0)
    assert bucket.take(5, 0)
    assert not bucket.take(6, 3600 * SECOND)
    assert bucket.take(5, 3600 * SECOND)


def test_what_is_refused_costs_nothing_and_time_going_back_fills_nothing() -> None:
    bucket = TokenBucket(rate=10, burst=5, now_us=SECOND)
    assert not bucket.take(6, SECOND)
    assert bucket.take(5, SECOND)
    assert not bucket.take(1, 0)
    assert not bucket.take(1, SECOND)
    assert bucket.take(1, SECOND + SECOND // 10)
