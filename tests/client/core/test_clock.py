from __future__ import annotations

import random

import pytest

from earshot.client.core.clock import ServerClock
from earshot.codec.errors import UsageError
from earshot.protocol.messages import Ping, Pong
from earshot.protocol.sequence import CLOCK_MODULUS


def exchange(clock: ServerClock, at_us: int, offset: int, up: int, down: int, inside: int = 50) -> None:
    ping = clock.ping(at_us)
    received = at_us + up + offset
    pong = Pong(ping_us=ping.sent_us, received_us=received, sent_us=received + inside)
    assert clock.pong(pong, at_us + up + inside + down)


def test_nothing_is_known_before_the_first_pong() -> None:
    clock = ServerClock()
    assert clock.ping(5) == Ping(sent_us=5)
    assert (clock.ready, clock.offset_us, clock.round_trip_us) == (False, None, None)
    with pytest.raises(UsageError):
        clock.to_server(1)
    with pytest.raises(UsageError):
        clock.from_server_wrapped(1, 1)


def test_the_least_round_trip_gives_the_offset() -> None:
    clock, rng = ServerClock(), random.Random(0)
    for index in range(20):
        exchange(clock, 1_000_000 * (index + 1), 123_456_789, 2_000 + rng.randrange(80_000), 2_000 + rng.randrange(500))
    exchange(clock, 30_000_000, 123_456_789, 1_000, 1_000)
    exchange(clock, 31_000_000, 123_456_789, 90_000, 1_000)
    assert clock.offset_us == 123_456_789
    assert clock.round_trip_us == 2_000


def test_error_is_at_most_half_the_round_trip() -> None:
    clock = ServerClock()
    exchange(clock, 1_000_000, 5_000_000, 9_000, 1_000)
    assert clock.offset_us is not None
    assert abs(clock.offset_us - 5_000_000) <= 5_000


def test_a_drifting_clock_is_followed() -> None:
    clock = ServerClock(keep=200)
    for second in range(600):
        exchange(clock, 1_000_000 * (second + 1), 7_000_000 + 100 * second, 500 + second, 500 + second)
    assert clock.offset_us is not None
    assert abs(clock.offset_us - (7_000_000 + 100 * 599)) <= 100 * 61


def test_strange_pongs_change_nothing() -> None:
    clock = ServerClock()
    assert not clock.pong(Pong(ping_us=1, received_us=2, sent_us=3), 10)
    clock.ping(100)
    assert not clock.pong(Pong(ping_us=100, received_us=0, sent_us=1_000), 200)  # longer inside than under way
    assert not clock.pong(Pong(ping_us=100, received_us=1_000, sent_us=500), 200)  # sent before it was received
    assert not clock.ready
    assert clock.ignored == 3
    exchange(clock, 300, 0, 10, 10)
    assert not clock.pong(Pong(ping_us=300, received_us=0, sent_us=0), 400)  # the same one again
    assert clock.offset_us == 0


def test_pings_that_nobody_answers_are_forgotten() -> None:
    clock = ServerClock()
    for index in range(1_000):
        clock.ping(index)
    assert not clock.pong(Pong(ping_us=0, received_us=0, sent_us=0), 2_000)
    assert clock.pong(Pong(ping_us=999, received_us=0, sent_us=0), 2_000)


@pytest.mark.parametrize("offset", [0, 17, -40_000_000, CLOCK_MODULUS - 500, 3 * CLOCK_MODULUS + 99])
def test_wrapped_times_come_back(offset: int) -> None:
    clock = ServerClock()
    exchange(clock, 50_000_000, offset, 0, 0) if offset >= 0 else exchange(clock, 50_000_000, offset, 10, 10)
    for local in (0, 60_000_000, CLOCK_MODULUS + 5):
        wrapped = clock.to_server(local) % CLOCK_MODULUS
        for near in (local, local + 700_000, local - 700_000):
            assert clock.from_server_wrapped(wrapped, near) == local
