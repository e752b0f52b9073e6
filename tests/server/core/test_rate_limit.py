"""The token bucket, in fake time."""

from __future__ import annotations

from earshot.server.core.rate_limit import AddressBuckets, TokenBucket

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


def test_each_address_has_a_bucket_and_few_are_kept() -> None:
    buckets = AddressBuckets(rate=1, burst=2, most=3)
    assert [buckets.take("a", 1, 0) for _ in range(3)] == [True, True, False]
    assert buckets.take("b", 2, 0)
    assert buckets.take("2001:db8::1", 2, 0)
    assert not buckets.take("2001:db8::2", 1, 0)
    assert not buckets.take("a", 1, 0)
    assert buckets.take("c", 1, 0)
    assert len(buckets) == 3
