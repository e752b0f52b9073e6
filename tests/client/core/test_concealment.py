"""What is heard while frames do not come, in fake time."""

from __future__ import annotations

from typing import Self

import numpy as np
import pytest
from numpy.typing import NDArray

from earshot.client.core.concealment import FALL_DB, MOST_FRAMES
from earshot.client.core.level import dbfs, rms
from earshot.client.core.playout import Playout
from earshot.codec.pcm import Pcm
from earshot.protocol.silence import BANDS

HOP, RATE = 320, 24_000
FRAME_US = HOP * 1e6 / RATE


class Tone:
    """A decoder with state: a tone of 300 Hz that goes on from frame to frame. Keeps what it was
    given."""

    def __init__(self) -> None:
        self.place = 0
        self.given: list[int] = []

    def copy(self) -> Self:
        twin = type(self)()
        twin.place = self.place
        return twin

    def push(self, codes: NDArray[np.int16]) -> Pcm:
        self.given += [int(code) for code in codes[0]]
        places = self.place + np.arange(codes.shape[1] * HOP)
        self.place += codes.shape[1] * HOP
        return np.asarray(0.3 * np.sin(2 * np.pi * 300 * places / RATE), np.float32)


class Line:
    """One speaker, whose frames come as they are spoken but for those in `late`, which come 15
    frames later, and those in `never`."""

    def __init__(self, frames: int, late: range = range(0), never: range = range(0), conceals: bool = True) -> None:
        self.decoder = Tone()
        self.playout = Playout(lambda: self.decoder, HOP, RATE)
        self.playout.conceals = conceals
        self.pcm: list[Pcm] = []
        self.positions: list[NDArray[np.float64]] = []
        held: list[int] = []
        for number in range(frames):
            held.append(number)
            if number not in late and number not in never:
                self.put([each for each in held if each not in never], number)
                held = []
            self.pull(number)
        self.frames = frames

    def put(self, numbers: list[int], now: int) -> None:
        for number in numbers:
            self.playout.jitter.put(
                number, number * HOP, [(np.full(2, number, np.int16), HOP)], round(now * FRAME_US), None
            )

    def pull(self, number: int) -> None:
        block = self.playout.pull(HOP, round(number * FRAME_US) + 2_000)
        self.pcm.append(block.pcm)
        self.positions.append(block.positions)

    @property
    def sound(self) -> Pcm:
        return np.concatenate(self.pcm)

    @property
    def silent(self) -> NDArray[np.bool_]:
        return np.isnan(np.concatenate(self.positions))


def gap(line: Line) -> tuple[int, int]:
    """Returns where a gap begins and ends."""
    where = np.flatnonzero(line.silent[RATE // 2 :]) + RATE // 2
    return int(where[0]), int(where[-1]) + 1


def test_a_short_gap_is_filled_ever_more_quietly() -> None:
    line = Line(150, never=range(80, 84))
    start, end = gap(line)
    whole = (end - start) // HOP
    assert whole >= 2
    for index in range(whole):
        level = dbfs(rms(line.sound[start + index * HOP : start + (index + 1) * HOP]))
        assert level == pytest.approx(dbfs(0.3 / np.sqrt(2)) - FALL_DB * (index + 0.5), abs=1.5)
    assert np.abs(np.diff(line.sound[start - HOP : end + HOP])).max() < 0.06  # a tone of 0.3 moves by 0.024; no click
    assert line.playout.underruns == 1


def test_the_decoder_itself_gets_each_frame_once() -> None:
    for conceals in (True, False):
        line = Line(200, late=range(80, 95), conceals=conceals)
        assert line.decoder.given == list(range(line.decoder.given[-1] + 1))
        assert line.playout.jitter.missing == 0
        assert line.playout.underruns == 1


def test_a_long_gap_becomes_silent() -> None:
    line = Line(160, never=range(80, 100))
    start, end = gap(line)
    assert not line.sound[start + MOST_FRAMES * HOP : end].any()
    assert np.abs(line.sound[start + MOST_FRAMES * HOP - 5 : start + MOST_FRAMES * HOP]).max() < 0.005


@pytest.mark.parametrize("how", ["muted", "silent", "left"])
def test_nothing_is_made_up_for_who_says_nothing(how: str) -> None:
    line = Line(100)
    if how == "silent":
        line.playout.hush(100, bytes([255] * BANDS))
    else:
        line.playout.announce_silence(True)
    for number in range(100, 120):
        line.pull(number)
    start, _ = gap(line)
    assert not line.sound[start + 150 :].any()  # behind a fade of 5 ms
    assert line.playout.underruns == 0
    assert line.playout.idle


def test_sound_that_is_not_decoded_fades_as_ever() -> None:
    playout = Playout(Tone, HOP, RATE)
    heard = []
    for number in range(80):
        if number < 60:
            playout.jitter.put(
                number, number * HOP, [(np.full(HOP, 0.2, np.float32), HOP)], round(number * FRAME_US), None
            )
        heard.append(playout.pull(HOP, round(number * FRAME_US) + 2_000).pcm)
    sound = np.concatenate(heard)
    assert not sound[66 * HOP :].any()
