from __future__ import annotations

import numpy as np

from earshot.codec.bitstream import pack, unpack
from earshot.protocol.packet import Packet
from earshot.protocol.silence import Silence
from earshot.server.core.recent_speech import COARSE, KEPT_US, MOST_KEPT, RecentSpeech

FRAME_US = 13_333


def packet(number: int, n_q: int = 8) -> Packet:
    return Packet(n_q, 1, number, number * 320, pack(np.full((n_q, 1), number)))


def test_the_last_second_is_kept_coarse() -> None:
    recent = RecentSpeech()
    for number in range(300):
        recent.add(packet(number), number * FRAME_US)
    now = 299 * FRAME_US
    kept = recent.since(now)
    assert [media.sequence for media in kept] == list(range(300 - len(kept), 300))
    assert KEPT_US - FRAME_US < now - kept[0].sequence * FRAME_US <= KEPT_US
    for media in kept:
        assert isinstance(media, Packet)
        np.testing.assert_array_equal(unpack(media.payload, COARSE, 1), media.sequence)
    assert [media.sequence for media in recent.since(now + KEPT_US)] == [299]
    assert recent.since(now + 2 * KEPT_US) == []


def test_a_silence_is_known_however_long_it_is() -> None:
    recent, silence = RecentSpeech(), Silence(1, 320, bytes(6))
    recent.add(packet(0), 0)
    recent.add(silence, FRAME_US)
    assert recent.since(FRAME_US) == [packet(0).cut(COARSE), silence]
    assert recent.since(60_000_000) == [silence]


def test_it_is_bounded() -> None:
    recent = RecentSpeech()
    for number in range(1000):
        recent.add(packet(number), 0)
    assert len(recent.since(0)) == MOST_KEPT
