"""Talk and music together, as a loudspeaker gets them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from earshot.client.core.clock import ServerClock
from earshot.client.core.receiver import Receiver
from earshot.client.music.mixer import Mixer
from earshot.client.music.speakers import Decodable, Music
from earshot.codec.bitstream import pack
from earshot.codec.pcm import LIMIT_FROM, Pcm
from earshot.protocol.packet import Packet, encode_codes_down
from tests.client.music.windows import MODEL, RATE, STRIDE, LevelDecoder, known_clock, packet, trace_of, us

TALK_RATE, HOP = 24_000, 320
TONE_HZ = 500
START_US, OUTPUT_US = 9_000_000, 20_000


class ToneDecoder:
    """500 Hz, as loud as the first code says in thousandths."""

    def __init__(self) -> None:
        self._position = 0

    def push(self, codes: NDArray[np.int16]) -> Pcm:
        count = codes.shape[1] * HOP
        tone = np.sin(2 * np.pi * TONE_HZ * (self._position + np.arange(count)) / TALK_RATE)
        self._position += count
        return (np.repeat(codes[0] / 1000, HOP) * tone).astype(np.float32)


class Listener:
    """A talker whose frames come in time, music, and a loudspeaker that takes what it wants of
    them."""

    def __init__(self, talk: int, music: int = 0, talk_rate: int = TALK_RATE, source: str = "talk") -> None:
        self.now_us = START_US
        self._talk, self._frames = talk, 0
        clock: ServerClock = known_clock()
        self.music = Music(
            {MODEL.digest: Decodable(MODEL, True, LevelDecoder)},
            RATE,
            2,
            time_us=lambda: self.now_us,
            submit=lambda work: work(),
        )
        self.receiver = Receiver(
            ToneDecoder, HOP, talk_rate, clock=clock, time_us=lambda: self.now_us, windows=self.music
        )
        self.mixer = Mixer(self.receiver, self.music, talk_rate, RATE, 2)
        self._frame_us = HOP * 1e6 / talk_rate
        if music:
            self.music.meet(7, MODEL, False)
            for number in range(3):
                self.music.put(packet(number, music, source=7), self.now_us)

    def play(self, seconds: float, block: int = 480) -> Pcm:
        heard, samples, begin = [], 0, self.now_us
        while samples < seconds * RATE:
            while self._talk and START_US + (self._frames + 1) * self._frame_us <= self.now_us:
                self._say()
            heard.append(self.mixer.pull(block, self.now_us, self.now_us + OUTPUT_US))
            assert heard[-1].shape == (2, block)
            samples += block
            self.now_us = begin + us(samples)
        return np.concatenate(heard, axis=1)

    def _say(self) -> None:
        number = self._frames
        captured = round(START_US + number * self._frame_us)
        framed = round(captured + self._frame_us)
        self._frames += 1
        trace = trace_of(captured, framed, framed, framed, framed)
        payload = pack(np.full((2, 1), self._talk, np.int16))
        message = encode_codes_down([Packet(2, 1, number % 65_536, number * HOP, payload, trace, source=3)])
        self.receiver.put(message, framed)


def loudness(heard: Pcm, channel: int = 0) -> float:
    """Of the tone, as the amplitude of a sine, over the last half second."""
    part = heard[channel, -RATE // 2 :]
    wave = np.exp(-2j * np.pi * TONE_HZ * np.arange(part.size) / RATE)
    return float(2 * np.abs(np.mean(part * wave)))


@pytest.mark.parametrize("block", [480, 960, 77, 1000])
def test_talk_is_as_loud_as_it_was_in_both_channels_and_at_its_pitch(block: int) -> None:
    heard = Listener(talk=300).play(1.5, block)
    np.testing.assert_array_equal(heard[0], heard[1])
    part = heard[0, -RATE // 2 :]
    assert np.sqrt(np.mean(np.square(part))) == pytest.approx(0.3 / np.sqrt(2), rel=0.02)
    spectrum = np.abs(np.fft.rfft(part * np.hanning(part.size)))
    assert np.argmax(spectrum) * RATE / part.size == pytest.approx(TONE_HZ, abs=4)
    assert spectrum[TONE_HZ:].max() < 1e-3 * spectrum.max()  # from twice the pitch on: no image of 24 kHz


def test_talk_and_music_are_added() -> None:
    """Neither is louder or quieter for the other, and music stays on its sides."""
    heard = Listener(talk=200, music=400).play(1.2)[:, -RATE // 2 :]
    assert heard[0].mean() == pytest.approx(0.4, abs=0.005)
    assert heard[1].mean() == pytest.approx(0.2, abs=0.005)
    assert loudness(heard - heard.mean(axis=1, keepdims=True)) == pytest.approx(0.2, rel=0.02)
    np.testing.assert_allclose(heard[0] - 0.4, heard[1] - 0.2, atol=1e-5)


def test_what_is_too_loud_together_is_bent_and_not_clipped() -> None:
    heard = Listener(talk=700, music=700).play(1.2)[:, -RATE // 2 :]
    assert 0.95 < np.abs(heard).max() <= 1
    assert np.count_nonzero(np.abs(heard[0]) > 0.9999) < 0.2 * heard.shape[1]
    quiet = np.abs(heard[1]) < LIMIT_FROM  # the right one is half as loud: it stays as it was where it fits
    assert heard[1][quiet].min() == pytest.approx(0.35 - 0.7, abs=0.01)


def test_music_alone_and_talk_alone() -> None:
    heard = Listener(talk=0, music=400).play(1)[:, -4800:]
    np.testing.assert_allclose(heard, np.repeat([[0.4], [0.2]], 4800, axis=1), atol=1e-6)
    assert not Listener(talk=0).play(0.5).any()


def test_music_ends_and_the_talk_goes_on() -> None:
    listener = Listener(talk=250, music=400)
    heard = listener.play(3 * STRIDE / RATE + 1.5)
    np.testing.assert_array_equal(heard[0, -RATE // 2 :], heard[1, -RATE // 2 :])
    assert loudness(heard) == pytest.approx(0.25, rel=0.01)


def test_talk_at_the_rate_of_the_music_is_left_as_it_is() -> None:
    listener = Listener(talk=300, talk_rate=RATE)
    heard = listener.play(1)
    assert np.abs(heard).max() == pytest.approx(0.3, rel=0.01)


@pytest.mark.parametrize("block", [480, 960])
def test_the_age_of_talk_counts_what_the_mixer_holds(block: int) -> None:
    """By the time stamps of the frames, and by the sound: where the tone begins."""
    listener = Listener(talk=300)
    heard = listener.play(1.5, block)
    begins = int(np.flatnonzero(np.abs(heard[0]) > 0.01)[0])
    by_sound = us(begins) + OUTPUT_US
    rows = listener.receiver.latency.rows()
    by_stamps = rows[0, 0] - START_US
    assert by_stamps == pytest.approx(by_sound, abs=1500)
    assert rows[0, 1:].sum() == pytest.approx(by_stamps, abs=200)
    held = np.diff(rows[:, 0])
    assert held.mean() == pytest.approx(listener._frame_us, rel=0.02)
    assert listener.mixer._talk.size <= 64


@pytest.mark.parametrize("block", [1600, 2400, 4800])
def test_large_blocks_of_a_device_do_not_stretch_talk(block: int) -> None:
    listener = Listener(talk=300)
    listener.play(6, block)
    figures = listener.receiver.stats()[3]
    assert (figures.samples_stretched, figures.samples_compressed, figures.underruns) == (0, 0, 0)
