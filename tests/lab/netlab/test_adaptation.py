"""What a client makes of lines of several rates, by its own rules and in fake time: TCP is a queue
here that loses nothing, with delayed acknowledgements, and pings and acknowledgements take their
share of the line."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from earshot.client.core.adaptation import SETTLE_US, Adaptation, Amount
from earshot.client.core.backlog import TLS_BYTES, Backlog
from earshot.client.net.line import LOOK_S, WEBSOCKET_BYTES
from earshot.lab.netlab.impairment import Impairment
from earshot.lab.netlab.profiles import Profile

RATES = (1.5, 3.0, 6.0, 12.0)
FRAME_S = 320 / 24_000
TCP_BYTES, DELAYED_ACK_S = 52, 0.04
HELLO_BYTES, WELCOME_BYTES, PING_BYTES, PONG_BYTES, PACKET_BYTES = 700, 1500, 40, 110, 3
FIRST_PINGS, FIRST_PING_EVERY_S, PING_EVERY_S = 8, 0.02, 2.5


@dataclass
class Way:
    """One direction of a TCP connection."""

    line: Impairment
    sent: int = 0
    came: int = 0
    """Bytes at the far end."""
    acknowledged: int = 0
    owes_from_s: float | None = None
    """Since when the far end owes an acknowledgement."""


@dataclass
class Caller:
    """One client on a line, and the server at its other end."""

    profile: Profile
    hears: bool
    """Whether the other one speaks at the same time, as much as this one."""
    frames: int
    kbps: float
    tls: bool
    now_s: float = 0.0
    amounts: list[Amount] = field(default_factory=list)
    """What is sent, at each look."""

    def run(self, seconds: float) -> Adaptation:
        """Calls for so long."""
        adaptation = Adaptation(Amount(self.frames, self.kbps), RATES)
        headers = WEBSOCKET_BYTES + (TLS_BYTES if self.tls else 0)
        backlog = Backlog(headers)
        up, down = (Way(Impairment(self.profile, seed)) for seed in (0, 1))
        count, round_trips, settled_us = itertools.count(), list[float](), 0
        events: list[tuple[float, int, Callable[[], None]]] = []

        def at(when_s: float, do: Callable[[], None]) -> None:
            heapq.heappush(events, (when_s, next(count), do))

        def send(way: Way, back: Way, size: int, then: Callable[[], None] = lambda: None) -> None:
            size += headers
            way.sent += size
            packet(way, back, size, then)

        def packet(way: Way, back: Way, size: int, then: Callable[[], None] = lambda: None) -> None:
            """A packet acknowledges what has come the other way."""
            back.owes_from_s, told = None, back.came
            came_s = way.line.arrival(self.now_s, size + TCP_BYTES)
            assert came_s is not None, "the line lost a packet: nothing here sends it again"

            def arrive() -> None:
                back.acknowledged = max(back.acknowledged, told)
                way.came += size
                if size and way.owes_from_s is None:
                    way.owes_from_s = self.now_s
                    at(self.now_s + DELAYED_ACK_S, lambda since=self.now_s: acknowledge(way, back, since))
                then()

            at(came_s, arrive)

        def acknowledge(way: Way, back: Way, since_s: float) -> None:
            if way.owes_from_s == since_s:
                packet(back, way, 0)

        def say(size: int, then: Callable[[], None] = lambda: None) -> None:
            backlog.add(round(self.now_s * 1e6), size)
            send(up, down, size, then)

        def ping() -> None:
            sent_s = self.now_s
            say(PING_BYTES, lambda: send(down, up, PONG_BYTES, lambda: round_trips.append(self.now_s - sent_s)))

        def speak() -> None:
            amount = adaptation.amount
            size = PACKET_BYTES + round(amount.frames * FRAME_S * amount.kbps * 1000 / 8)
            say(size)
            if self.hears:
                send(down, up, size)
            at(self.now_s + amount.frames * FRAME_S, speak)

        def look() -> None:
            now = round(self.now_s * 1e6)
            if round_trips and now >= settled_us:
                waiting = backlog.age_us(up.sent - up.acknowledged, now)
                self.amounts.append(adaptation.observe(waiting - min(round_trips) * 1e6, now))
            at(self.now_s + LOOK_S, look)

        def keep_time() -> None:
            ping()
            at(self.now_s + PING_EVERY_S, keep_time)

        def begin() -> None:
            nonlocal settled_us
            settled_us = round(self.now_s * 1e6) + SETTLE_US
            for number in range(FIRST_PINGS):
                at(self.now_s + number * FIRST_PING_EVERY_S, ping)
            at(self.now_s + FIRST_PINGS * FIRST_PING_EVERY_S, speak)
            at(self.now_s + FIRST_PINGS * FIRST_PING_EVERY_S, keep_time)
            at(self.now_s, look)

        say(HELLO_BYTES, lambda: send(down, up, WELCOME_BYTES, begin))
        while events and events[0][0] < seconds:
            self.now_s, _, do = heapq.heappop(events)
            do()
        return adaptation


def line(rate_kbps: float) -> Profile:
    return Profile("x", "x", 25, rate_kbps=rate_kbps, queue_ms=60_000)


@pytest.mark.parametrize(
    ("rate_kbps", "hears", "tls", "wanted", "sent", "downs"),
    [
        (0, True, True, (3, 12.0), (3, 12.0), 0),
        (64, True, True, (1, 6.0), (1, 6.0), 0),
        (32, True, True, (3, 6.0), (3, 6.0), 0),
        (16, False, True, (7, 3.0), (7, 3.0), 0),
        (16, True, False, (7, 3.0), (7, 3.0), 0),
        (16, True, True, (7, 3.0), (7, 3.0), 2),
        (16, True, True, (3, 6.0), (6, 1.5), 8),
        (12, False, True, (7, 1.5), (7, 1.5), 0),
        (24, False, True, (1, 6.0), (6, 3.0), 8),
    ],
    ids=[
        "fat",
        "64 kbps, low",
        "32 kbps, balanced",
        "16 kbps, thrift",
        "16 kbps, thrift, both speak, no TLS",
        "16 kbps, thrift, both speak",
        "16 kbps, balanced, both speak",
        "12 kbps, thrift",
        "24 kbps, low",
    ],
)
def test_a_line_carries_what_it_can(
    rate_kbps: float, hears: bool, tls: bool, wanted: tuple[int, float], sent: tuple[int, float], downs: int
) -> None:
    """In a minute: no step down where all fits, else no more than so many; and at least what is
    `sent` for nearly all of the last half minute."""
    call = Caller(line(rate_kbps), hears, *wanted, tls)
    adaptation = call.run(60)
    later = call.amounts[-int(30 / LOOK_S) :]
    assert adaptation.downs <= downs
    assert sum(amount.kbps >= sent[1] and amount.frames <= sent[0] for amount in later) >= 0.9 * len(later)
