"""Windows of music as one hears them: even where they come in time, silent and counted where they
do not."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.client.music.window_playout import (
    MAX_CHUNKS,
    MAX_TARGET_US,
    SLACK_US,
    SPURT_END_US,
    START_TARGET_US,
    TARGET_STEP_US,
    Chunk,
    WindowPlayout,
)
from earshot.codec.pcm import Pcm
from tests.client.music.windows import FRAMES, RATE, STRIDE, us

BLOCK = 480
FADE = 240
START_US = 7_000_000
DECODING_US = 60_000
WAIT = START_TARGET_US * RATE // 1_000_000


def sound(number: int, samples: int = STRIDE) -> Pcm:
    """Both channels tell their samples apart, and no two samples are alike."""
    ramp = (np.arange(samples) + number * STRIDE).astype(np.float32) / 1e6
    return np.stack([0.1 + ramp, -0.2 - ramp])


def chunk(number: int, decoded_us: int, samples: int = STRIDE, ends: bool = False) -> Chunk:
    return Chunk(
        sound(number, samples),
        number * STRIDE,
        FRAMES,
        arrival_us=decoded_us - DECODING_US,
        taken_us=decoded_us - DECODING_US,
        decoded_us=decoded_us,
        ends=ends,
    )


class Device:
    """Pulls blocks in even time, and gives chunks to the playout when they have been decoded."""

    def __init__(self, playout: WindowPlayout, block: int = BLOCK) -> None:
        self.playout, self._block = playout, block
        self.samples = 0
        self.coming: list[Chunk] = []
        self.started: list[int] = []
        """Samples at which chunks began."""

    @property
    def now_us(self) -> int:
        return START_US + us(self.samples)

    def play(self, seconds: float) -> Pcm:
        heard = []
        until = self.samples + round(seconds * RATE)
        while self.samples < until:
            while self.coming and self.coming[0].decoded_us <= self.now_us:
                self.playout.put(self.coming.pop(0))
            n = min(self._block, until - self.samples)
            pcm, started = self.playout.pull(n, self.now_us)
            self.started += [self.samples + index for index, _ in started]
            heard.append(pcm)
            self.samples += n
        return np.concatenate(heard, axis=1)


def device(*late_ms: int, block: int = BLOCK, first: int = 0) -> Device:
    """Windows that are decoded a stride after each other, each late by so many milliseconds."""
    made = Device(WindowPlayout(2, RATE), block)
    made.coming = [
        chunk(first + number, START_US + us(number * STRIDE) + late * 1000) for number, late in enumerate(late_ms)
    ]
    return made


@pytest.mark.parametrize("block", [1000, 7, 480, 961, 4800])
def test_windows_that_come_in_time_are_one_even_stretch(block: int) -> None:
    played = device(0, 80, 20, 140 - block // 48, block=block)
    heard = played.play(4.3)
    expected = np.concatenate([sound(number) for number in range(4)], axis=1)
    begin = played.started[0]
    assert 0 <= begin - WAIT <= 2  # times are whole microseconds
    assert played.started == [begin + number * STRIDE for number in range(4)]
    inner = slice(FADE, expected.shape[1] - FADE)
    np.testing.assert_array_equal(heard[:, begin : begin + expected.shape[1]][:, inner], expected[:, inner])
    assert not heard[:, :begin].any()
    assert not heard[:, begin + expected.shape[1] :].any()
    assert played.playout.underruns == 0
    assert played.playout.frames_played == 4 * FRAMES


def smooth(heard: Pcm) -> bool:
    """Nothing in it is steeper than a fade."""
    return bool(np.abs(np.diff(heard, axis=1)).max() < 1.5 * np.abs(heard).max() / FADE)


@pytest.mark.parametrize("block", [100, 480, 1000, 7200])
def test_it_begins_and_ends_without_a_click(block: int) -> None:
    assert smooth(device(0, 0, block=block).play(3))


def test_a_window_in_the_last_moment_goes_on_where_the_one_before_fades() -> None:
    played = device(0, 0, block=96)
    played.coming[1].decoded_us = START_US + us(WAIT + STRIDE - 100)
    heard = played.play(2.5)
    assert played.started == [WAIT, WAIT + STRIDE]
    assert played.playout.underruns == 0
    assert smooth(heard)


def test_a_late_window_leaves_silence_once_and_the_next_may_be_as_late() -> None:
    """Nothing of it is left out; what is heard is later by what it was late, and more is waited for
    from then on."""
    played = device(0, 400, 400, 400)
    heard = played.play(5)
    playout = played.playout
    assert playout.underruns == 1
    assert playout.target_us == START_TARGET_US + TARGET_STEP_US
    gap = played.started[1] - played.started[0] - STRIDE
    assert gap == 400 * 48  # decoded 400 ms late, and played as long after that as the first was
    silent = heard[:, played.started[1] - gap : played.started[1]]
    assert not silent.any()
    assert np.diff(played.started).tolist() == [STRIDE + gap, STRIDE, STRIDE]
    assert playout.samples_silent == gap + heard.shape[1] - played.started[3] - STRIDE
    assert smooth(heard)


def test_ever_later_windows_are_waited_for_up_to_a_limit() -> None:
    late = [0]
    for _ in range(12):
        late.append(late[-1] + 1100)
    played = device(*late)
    played.play(28)
    assert played.playout.target_us == MAX_TARGET_US
    assert played.playout.underruns == 12


def test_a_window_that_is_lost_leaves_its_place_silent() -> None:
    played = device(0, 0, 0)
    lost = played.coming.pop(1)
    heard = played.play(4)
    assert np.diff(played.started).tolist() == [2 * STRIDE]
    place = heard[:, WAIT + STRIDE : WAIT + 2 * STRIDE]
    assert lost.timestamp == STRIDE
    assert not place.any()
    assert smooth(heard)


def test_a_gap_between_windows_that_are_both_there_is_no_click() -> None:
    played = device(0, 0)
    played.coming[1].timestamp += 4000
    played.coming[1].decoded_us -= 100_000
    heard = played.play(2.5)
    assert played.started == [WAIT, WAIT + STRIDE]
    assert smooth(heard)


def test_the_end_of_a_song_is_no_underrun() -> None:
    """Its last window is shorter than a stride: all of it is played, and nothing is waited for."""
    played = device(0)
    played.coming.append(chunk(1, START_US + us(STRIDE), samples=12_345, ends=True))
    heard = played.play(2 + SPURT_END_US / 1e6)
    last = sound(1, 12_345)
    np.testing.assert_array_equal(heard[:, WAIT + STRIDE : WAIT + STRIDE + 12_000], last[:, :12_000])
    assert not heard[:, WAIT + STRIDE + 12_345 :].any()
    assert played.playout.idle
    assert played.playout.underruns == 0


@pytest.mark.parametrize(("announced", "underruns"), [(False, 1), (True, 0)])
def test_a_stall_is_an_underrun_unless_the_speaker_said_so(announced: bool, underruns: int) -> None:
    played = device(0)
    played.playout.announce_silence(announced)
    played.play(2 + SPURT_END_US / 1e6)
    assert played.playout.underruns == underruns
    played.play(3)
    assert played.playout.underruns == underruns  # once


def test_who_comes_back_is_played_as_at_first() -> None:
    played = device(0)
    played.playout.announce_silence(True)
    played.play(4)
    played.playout.announce_silence(False)
    played.coming = [chunk(9, played.now_us)]
    at = played.samples
    played.play(2)
    assert played.started[1] == at + WAIT
    assert (played.playout.underruns, played.playout.target_us) == (0, START_TARGET_US)


def test_what_waits_beyond_the_target_is_left_out_and_counted() -> None:
    """A burst: three windows at once. Music that is three seconds late catches up."""
    played = Device(WindowPlayout(2, RATE))
    played.coming = [chunk(number, START_US) for number in range(3)] + [chunk(3, START_US + 500_000)]
    heard = played.play(2)
    skipped = played.playout.samples_skipped
    assert skipped > SLACK_US * RATE // 1_000_000
    assert played.playout.frames_overflow > 0
    assert np.abs(heard).max() <= np.abs(sound(3)).max()
    waiting = 4 * STRIDE - skipped - (played.samples - WAIT)
    assert waiting <= STRIDE + (START_TARGET_US + SLACK_US) * RATE // 1_000_000


def test_nobody_takes_anything() -> None:
    playout = WindowPlayout(2, RATE)
    for number in range(MAX_CHUNKS + 3):
        playout.put(chunk(number, START_US))
    assert playout.frames_waiting == MAX_CHUNKS * FRAMES
    assert playout.frames_overflow == 3 * FRAMES


def test_the_delay_and_the_level_that_are_shown() -> None:
    played = device(0)
    assert played.playout.level == 0
    played.play(0.5)
    assert played.playout.delay_us == pytest.approx(DECODING_US + START_TARGET_US, abs=us(BLOCK))
    assert 0.1 < played.playout.level < 0.3
    played.play(2)
    assert played.playout.level == 0
