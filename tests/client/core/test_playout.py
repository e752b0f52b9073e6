"""Arrival traces replayed without a clock: what is played must be what was sent, in order, and
nothing uncounted."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from earshot.client.core.jitter import CAREFUL_US, MIN_TARGET_US
from earshot.client.core.playout import Playout
from earshot.codec.pcm import Pcm

HOP, RATE = 320, 24_000
FRAME_US = HOP * 1e6 / RATE
Arrival = tuple[float, int]
"""When, and which frame: frame i has media time i * FRAME_US."""


class Tone:
    """A decoder whose frames are pieces of one sine, found by the frame number in the codes, with a
    pause of half a second in every two, as in speech. Counts its calls."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def push(self, codes: NDArray[np.int16]) -> Pcm:
        numbers = codes[0].astype(np.int64) * 1024 + codes[1]
        self.calls.append([int(number) for number in numbers])
        return tone((numbers[:, None] * HOP + np.arange(HOP)).reshape(-1))


def tone(samples: NDArray[np.int64]) -> Pcm:
    loud = (samples // (RATE // 2)) % 4 != 3
    return (0.5 * np.sin(2 * np.pi * 150 * samples / RATE) * loud).astype(np.float32)


@dataclass
class Replay:
    playout: Playout
    decoder: Tone
    pcm: list[Pcm] = field(default_factory=list)
    positions: list[NDArray[np.float64]] = field(default_factory=list)
    delays_us: list[float] = field(default_factory=list)
    started: list[int] = field(default_factory=list)

    @property
    def heard(self) -> Pcm:
        return np.concatenate(self.pcm)

    @property
    def places(self) -> NDArray[np.float64]:
        return np.concatenate(self.positions)

    def check(self) -> None:
        """Whatever happened: order, counts, and that the positions tell the truth about the
        samples."""
        playout, jitter = self.playout, self.playout.jitter
        assert jitter.received == jitter.taken + jitter.late + jitter.duplicates + jitter.overflow + len(jitter)
        in_and_out = playout.samples_decoded + playout.samples_stretched - playout.samples_compressed
        assert in_and_out == playout.samples_played + playout.samples_waiting
        assert playout.samples_decoded == jitter.taken * HOP
        decoded = [number for call in self.decoder.calls for number in call]
        assert decoded == sorted(set(decoded))
        places = self.places[~np.isnan(self.places)]
        assert np.all(np.diff(places) >= -1e-6)
        assert self.started == sorted(set(self.started))
        assert np.all(np.isfinite(self.heard))
        assert np.max(np.abs(np.diff(self.heard))) < 0.06  # the sine's steps are 0.02: no clicks


def replay(arrivals: list[Arrival], seconds: float, n: int = HOP, start_us: int = 3_000, **changes: bool) -> Replay:
    decoder = Tone()
    result = Replay(Playout(lambda: decoder, HOP, RATE), decoder)
    waiting = sorted(arrivals)[::-1]
    announced = dict(changes)
    for pull in range(int(seconds * RATE / n)):
        now = start_us + round(pull * n * 1e6 / RATE)
        while waiting and waiting[-1][0] <= now:
            at, number = waiting.pop()
            codes = np.array(divmod(number, 1024), np.int16)
            result.playout.jitter.put(number % 65_536, number * HOP % (1 << 32), [(codes, HOP)], round(at), None)
        if announced.get("muted_when_dry") and result.playout._timeline.dry:
            result.playout.announce_silence(True)
        block = result.playout.pull(n, now)
        result.pcm.append(block.pcm)
        result.positions.append(block.positions)
        result.started += [frame.sequence for _, frame in block.started]
        if block.positions.size and not np.isnan(block.positions[0]):
            result.delays_us.append(result.playout.delay_us)
    result.check()
    return result


def on_time(frames: int, delay_us: float = 1_000, first: int = 0) -> list[Arrival]:
    return [((number + 1) * FRAME_US + delay_us, number) for number in range(first, first + frames)]


def in_order(arrivals: list[Arrival]) -> list[Arrival]:
    """As TCP delivers: a frame never before an earlier one."""
    at = np.maximum.accumulate([at for at, _ in arrivals])
    return [(float(time), number) for time, (_, number) in zip(at, arrivals, strict=True)]


@pytest.mark.parametrize("n", [128, 240, 320, 480, 512, 960])
def test_clean(n: int) -> None:
    result = replay(on_time(1_500), 20, n)
    assert result.playout.underruns == 0
    assert result.playout.jitter.missing == 0
    least_us = CAREFUL_US if n > HOP else MIN_TARGET_US
    assert result.playout.jitter.delay.target_us == least_us
    ahead_us = -(-n // HOP) * FRAME_US  # what a block needs beyond its first frame
    assert np.mean(result.delays_us[-300:]) < least_us + ahead_us + 6_000
    assert result.playout.samples_stretched + result.playout.samples_compressed < RATE / 10


def test_what_is_played_is_what_was_sent() -> None:
    result = replay(on_time(300), 4, 480)
    known = ~np.isnan(result.places)
    places = result.places[known]
    exact = np.abs(places - np.rint(places)) < 1e-6
    steady = exact & (np.diff(places, prepend=-1) == 1)
    steady[: round(0.005 * RATE)] = False  # the fade in
    assert np.count_nonzero(steady) > 0.85 * places.size
    assert np.allclose(result.heard[known][steady], tone(np.rint(places[steady]).astype(np.int64)), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_gaussian_jitter(seed: int) -> None:
    rng = random.Random(seed)
    result = replay(in_order([(at + 25_000 + rng.gauss(0, 8_000), number) for at, number in on_time(1_500)]), 19)
    assert result.playout.underruns <= 10
    assert result.playout.jitter.missing == 0
    assert np.mean(result.delays_us[-300:]) < 75_000
    assert 20_000 < result.playout.jitter.delay.target_us < 70_000


def test_tcp_stall_and_burst() -> None:
    arrivals = [(max(at, 8.3e6) if at > 8e6 else at, number) for at, number in on_time(2_700)]
    result = replay(arrivals, 35)
    assert result.playout.underruns == 1
    assert result.playout.jitter.missing == 0
    assert result.playout.jitter.taken >= 2_600
    assert max(len(call) for call in result.decoder.calls) >= 2
    assert max(result.delays_us) < 330_000
    assert np.mean(result.delays_us[-100:]) < 60_000
    silent_s = result.playout.samples_silent / RATE
    assert 0.2 < silent_s < 0.35


def test_a_large_backlog_is_decoded_in_bounded_bursts_and_made_up_for() -> None:
    arrivals = on_time(75) + [(max(at, 3e6), number) for at, number in on_time(1_000, first=75)]
    result = replay(arrivals, 13)
    assert 5 <= max(len(call) for call in result.decoder.calls) <= 10
    assert result.playout.jitter.overflow + result.playout.jitter.taken >= 890
    assert result.playout.underruns <= 2
    assert np.mean(result.delays_us[-50:]) < 600_000


def test_bandwidth_step() -> None:
    """From one moment on everything takes 80 ms longer."""
    arrivals = in_order([(at + (80_000 if at > 5e6 else 0), number) for at, number in on_time(1_800)])
    result = replay(arrivals, 23)
    assert result.playout.underruns <= 2
    assert result.playout.jitter.missing == 0
    assert np.mean(result.delays_us[-100:]) < 60_000


@pytest.mark.parametrize("ppm", [200, -200])
def test_clock_drift_for_minutes(ppm: int) -> None:
    arrivals = [(at * (1 + ppm / 1e6), number) for at, number in on_time(13_600)]
    result = replay(arrivals, 180, 480)
    assert result.playout.underruns == 0
    assert max(result.delays_us[400:]) < 60_000
    drifted = result.playout.samples_stretched - result.playout.samples_compressed
    assert abs(drifted - ppm / 1e6 * 180 * RATE) < 1_500


def test_reordering() -> None:
    arrivals = on_time(600)
    for at in range(10, 590, 10):
        (first, a), (second, b) = arrivals[at], arrivals[at + 1]
        arrivals[at], arrivals[at + 1] = (second, a), (first, b)
    result = replay(arrivals, 7.9)
    assert result.playout.jitter.missing == 0
    assert result.playout.underruns <= 1
    assert result.playout.jitter.late == 0


def test_loss() -> None:
    arrivals = [arrival for arrival in on_time(1_500) if arrival[1] % 50 or not arrival[1]]
    result = replay(arrivals, 19)
    assert result.playout.jitter.missing == 28
    assert result.playout.underruns == 28
    assert 0 < result.playout.samples_silent <= 28 * (HOP + 1)
    assert np.mean(result.delays_us[-50:]) < 60_000


def test_duplicates() -> None:
    result = replay(on_time(300) + [(at + 20_000, number) for at, number in on_time(300)], 4)
    assert result.playout.jitter.duplicates >= 290
    assert result.playout.underruns == 0


def test_wrap_of_sequence_and_timestamp() -> None:
    first = (1 << 32) // HOP - 100
    arrivals = [(at - first * FRAME_US, number) for at, number in on_time(300, first=first)]
    result = replay(arrivals, 3.9)
    assert result.playout.underruns == 0
    assert result.playout.jitter.missing == 0
    sequence_wrap = 65_536 - 100
    arrivals = [(at - sequence_wrap * FRAME_US, number) for at, number in on_time(300, first=sequence_wrap)]
    result = replay(arrivals, 3.9)
    assert result.playout.underruns == 0
    assert result.playout.jitter.missing == 0


def mute_gap() -> Replay:
    """Two seconds of talk, three of silence that is not sent (the sequence goes on), two of
    talk."""
    decoder = Tone()
    result = Replay(Playout(lambda: decoder, HOP, RATE), decoder)
    for pull in range(525):
        number = pull if pull < 150 else pull - 225
        codes = np.array(divmod(number, 1024), np.int16)
        if pull < 150 or pull >= 375:
            arrival = round((pull + 1) * FRAME_US)
            result.playout.jitter.put(number, pull * HOP, [(codes, HOP)], arrival, None)
        if pull == 151:
            result.playout.announce_silence(True)
        if pull == 370:
            result.playout.announce_silence(False)
        block = result.playout.pull(HOP, round((pull + 1) * FRAME_US) + 2_000)
        result.pcm.append(block.pcm)
        result.positions.append(block.positions)
    return result


def test_mute_is_no_underrun() -> None:
    result = mute_gap()
    assert result.playout.underruns == 0
    assert result.playout.jitter.missing == 0
    assert abs(result.playout.samples_silent / RATE - 3) < 0.1
    assert not np.any(result.heard[round(2.5 * RATE) : round(4.9 * RATE)])
    assert result.playout.jitter.delay.target_us == pytest.approx(FRAME_US, abs=2 * FRAME_US)


def test_a_speaker_that_vanishes_counts_once_and_one_that_leaves_never() -> None:
    assert replay(on_time(150), 10).playout.underruns == 1
    assert replay(on_time(150), 10, muted_when_dry=True).playout.underruns == 0


def test_late_join_plays_from_the_first_frame_that_came() -> None:
    result = replay(on_time(300, first=40_000), 4, start_us=round(40_000 * FRAME_US))
    assert result.started[0] == 40_000
    assert result.playout.underruns <= 1  # the end
    assert result.playout.jitter.missing == 0


def test_before_anything_comes_there_is_silence() -> None:
    result = replay([], 0.5)
    assert not np.any(result.heard)
    assert (result.playout.samples_silent, result.playout.underruns) == (0, 0)
    assert result.playout.idle
    assert result.playout.pull(0, 600_000).pcm.size == 0


def test_age_of_every_sample_is_known_while_time_is_scaled() -> None:
    """The place of each sample against where a correlation finds it: within 1 ms at every point of
    a drifting call."""
    arrivals = [(max(at, 2.1e6) if at > 2e6 else at, number) for at, number in on_time(600)]
    result = replay(arrivals, 7.5)
    playout = result.playout
    assert playout.samples_compressed > 500
    known = ~np.isnan(result.places)
    phase = np.sin(2 * np.pi * 150 * result.places[known] / RATE) * 0.5
    loud = np.abs(tone(np.rint(result.places[known]).astype(np.int64))) > 0
    error = np.abs(phase - result.heard[known])[loud]
    assert np.quantile(error, 0.9) < 0.02


@pytest.mark.parametrize("n", [320, 480])
def test_speed_does_not_hunt(n: int) -> None:
    """Leaving a frame boundary costs spare time; cutting and repeating must not chase each other
    over it."""
    rng = random.Random(3)
    result = replay(in_order([(at + abs(rng.gauss(0, 1_000)), number) for at, number in on_time(1_500)]), 19, n)
    assert result.playout.underruns == 0
    assert result.playout.samples_stretched < 400
    assert result.playout.samples_compressed < 1_200
