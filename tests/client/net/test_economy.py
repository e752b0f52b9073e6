"""How many frames messages hold in a call in which there is much silence."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from earshot.client.call import Call
from earshot.client.core.adaptation import Amount
from earshot.client.core.receiver import Receiver
from earshot.client.core.sender import Sender
from earshot.client.net.connection import Connection
from earshot.client.net.line import HUSHED_LOOKS, LOOK_S, Line
from earshot.client.settings import LATENCIES, PACES
from earshot.codec.pcm import Pcm
from earshot.protocol.messages import SetRate

RATES = (1.5, 3.0, 6.0)
LOOK_US = round(LOOK_S * 1e6)


class Encoder:
    kbps = 6.0

    def push(self, pcm: Pcm, /) -> np.ndarray:
        return np.zeros((8, pcm.size // 320), np.int16)


class Talk:
    """Somebody who speaks in turns, and the line of the call, in fake time."""

    def __init__(self, latency: str) -> None:
        pace = PACES[latency]  # type: ignore[index]
        self.line, self.now_us = Line(Amount(pace.frames, 6.0), RATES), 0
        self.line.thrifty, self.line._adapts = pace.thrifty, True
        self.sender = Sender("codes", encoder=Encoder(), frames_per_packet=pace.frames)  # type: ignore[arg-type]
        self.seen: list[tuple[bool, int]] = []

    def go_on(self, seconds: float, speaks: bool) -> int:
        """Returns the frames of a message at the end."""
        for _ in range(round(seconds / LOOK_S)):
            if speaks:
                self.sender.push(np.zeros(1200, np.float32), self.now_us, self.now_us)
            self.now_us += LOOK_US
            self.line._economise(self.sender, self.now_us)
            self.line._apply(self.sender)
            self.seen.append((speaks, self.sender.frames_per_packet))
        return self.sender.frames_per_packet


@pytest.mark.parametrize(("latency", "frames"), [("low", 1), ("balanced", 1), ("thrift", 7)])
def test_who_listens_most_of_the_time_is_heard_sooner(latency: str, frames: int) -> None:
    talk = Talk(latency)
    for _ in range(6):
        talk.go_on(4, True)
        talk.go_on(12, False)
    assert talk.go_on(3, True) == frames
    assert not talk.line.notice


def test_fewer_frames_begin_in_silence_and_more_at_once() -> None:
    talk = Talk("balanced")
    assert talk.go_on(30, True) == 3
    talk.go_on(60, False)
    assert talk.go_on(1, True) == 1
    assert talk.go_on(60, True) == 3
    changes = [index for index in range(1, len(talk.seen)) if talk.seen[index][1] < talk.seen[index - 1][1]]
    assert changes
    for index in changes:
        assert not any(speaks for speaks, _ in talk.seen[index - HUSHED_LOOKS + 2 : index])


def test_a_line_that_was_too_thin_gets_no_more_messages() -> None:
    talk = Talk("balanced")
    for _ in range(10):
        talk.line._adaptation.observe(700_000, talk.now_us)
        talk.now_us += LOOK_US
    assert talk.line.notice
    talk.go_on(90, False)
    assert talk.line._adaptation.most == (3, 6.0)


def test_a_listener_asks_for_what_it_can_take() -> None:
    def no_decoder() -> None:
        raise NotImplementedError

    receiver = Receiver(no_decoder)  # type: ignore[arg-type]
    here = Connection(receiver, receiver)
    asked = []
    for second in range(240):
        if second >= 120 or second % 4 == 0:  # a quarter of the time, then all of it
            receiver.traffic.add(0, 75, 24_000, 6000, 100)
        asked.append(here.ask(PACES["balanced"], second * 1_000_000))
    assert [frames for frames in asked if frames is not None] == [2, 1, 2, 3]
    assert here.ask(PACES["thrift"], 241_000_000) is None
    assert here.ask(PACES["balanced"], 242_000_000) is None


def test_it_asks_again_where_the_pace_was_told_anew_in_between() -> None:
    def no_decoder() -> None:
        raise NotImplementedError

    receiver = Receiver(no_decoder)  # type: ignore[arg-type]
    here = Connection(receiver, receiver)
    for second in range(90):
        here.ask(PACES["balanced"], second * 1_000_000)
    assert here.told == (PACES["balanced"], 1)
    told = list[SetRate]()
    call = SimpleNamespace(
        latency="balanced",
        pace=PACES["balanced"],
        line=SimpleNamespace(want=lambda sender, frames: None),
        talker=SimpleNamespace(sender=None),
        outbox=SimpleNamespace(put=told.append),
        connections=[here],
    )
    for _ in LATENCIES:
        Call.step_latency(call)  # type: ignore[arg-type]
    assert (call.latency, told[-1].frames) == ("balanced", 3)
    assert here.ask(PACES["balanced"], 91_000_000) == 1
