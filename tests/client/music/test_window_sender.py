"""Music on its way out: windows whose place in time is that of what was played, whatever happens in
between."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.client.core.timeline import GAP_US
from earshot.client.music.window_sender import WindowSender
from earshot.codec.bitstream import unpack
from earshot.codec.pcm import Pcm
from earshot.protocol.packet import Packet, decode_up
from earshot.protocol.sequence import CLOCK_MODULUS, SEQUENCE_MODULUS, wrap_difference
from tests.client.music.windows import (
    FRAMES,
    HOP,
    MODEL,
    OFFSET_US,
    RATE,
    STRIDE,
    WINDOW,
    LevelEncoder,
    known_clock,
    us,
)

START_US = 5_000_000
ENCODING_US = 40_000


def steps(frames: int, first: int = 0) -> Pcm:
    """[2, n] whose left channel says which frame it is, in thousandths."""
    left = np.repeat(np.arange(first, first + frames, dtype=np.float32) / 1000, HOP)
    return np.stack([left, -left])


class Player:
    """Plays samples in even time; `sent` is what went out."""

    def __init__(self, block: int = 4800, encoder: LevelEncoder | None = None) -> None:
        self._now_us = START_US
        self.sender = WindowSender(encoder or LevelEncoder(), MODEL, known_clock(), lambda: self._now_us + ENCODING_US)
        self.captured_us = float(START_US)
        self.sent: list[Packet] = []
        self._block = block

    def play(self, pcm: Pcm) -> None:
        for at in range(0, pcm.shape[-1], self._block):
            part = pcm[..., at : at + self._block]
            captured = round(self.captured_us)
            self.captured_us += part.shape[-1] * 1e6 / RATE
            self._now_us = round(self.captured_us)
            self._take(self.sender.push(part, captured, self._now_us))

    def end(self) -> None:
        self._take(self.sender.flush(self._now_us))

    def _take(self, messages: list[bytes]) -> None:
        for message in messages:
            packet = decode_up(message)
            assert isinstance(packet, Packet)
            self.sent.append(packet)


def first_codes(packet: Packet) -> list[int]:
    return [int(code) for code in unpack(packet.payload, packet.n_q, packet.frames)[0]]


def spoken_us(packet: Packet) -> int:
    """When its trace says that it was played, after START_US."""
    assert packet.trace is not None
    return wrap_difference(packet.trace.capture_us, (START_US + OFFSET_US) % CLOCK_MODULUS, CLOCK_MODULUS)


@pytest.mark.parametrize("block", [4800, 7, 960, 4096, 48_000, 500_000])
def test_every_block_size_makes_the_same_windows(block: int) -> None:
    player = Player(block)
    song = steps(3 * FRAMES)
    player.play(song if block > 7 else song[:, :50_001])
    player.end()
    full = [packet for packet in player.sent if packet.frames == FRAMES]
    assert len(full) == (3 if block > 7 else 1)
    for number, packet in enumerate(full):
        assert (packet.sequence, packet.timestamp) == (number * FRAMES, number * STRIDE)
        if number % 2 == 0:  # an odd number of strides is no whole number of frames
            assert first_codes(packet) == list(range(number * STRIDE // HOP, number * STRIDE // HOP + FRAMES))
        assert packet.scale == 0.5
        assert packet.n_q == 4
        assert abs(spoken_us(packet) - us(number * STRIDE)) <= 2
        assert packet.trace is not None
        if block <= 4800:  # it is complete a window after its first sample was played
            assert 0 <= packet.trace.framed * 100 - us(WINDOW) <= us(block) + 200
        assert packet.trace.encoded - packet.trace.framed == ENCODING_US // 100
    assert player.sender.samples_lost == 0


def test_the_end_of_a_song_goes_out_once() -> None:
    player = Player()
    player.play(steps(FRAMES + 20))
    assert len(player.sent) == 1
    player.end()
    player.end()
    last = player.sent[-1]
    assert len(player.sent) == 2
    assert (last.sequence, last.timestamp) == (FRAMES, STRIDE)
    assert last.frames == -(-((FRAMES + 20) * HOP - STRIDE) // HOP)
    assert abs(spoken_us(last) - us(STRIDE)) <= 2


def test_the_next_song_begins_a_window_of_its_own() -> None:
    player = Player()
    player.play(steps(20))
    player.end()
    player.play(steps(FRAMES, first=500))
    second = player.sent[1]
    assert (second.sequence, second.timestamp) == (20, 20 * HOP)
    assert first_codes(second) == list(range(500, 500 + FRAMES))


def test_lost_sound_ends_a_window_and_moves_the_time_on() -> None:
    player = Player()
    player.play(steps(30))
    player.captured_us += 2 * GAP_US
    player.play(steps(FRAMES, first=300))
    before, after = player.sent
    lost = 2 * GAP_US * RATE // 1_000_000
    assert (before.frames, before.timestamp) == (30, 0)
    assert first_codes(after) == list(range(300, 300 + FRAMES))
    assert (after.sequence, after.timestamp) == (30, 30 * HOP + lost)
    assert player.sender.samples_lost == lost
    assert abs(spoken_us(before)) <= 2
    assert abs(spoken_us(after) - us(30 * HOP) - 2 * GAP_US) <= 2


def test_a_device_that_is_a_little_off_loses_nothing() -> None:
    player = Player(960)
    for _ in range(100):
        player.play(steps(3))
        player.captured_us += 4  # 200 parts in a million slow
    assert player.sender.samples_lost == 0
    assert len(player.sent) == 1 + (300 * HOP - WINDOW) // STRIDE


def test_who_mutes_is_heard_up_to_there_and_after_it_from_where_it_is() -> None:
    player = Player(960)
    player.play(steps(30))
    player.sender.muted = True
    player.play(steps(45, first=700))
    player.sender.muted = False
    player.play(steps(FRAMES, first=100))
    before, after = player.sent
    assert (before.frames, first_codes(before)) == (30, list(range(30)))
    assert abs(spoken_us(before)) <= 2
    assert first_codes(after) == list(range(100, 100 + FRAMES))
    assert (after.sequence, after.timestamp) == (30, 75 * HOP)
    assert abs(spoken_us(after) - us(75 * HOP)) <= 2
    assert player.sender.frames_muted == 45


def test_the_meter_moves_while_muted() -> None:
    player = Player()
    player.sender.muted = True
    player.play(np.full((2, 4800), 0.25, np.float32))
    assert player.sender.level == pytest.approx(0.25)
    player.play(np.array([[0.5, np.nan, np.inf, 0.5]] * 2, np.float32))
    assert player.sender.level == pytest.approx(np.sqrt(0.125))
    assert not player.sent


def test_a_rate_holds_from_the_next_window_on() -> None:
    player = Player()
    player.play(steps(100))
    player.sender.kbps = 24.0
    player.play(steps(200, first=100))
    assert [packet.n_q for packet in player.sent] == [16] * len(player.sent)
    player.sender.kbps = 3.0
    player.play(steps(160))
    assert player.sent[-1].n_q == 2


def test_what_it_costs_is_shown() -> None:
    """Windows overlap by 1 %, so that a second of sound takes a little more than the codec's
    rate."""
    player = Player()
    player.sender.kbps = 6.0
    player.play(steps(5 * FRAMES))
    traffic = player.sender.traffic
    assert traffic.frames == 5 * FRAMES
    assert traffic.codec_kbps == pytest.approx(6.0 * WINDOW / STRIDE)
    assert traffic.codec_kbps < traffic.wire_kbps < traffic.codec_kbps + 1.5


def test_numbers_wrap() -> None:
    player = Player(STRIDE)
    windows = SEQUENCE_MODULUS // FRAMES + 2
    for _ in range(windows + 1):
        player.play(np.zeros((2, STRIDE), np.float32))
    assert [packet.sequence for packet in player.sent[-2:]] == [
        number * FRAMES % SEQUENCE_MODULUS for number in (windows - 2, windows - 1)
    ]


def test_mono_is_played_in_both_channels_and_no_clock_is_no_trace() -> None:
    sender = WindowSender(LevelEncoder(), MODEL)
    (message,) = sender.push(np.full(WINDOW, 0.125, np.float32), START_US, START_US + us(WINDOW))
    packet = decode_up(message)
    assert isinstance(packet, Packet)
    assert packet.trace is None
    assert set(first_codes(packet)) == {125}
    assert sender.push(np.zeros((2, 0), np.float32), START_US, START_US) == []
