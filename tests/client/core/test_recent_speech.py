from __future__ import annotations

import numpy as np
import pytest

from earshot.client.core.recent_speech import COARSE, KEPT_PCM_US, KEPT_US, MOST_KEPT, RecentSpeech
from earshot.codec.bitstream import pack, unpack
from earshot.protocol.packet import Packet, PcmFormat, PcmUp, decode_up, encode_codes_up, encode_pcm_up
from earshot.protocol.silence import Silence, encode_silence_up


def message(number: int, frames: int = 1) -> bytes:
    sequence = number % 65_536
    return encode_codes_up(Packet(8, frames, sequence, number * 320, pack(np.full((8, frames), number % 1024))))


def sequences(messages: list[bytes]) -> list[int]:
    packets = [decode_up(each) for each in messages]
    assert all(isinstance(packet, Packet) and packet.n_q == COARSE for packet in packets)
    return [packet.sequence for packet in packets]


@pytest.mark.parametrize(
    ("expected", "missed"),
    [(None, range(65_530, 65_540)), (65_530, range(65_530, 65_540)), (65_535, range(65_535, 65_540)), (4, [])],
)
def test_what_the_server_has_not_got(expected: int | None, missed: list[int]) -> None:
    recent = RecentSpeech()
    for number in range(65_530, 65_540):
        recent.add(message(number), 0)
    assert sequences(recent.since(expected, 0)) == [number % 65_536 for number in missed]


def test_only_the_last_second_and_a_bounded_number() -> None:
    recent = RecentSpeech()
    recent.add(message(1), 0)
    recent.add(message(2, 3), 10)
    (again,) = recent.since(None, KEPT_US + 5)
    packet = decode_up(again)
    assert isinstance(packet, Packet)
    np.testing.assert_array_equal(unpack(packet.payload, COARSE, 3), 2)
    for number in range(1000):
        recent.add(message(number), KEPT_US)
    assert len(recent.since(None, KEPT_US)) == MOST_KEPT
    recent.clear()
    assert recent.since(None, KEPT_US) == []


def test_pcm_is_sent_again_as_it_was_and_not_for_so_long() -> None:
    recent = RecentSpeech()
    pcm = [encode_pcm_up(PcmUp(PcmFormat.S16, number, number * 320, bytes(640))) for number in range(75)]
    for number, each in enumerate(pcm):
        recent.add(each, number * 13_333)
    now = 75 * 13_333
    assert recent.since(None, now) == pcm[-30:]
    assert recent.since(70, now) == pcm[70:]
    assert recent.since(None, now + KEPT_PCM_US) == []


def test_silence_is_not_sent_again() -> None:
    recent = RecentSpeech()
    recent.add(encode_silence_up(Silence(0, 0, bytes(6))), 0)
    assert recent.since(None, 0) == []
