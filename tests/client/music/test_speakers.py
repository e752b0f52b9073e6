"""Packets of music in, the mix of all who play out: what is lost, late or too much, and how old it
is when heard."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import numpy as np
import pytest

from earshot.client.core.latency import STAGES
from earshot.client.music.speakers import MAX_SPEAKERS, MAX_UNDECODED, Decodable, Music
from earshot.client.music.window_playout import START_TARGET_US
from earshot.codec.errors import UsageError
from earshot.codec.pcm import Pcm
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import WindowModel
from earshot.protocol.sequence import SEQUENCE_MODULUS, TIMESTAMP_MODULUS
from tests.client.music.windows import (
    FRAMES,
    HOP,
    MODEL,
    RATE,
    STRIDE,
    WINDOW,
    LevelDecoder,
    known_clock,
    packet,
    trace_of,
    us,
)

MONO = MODEL.model_copy(update={"name": "mono", "digest": "e" * 16, "channels": 1})
START_US, DECODING_US, OUTPUT_US = 9_000_000, 50_000, 20_000
BLOCK = 480
WAIT_S = (DECODING_US + START_TARGET_US) / 1e6


class Room:
    """Music with a clock that the test moves: it stands still but for the time that decoding
    takes."""

    def __init__(self, normalize: bool = True, at_once: bool = True) -> None:
        self.now_us = START_US
        self.decoders: list[LevelDecoder] = []
        self.waiting: list[Callable[[], None]] = []
        self._at_once = at_once
        models = {
            MODEL.digest: Decodable(MODEL, normalize, lambda: self._decoder(2)),
            MONO.digest: Decodable(MONO, normalize, lambda: self._decoder(1)),
        }
        self.music = Music(models, RATE, 2, clock=known_clock(), time_us=self._time, submit=self._submit)
        self._readings = 0

    def _decoder(self, channels: int) -> LevelDecoder:
        self.decoders.append(LevelDecoder(channels))
        return self.decoders[-1]

    def _time(self) -> int:
        """Read before and after decoding."""
        self._readings += 1
        return self.now_us + (DECODING_US if self._readings % 2 == 0 else 0)

    def _submit(self, work: Callable[[], None]) -> None:
        if self._at_once:
            work()
        else:
            self.waiting.append(work)

    def meet(self, source: int = 1, model: WindowModel | None = MODEL, muted: bool = False) -> None:
        self.music.meet(source, model, muted)

    def put(self, number: int, code: int, **changes: object) -> int:
        return self.music.put(packet(number, code, **changes), self.now_us)  # type: ignore[arg-type]

    def play(self, seconds: float) -> Pcm:
        heard = []
        for _ in range(round(seconds * RATE / BLOCK)):
            heard.append(self.music.pull(BLOCK, self.now_us, self.now_us + OUTPUT_US))
            self.now_us += us(BLOCK)
        return np.concatenate(heard, axis=1)

    def stream(self, *windows: dict[str, object]) -> Pcm:
        """Plays a window after the other, each a stride after the one before, and what there is of
        the last."""
        heard = []
        for window in windows:
            if window:
                self.put(**window)  # type: ignore[arg-type]
            heard.append(self.play(STRIDE / RATE))
        return np.concatenate([*heard, self.play(0.5)], axis=1)


def levels(heard: Pcm) -> list[float]:
    """The level on the left of each stretch that holds one for 20 ms, in order."""
    runs = groupby(np.round(heard[0, ::240].astype(float), 4).tolist())
    return [level for level, run in runs if level and len(list(run)) >= 4]


def test_left_is_left_and_the_scale_is_the_volume() -> None:
    room = Room()
    room.meet()
    assert room.put(0, 400, scale=0.5) == STRIDE
    heard = room.play(1)
    middle = heard[:, round((WAIT_S + 0.1) * RATE) :]
    np.testing.assert_allclose(middle[0], 0.2, atol=1e-6)
    np.testing.assert_allclose(middle[1], 0.1, atol=1e-6)
    assert not heard[:, : round(WAIT_S * RATE) - BLOCK].any()


def test_a_model_that_leaves_volume_alone_gets_no_scale() -> None:
    room = Room(normalize=False)
    room.meet()
    room.put(0, 400, scale=0.5)
    assert room.play(1)[0].max() == pytest.approx(0.4)


def test_windows_of_two_are_added_and_mono_is_in_the_middle() -> None:
    room = Room()
    room.meet(1)
    room.meet(2, MONO)
    room.put(0, 200, source=1)
    room.put(0, 300, source=2)
    heard = room.play(1)[:, -BLOCK:]
    np.testing.assert_allclose(heard[0], 0.5, atol=1e-6)
    np.testing.assert_allclose(heard[1], 0.1 + 0.3, atol=1e-6)


def test_a_window_that_was_lost_is_counted_and_what_hung_on_it_is_not_played() -> None:
    room = Room()
    room.meet()
    heard = room.stream({"number": 0, "code": 100}, {}, {"number": 2, "code": 300}, {"number": 3, "code": 400})
    speaker = room.music.speakers[1]
    assert (speaker.frames_received, speaker.frames_missing, speaker.frames_late) == (3 * FRAMES, FRAMES, 0)
    assert room.decoders[0].resets == 1
    assert levels(heard) == [0.1, 0.3, 0.4]  # else the 10 ms of 0.1 would come before 0.3
    quiet = np.flatnonzero(~heard.any(axis=0))
    assert np.count_nonzero((quiet > RATE) & (quiet < 2.5 * RATE)) == pytest.approx(STRIDE, abs=2)


def test_a_window_that_comes_too_late_or_twice_is_not_played() -> None:
    room = Room()
    room.meet()
    heard = room.stream({"number": 0, "code": 100}, {"number": 2, "code": 300}, {"number": 1, "code": 200})
    room.put(2, 300)
    assert 0.2 not in levels(heard)
    assert room.music.speakers[1].frames_late == 2 * FRAMES
    assert room.music.speakers[1].playout.frames_played == 2 * FRAMES


def test_silence_between_two_stretches_is_not_missing() -> None:
    """A speaker that was muted goes on with the next number, at a later time."""
    room = Room()
    room.meet()
    last = packet(1, 200, frames=50)
    again = {"sequence": FRAMES + 50, "timestamp": 5 * STRIDE}
    heard = room.stream({"number": 0, "code": 100})
    room.music.put(last, room.now_us)
    heard = np.concatenate([heard, room.play(2)], axis=1)
    heard = np.concatenate([heard, room.stream({"number": 0, "code": 300, **again})], axis=1)
    assert levels(heard) == [0.1, 0.2, 0.3]
    speaker = room.music.speakers[1]
    assert (speaker.frames_missing, speaker.frames_late) == (0, 0)


def test_the_end_of_a_song_is_played_whole_and_is_no_underrun() -> None:
    room = Room()
    room.meet()
    room.put(0, 100)
    heard = room.play(STRIDE / RATE)
    assert room.put(1, 200, frames=60) == 60 * HOP
    heard = np.concatenate([heard, room.play(4)], axis=1)
    assert np.count_nonzero(heard.any(axis=0)) == STRIDE + 60 * HOP
    speaker = room.music.speakers[1]
    assert speaker.playout.idle
    assert speaker.playout.underruns == 0
    assert speaker.playout.frames_played == FRAMES + 60
    room.put(0, 300, sequence=FRAMES + 60, timestamp=STRIDE + 60 * HOP)  # the next song
    assert room.play(1)[0].max() == pytest.approx(0.3)
    assert speaker.frames_dropped == 0


def test_a_short_window_in_the_middle_of_a_song_is_a_stretch_of_its_own() -> None:
    """Nobody sends that; whoever does hurts only what he plays himself."""
    room = Room()
    room.meet()
    heard = room.stream(
        {"number": 0, "code": 100},
        {"number": 1, "code": 200, "frames": 149},
        {"number": 0, "code": 300, "sequence": 299, "timestamp": 2 * STRIDE},
    )
    assert levels(heard)[-1] == 0.3


def test_a_stall_is_an_underrun_and_muting_or_leaving_is_none() -> None:
    for told, underruns in ((None, 1), ("muted", 0), ("left", 0)):
        room = Room()
        room.meet()
        room.put(0, 100)
        if told == "muted":
            room.meet(muted=True)
        if told == "left":
            room.music.peer_left(1)
        assert np.count_nonzero(room.play(4).any(axis=0)) == STRIDE  # what there is of it is played in any case
        assert room.music.speakers[1].playout.underruns == underruns, told


def test_silence_after_a_speaker_has_left_is_not_counted() -> None:
    room = Room()
    room.meet()
    room.put(0, 300)
    room.play(0.5)
    room.music.peer_left(1)
    heard = room.play(2)
    playout = room.music.speakers[1].playout
    assert np.count_nonzero(heard[0]) == pytest.approx(STRIDE - (0.5 - WAIT_S) * RATE, abs=2 * BLOCK)
    assert playout.frames_played == FRAMES
    assert playout.samples_silent < BLOCK


def test_numbers_wrap() -> None:
    room = Room()
    room.meet()
    first = {"sequence": SEQUENCE_MODULUS - FRAMES, "timestamp": TIMESTAMP_MODULUS - STRIDE}
    heard = room.stream({"number": 0, "code": 100, **first}, {"number": 0, "code": 200}, {"number": 1, "code": 300})
    assert levels(heard) == [0.1, 0.2, 0.3]
    assert room.music.speakers[1].frames_missing == 0


def test_its_age_when_heard_is_the_sum_of_the_stages() -> None:
    """From when it was played to when it is heard: a window, the way here, decoding, and what waits
    for its time."""
    room = Room()
    room.meet()
    arrival, captured = room.now_us, room.now_us - 1_100_000
    framed = captured + us(WINDOW)
    trace = trace_of(captured, framed, framed + 40_000, framed + 70_000, framed + 71_000)
    room.put(0, 100, trace=trace)
    heard = room.play(1)
    (row,) = room.music.speakers[1].latency.rows()
    stages = dict(zip(STAGES, row[1:] / 1000, strict=True))
    begins_us = arrival + us(int(np.flatnonzero(heard.any(axis=0))[0])) + OUTPUT_US
    assert row[0] == pytest.approx(begins_us, abs=50)
    assert row[1:].sum() == pytest.approx(begins_us - captured, abs=150)
    assert (stages["framing"], stages["encode"]) == (1000, 40)
    assert stages["network"] == pytest.approx((arrival - framed - 71_000) / 1000)
    assert stages["decode"] == pytest.approx(DECODING_US / 1000)
    assert stages["jitter"] == pytest.approx(START_TARGET_US / 1000, abs=us(BLOCK) / 1000)
    assert stages["output"] == pytest.approx(OUTPUT_US / 1000, abs=us(BLOCK) / 1000)


def test_a_decoder_that_cannot_keep_up_costs_windows_and_no_memory() -> None:
    room = Room(at_once=False)
    room.meet()
    for number in range(MAX_UNDECODED + 3):
        room.put(number, 100)
    assert len(room.waiting) == MAX_UNDECODED
    speaker = room.music.speakers[1]
    assert speaker.frames_dropped == 3 * FRAMES
    for work in room.waiting:
        work()
    room.waiting.clear()
    room.put(MAX_UNDECODED + 3, 100)
    assert len(room.waiting) == 1


def test_what_does_not_fit_the_model_is_its_speakers_fault() -> None:
    room = Room()
    room.meet()
    wrong = [
        packet(0, 1, frames=FRAMES + 1),
        packet(0, 1, n_q=17),
        packet(0, 1, scale=None),
    ]
    for each in wrong:
        with pytest.raises(ProtocolError, match="do not fit see_through") as caught:
            room.music.put(each, room.now_us)
        assert caught.value.code == CloseCode.MODEL_MISMATCH
    assert room.music.speakers[1].frames_received == 0


def test_only_models_that_are_here_and_are_what_they_are_said_to_be() -> None:
    room = Room()
    assert room.music.can_decode(MODEL.model_copy(update={"name": "called otherwise"}))
    for lie in ({"digest": "d" * 16}, {"window_stride": 40_000}, {"n_codebooks": 8, "bandwidths": [3.0]}):
        other = MODEL.model_copy(update=lie)
        assert not room.music.can_decode(other)
        room.meet(1, other)
    room.meet(2, None)
    assert not room.music.speakers
    assert room.put(0, 100) == 0
    assert room.music.packets_dropped == 1
    assert not room.play(0.5).any()


def test_models_that_cannot_be_played_together() -> None:
    other = MODEL.model_copy(update={"name": "slow", "sample_rate": 32_000})
    for model, channels in ((other, 2), (MODEL, 1)):
        with pytest.raises(UsageError, match=f"{model.name} has another sample rate"):
            Music({"a": Decodable(model, True, LevelDecoder)}, RATE, channels, time_us=lambda: 0, submit=lambda _: None)


def test_a_crowd_is_bounded_and_who_left_makes_room() -> None:
    room = Room()
    for source in range(1, MAX_SPEAKERS + 3):
        room.meet(source)
    assert len(room.music.speakers) == MAX_SPEAKERS
    assert room.put(0, 100, source=MAX_SPEAKERS + 1) == 0
    room.music.peer_left(7)
    room.meet(999)
    assert 999 in room.music.speakers
    assert 7 not in room.music.speakers
    assert len(room.music.speakers) == MAX_SPEAKERS
