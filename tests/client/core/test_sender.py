from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from earshot.client.core.clock import ServerClock
from earshot.client.core.sender import Sender
from earshot.client.core.traffic import MESSAGE_OVERHEAD_BYTES
from earshot.codec.bitstream import unpack
from earshot.codec.errors import UsageError
from earshot.codec.pcm import Pcm, from_s16
from earshot.protocol.messages import Pong
from earshot.protocol.packet import Packet, PcmUp, decode_up
from earshot.protocol.sequence import CLOCK_MODULUS, wrap_difference

HOP, RATE = 320, 24_000
START_US = 5_000_000
OFFSET_US = CLOCK_MODULUS - 6_000_000


class CountingEncoder:
    """Codes that tell which frame they are: the mean of the frame in the first codebook, the rate
    in the others."""

    def __init__(self) -> None:
        self.kbps = 6.0

    def push(self, pcm: Pcm) -> NDArray[np.int16]:
        frames = pcm.reshape(-1, HOP)
        codes = np.full((int(self.kbps / 0.75), len(frames)), int(self.kbps), np.int16)
        codes[0] = np.rint(frames.mean(axis=1) * 1000)
        return codes


@pytest.fixture
def clock() -> ServerClock:
    clock = ServerClock()
    clock.ping(1_000)
    clock.pong(Pong(ping_us=1_000, received_us=1_000 + OFFSET_US, sent_us=1_000 + OFFSET_US), 1_000)
    return clock


def steps(frames: int) -> Pcm:
    return np.repeat(np.arange(frames, dtype=np.float32) / 1000, HOP)


def us(samples: int) -> int:
    return round(samples * 1e6 / RATE)


def feed(sender: Sender, pcm: Pcm, block: int, start_us: int = START_US) -> list[bytes]:
    messages: list[bytes] = []
    for at in range(0, pcm.size, block):
        part = pcm[at : at + block]
        messages += sender.push(part, start_us + us(at), start_us + us(at + part.size))
    return messages


def packets(messages: list[bytes]) -> list[Packet]:
    decoded = [decode_up(message) for message in messages]
    assert all(isinstance(packet, Packet) for packet in decoded)
    return [packet for packet in decoded if isinstance(packet, Packet)]


def first_codes(packet: Packet) -> list[int]:
    return [int(code) for code in unpack(packet.payload, packet.n_q, packet.frames)[0]]


@pytest.mark.parametrize("block", [1, 7, 160, 320, 333, 960, 4096, 100_000])
@pytest.mark.parametrize("frames_per_packet", [1, 3])
def test_every_block_size_makes_the_same_packets(block: int, frames_per_packet: int, clock: ServerClock) -> None:
    sender = Sender("codes", encoder=CountingEncoder(), frames_per_packet=frames_per_packet, clock=clock)
    sent = packets(feed(sender, steps(30), block))
    assert [code for packet in sent for code in first_codes(packet)] == list(range(30))
    for index, packet in enumerate(sent):
        assert packet.frames == frames_per_packet
        assert packet.sequence == index * frames_per_packet
        assert packet.timestamp == index * frames_per_packet * HOP
        assert packet.trace is not None
        spoken = START_US + us(packet.timestamp) + OFFSET_US
        assert abs(wrap_difference(packet.trace.capture_us, spoken % CLOCK_MODULUS, CLOCK_MODULUS)) <= 2
        assert packet.trace.framed >= 133


def test_times_of_a_frame(clock: ServerClock) -> None:
    sender = Sender("codes", encoder=CountingEncoder(), clock=clock, time_us=lambda: START_US + us(HOP) + 4_000)
    (packet,) = packets(sender.push(steps(1), START_US, START_US + us(HOP) + 1_000))
    assert packet.trace is not None
    assert (packet.trace.framed, packet.trace.encoded, packet.trace.received) == (143, 173, 0)


def test_pcm_uplink_is_a_message_a_frame(clock: ServerClock) -> None:
    sender = Sender("pcm", clock=clock, sequence=65_535, timestamp=(1 << 32) - HOP)
    messages = feed(sender, steps(3), 100)
    decoded = [decode_up(message) for message in messages]
    assert [message.sequence for message in decoded] == [65_535, 0, 1]
    assert [message.timestamp for message in decoded] == [(1 << 32) - HOP, 0, HOP]
    for index, message in enumerate(decoded):
        assert isinstance(message, PcmUp)
        assert np.allclose(from_s16(message.data), steps(3)[index * HOP : (index + 1) * HOP], atol=1e-4)
        assert message.trace is not None
        assert (message.trace.framed > 0, message.trace.encoded) == (True, 0)
    assert sender.traffic.codec_kbps == pytest.approx(384)


def test_without_a_clock_there_are_no_traces() -> None:
    for clock in (None, ServerClock()):
        sender = Sender("codes", encoder=CountingEncoder(), clock=clock)
        assert [packet.trace for packet in packets(feed(sender, steps(2), 640))] == [None, None]


def test_muting_leaves_a_gap_in_the_timestamps_only() -> None:
    sender = Sender("codes", encoder=CountingEncoder(), frames_per_packet=2)
    sent = packets(feed(sender, steps(5), HOP))  # two packets of two, one frame waits
    sender.muted = True
    sent += packets(feed(sender, steps(10), HOP, START_US + us(5 * HOP)))
    assert [packet.frames for packet in sent] == [2, 2, 1]
    sender.muted = False
    sent += packets(feed(sender, steps(2), HOP, START_US + us(15 * HOP)))
    assert sender.frames_muted == 10
    assert sent[-1].sequence == 5
    assert sent[-1].timestamp == 15 * HOP


def test_rate_changes_start_a_new_packet() -> None:
    sender = Sender("codes", encoder=CountingEncoder(), frames_per_packet=4)
    sent = feed(sender, steps(2), HOP)
    sender.kbps = 3.0
    sent += feed(sender, steps(4), HOP, START_US + us(2 * HOP))
    assert [(packet.n_q, packet.frames, packet.sequence) for packet in packets(sent)] == [(8, 2, 0), (4, 4, 2)]


def test_samples_that_the_device_lost_move_the_timestamp(clock: ServerClock) -> None:
    sender = Sender("codes", encoder=CountingEncoder(), clock=clock)
    sent = feed(sender, steps(2)[:500], 500)
    sent += feed(sender, steps(4), HOP, START_US + us(500 + 2_400))
    later = packets(sent)
    assert sender.samples_lost == 2_400
    assert [packet.sequence for packet in later] == [0, 1, 2, 3, 4, 5]
    assert [packet.timestamp for packet in later] == [0, 320, 2_900, 3_220, 3_540, 3_860]
    for packet in later:
        assert packet.trace is not None
        spoken = (START_US + us(packet.timestamp) + OFFSET_US) % CLOCK_MODULUS
        assert abs(wrap_difference(packet.trace.capture_us, spoken, CLOCK_MODULUS)) <= 2


def test_a_drifting_or_jittery_capture_clock_loses_nothing(clock: ServerClock) -> None:
    sender, rng = Sender("codes", encoder=CountingEncoder(), clock=clock), np.random.default_rng(0)
    worst = 0
    for index in range(15_000):  # 200 s at 200 ppm: 40 ms
        true_us = START_US + round(us(index * HOP) * 1.0002)
        for packet in packets(sender.push(steps(1), true_us + int(rng.integers(-2_000, 2_000)), true_us + 14_000)):
            assert packet.trace is not None
            spoken = (true_us + OFFSET_US) % CLOCK_MODULUS
            worst = max(worst, abs(wrap_difference(packet.trace.capture_us, spoken, CLOCK_MODULUS)))
    assert sender.samples_lost == 0
    assert worst <= 2_500


def test_flush_sends_the_rest() -> None:
    sender = Sender("codes", encoder=CountingEncoder(), frames_per_packet=4)
    sent = feed(sender, np.full(400, 0.5, np.float32), 100)
    assert sent == []
    (packet,) = packets(sender.flush(START_US + us(400)))
    assert first_codes(packet) == [500, 125]
    assert sender.flush(START_US + us(400)) == []


def test_rates_and_bad_samples_are_counted() -> None:
    sender = Sender("codes", encoder=CountingEncoder())
    pcm = steps(75)
    pcm[5] = np.nan
    messages = feed(sender, pcm, HOP)
    assert sender.samples_replaced == 1
    assert sender.traffic.codec_kbps == pytest.approx(6.0)
    assert sender.traffic.wire_bytes == sum(len(message) + MESSAGE_OVERHEAD_BYTES for message in messages)
    assert sender.push(np.zeros(0, np.float32), 0, 0) == []


def test_misuse_is_refused() -> None:
    with pytest.raises(UsageError):
        Sender("codes")
    with pytest.raises(UsageError):
        Sender("pcm", frames_per_packet=33)
