"""Messages in, sound out; and both halves of the pipeline together, for the accuracy of the latency
they report."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from earshot.client.core.clock import ServerClock
from earshot.client.core.latency import STAGES
from earshot.client.core.receiver import MAX_WAITING, Receiver
from earshot.client.core.sender import Sender
from earshot.codec.bitstream import pack
from earshot.codec.pcm import Pcm, soft_limit, to_s16
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import Pong
from earshot.protocol.packet import Packet, PcmBlock, Trace, decode_up, encode_codes_down, encode_pcm_down
from earshot.protocol.sequence import CLOCK_MODULUS

HOP, RATE = 320, 24_000
FRAME_US = HOP * 1e6 / RATE


class Level:
    """A decoder whose frames are constant: the first code in thousandths. Refuses what it must
    never get."""

    def push(self, codes: NDArray[np.int16]) -> Pcm:
        assert codes.dtype == np.int16
        return np.repeat(codes[0].astype(np.float32) / 1000, HOP)


class LevelEncoder:
    kbps = 1.5

    def push(self, pcm: Pcm) -> NDArray[np.int16]:
        frames = pcm.reshape(-1, HOP)
        return np.tile(np.rint(np.abs(frames).mean(axis=1) * 1000).astype(np.int16), (2, 1))


def codes_message(number: int, code: int, sources: tuple[int, ...] = (1,), n_q: int = 2) -> bytes:
    payload = pack(np.full((n_q, 1), code, np.int16))
    return encode_codes_down(
        [Packet(n_q, 1, number % 65_536, number * HOP, payload, source=source) for source in sources]
    )


def at(number: int) -> int:
    return round((number + 1) * FRAME_US)


def run(receiver: Receiver, first: int, last: int, message: object) -> Pcm:
    heard = []
    for number in range(first, last):
        made = message(number)  # type: ignore[operator]
        if made is not None:
            receiver.put(made, at(number))
        heard.append(receiver.pull(HOP, at(number) + 3_000))
    return np.concatenate(heard)


def test_codes_of_two_speakers_are_mixed() -> None:
    receiver = Receiver(Level)
    heard = run(receiver, 0, 150, lambda number: codes_message(number, 200, sources=(1, 2)))
    assert heard[-HOP:] == pytest.approx(0.4)
    assert receiver.present == {1, 2}
    stats = receiver.stats()
    assert stats[1].codec_kbps_total == pytest.approx(1.5)
    assert stats[1].level_dbfs == pytest.approx(20 * np.log10(0.2), abs=0.1)
    assert receiver.traffic.messages == 150
    assert receiver.traffic.frames == 300
    for figures in stats.values():
        assert figures.underruns == 0
        assert figures.frames_received == figures.frames_played + figures.frames_waiting


def test_pcm_down_needs_no_decoder() -> None:
    def never() -> Level:
        raise AssertionError("no decoder is wanted")

    data = to_s16(np.full(2 * HOP, 0.25, np.float32))
    receiver = Receiver(never)
    heard = run(
        receiver,
        0,
        150,
        lambda number: None if number % 2 else encode_pcm_down([PcmBlock(5, number, number * HOP, data)]),
    )
    assert heard[-HOP:] == pytest.approx(0.25, abs=1e-3)
    assert receiver.stats()[5].underruns == 0
    assert receiver.stats()[5].frames_missing == 0


def test_loud_mixes_are_bent_not_clipped() -> None:
    receiver = Receiver(Level)
    heard = run(receiver, 0, 100, lambda number: codes_message(number, 900, sources=(1, 2, 3)))
    assert 0.9 < float(np.max(heard)) <= 1.0
    ramp = np.linspace(-4, 4, 8_001, dtype=np.float32)
    limited = soft_limit(ramp)
    assert np.all(np.diff(limited) >= 0)
    assert np.max(np.abs(limited)) <= 1
    assert np.array_equal(limited[np.abs(ramp) <= 0.8], ramp[np.abs(ramp) <= 0.8])


@pytest.mark.parametrize("message", [b"", b"\x09", b"\x03\x01", codes_message(0, 5)[:-1], codes_message(0, 5) + b"x"])
def test_malformed_messages_are_refused_and_change_nothing(message: bytes) -> None:
    receiver = Receiver(Level)
    with pytest.raises(ProtocolError):
        receiver.put(message, 0)
    assert not np.any(receiver.pull(HOP, 10))
    assert receiver.stats() == {}
    assert receiver.traffic.messages == 0


def test_more_codebooks_than_the_model_has_are_refused() -> None:
    receiver = Receiver(Level, n_codebooks=2)
    receiver.put(codes_message(0, 1, n_q=2), 0)
    with pytest.raises(ProtocolError) as caught:
        receiver.put(codes_message(0, 1, n_q=3), 0)
    assert caught.value.code == CloseCode.MODEL_MISMATCH


def test_mute_and_leave_are_no_underruns() -> None:
    receiver = Receiver(Level)
    run(receiver, 0, 100, lambda number: codes_message(number, 200, sources=(1, 2)))
    receiver.peer_muted(1, True)
    receiver.peer_left(2)
    heard = run(receiver, 100, 300, lambda number: None)
    assert not np.any(heard[-HOP:])
    stats = receiver.stats()
    assert (stats[1].underruns, stats[2].underruns) == (0, 0)
    assert receiver.present == {1}
    assert stats[2].frames_played == 100
    assert stats[1].level_dbfs == -96


def test_speakers_are_bounded() -> None:
    receiver = Receiver(Level, max_sources=2)
    run(receiver, 0, 50, lambda number: codes_message(number, 200, sources=(1, 2, 3)))
    assert receiver.present == {1, 2}
    assert receiver.packets_dropped == 50
    run(receiver, 50, 200, lambda number: codes_message(number, 200, sources=(2,)))
    run(receiver, 200, 210, lambda number: codes_message(number, 200, sources=(2, 3)))
    assert receiver.present == {2, 3}
    assert set(receiver.stats()) == {1, 2, 3}


def test_a_player_that_stands_still_costs_bounded_memory() -> None:
    receiver = Receiver(Level)
    for number in range(5_000):
        receiver.put(codes_message(number, 100), at(number))
    assert receiver.packets_dropped == 5_000 - MAX_WAITING
    receiver.pull(HOP, at(5_000))
    figures = receiver.stats()[1]
    assert figures.frames_received == MAX_WAITING
    accounted = figures.frames_played + figures.frames_waiting + figures.frames_overflow
    assert accounted + figures.frames_late + figures.frames_duplicate == MAX_WAITING


def test_two_threads_share_it() -> None:
    receiver, frames = Receiver(Level), 3_000

    def put() -> None:
        for number in range(frames):
            receiver.put(codes_message(number, 100), at(number))

    thread = threading.Thread(target=put)
    thread.start()
    pulls = 0
    while thread.is_alive() or pulls == 0:
        receiver.pull(HOP, at(pulls))
        receiver.stats()
        pulls += 1
    thread.join()
    receiver.pull(HOP, at(frames))
    assert receiver.stats()[1].frames_received + receiver.packets_dropped == frames


def clock_with(offset_us: int) -> ServerClock:
    clock = ServerClock()
    clock.ping(1_000)
    clock.pong(Pong(ping_us=1_000, received_us=1_000 + offset_us, sent_us=1_000 + offset_us), 1_000)
    return clock


@pytest.mark.parametrize("block", [320, 480])
@pytest.mark.parametrize("stall", [False, True])
def test_reported_latency_is_that_of_the_sound(block: int, stall: bool) -> None:
    """A signal that names its own time (a ramp in steps of a frame, repeated every 0.9 s) goes
    through sender, a server of fixed delays, and receiver. Mouth-to-ear by stages must be the age
    of what comes out."""
    offset = CLOCK_MODULUS - 3_000_000
    sender = Sender("codes", encoder=LevelEncoder(), clock=clock_with(offset))
    receiver = Receiver(Level, clock=clock_with(offset))
    server: list[tuple[int, bytes]] = []
    ages: list[float] = []
    spoken_us = 2_000_000
    output_us = 15_000
    number = pulls = 0
    for now in range(spoken_us, spoken_us + 8_000_000, 1_000):
        while spoken_us + at(number) <= now:
            pcm = np.full(HOP, 0.1 + 0.01 * (number % 68), np.float32)
            framed = spoken_us + at(number)
            for message in sender.push(pcm, framed - round(FRAME_US), framed):
                packet = decode_up(message)
                assert isinstance(packet, Packet)
                assert packet.trace is not None
                sent = packet.trace
                trace = Trace(sent.capture_us, sent.framed, sent.encoded, sent.encoded + 20, sent.encoded + 30)
                down = Packet(2, 1, packet.sequence, packet.timestamp, packet.payload, trace, source=9)
                arrival = framed + 5_000
                if stall and 3_000_000 < framed - spoken_us < 3_200_000:
                    arrival = spoken_us + 3_200_000
                server.append((arrival, encode_codes_down([down])))
            number += 1
        while server and server[0][0] <= now:
            receiver.put(server.pop(0)[1], now)
        while spoken_us + pulls * block * 1e6 / RATE <= now:
            before = receiver.latency.added
            heard = receiver.pull(block, now, now + output_us)
            pulls += 1
            for heard_us, *stages in receiver.latency.rows()[before:]:
                index = min(round((heard_us - now - output_us) * RATE / 1e6) + 20, block - 1)
                step = round((float(heard[index]) - 0.1) / 0.01)
                spoken = number - 1 - (number - 1 - step) % 68  # the newest frame that has this level
                ages.append(heard_us - (spoken_us + spoken * FRAME_US) - sum(stages))
    assert len(ages) > 450
    assert receiver.latency.percentiles()["total"]["p50"] > 20
    assert np.quantile(np.abs(ages), 0.9) < 1_500
    output = receiver.latency.rows()[:, 1 + STAGES.index("output")]
    assert output.max() <= output_us + block * 1e6 / RATE  # also after a stall, when frames are decoded ahead
