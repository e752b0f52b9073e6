"""A pause of the server, in fake time: those who talked on meanwhile stay."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.codec.bitstream import pack
from earshot.codec.config import LITE_24KHZ
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.packet import Packet, PcmFormat, PcmUp
from earshot.server.core.pauses import PauseWatch
from earshot.server.core.rate_limit import TokenBucket
from earshot.server.core.uplink import Uplink
from earshot.server.settings import Settings

SECOND = 1_000_000
HOP = LITE_24KHZ.hop_length


@pytest.mark.parametrize("frames", [1, 3, 6])
def test_who_talks_on_while_its_network_stands_still_stays(frames: int) -> None:
    """With the settings that a server has by default. 8 honest peers were once sent away (4006)
    because their machine stood still for more than two seconds."""
    limits = Settings()
    stall_s = 4.9
    uplink = Uplink(LITE_24KHZ, limits.audio_burst_ms, 0)
    messages = TokenBucket(limits.messages_per_second, limits.message_burst, 0)
    codes = pack(np.zeros((8, frames), int))
    heard = 0
    for first in range(0, 12 * 75, frames):
        spoken_us = round((first + frames) * HOP * 1e6 / LITE_24KHZ.sample_rate)
        now_us = max(spoken_us, round((3 + stall_s) * SECOND)) if spoken_us >= 3 * SECOND else spoken_us
        assert messages.take(1, now_us)
        packet = Packet(8, frames, first, first * HOP, codes)
        heard += frames * (uplink.codes(packet, False, now_us) is not None)
    assert heard == 12 * 75
    assert uplink.frames_discarded == 0


def test_a_loop_that_turns_has_no_pauses_and_one_that_stood_still_has() -> None:
    watch = PauseWatch(SECOND // 2, 0)
    assert [watch.total(now) for now in range(0, 5 * SECOND, SECOND // 2)] == [0] * 10
    last = 4_500_000
    assert watch.total(last + 3 * SECOND) == 3 * SECOND
    assert watch.total(last + 3 * SECOND + 1) == 3 * SECOND
    assert watch.total(last + 4 * SECOND) == 3 * SECOND + 999_999


def test_a_bucket_takes_what_waited_and_no_more() -> None:
    bucket = TokenBucket(rate=10, burst=5, now_us=0)
    bucket.credit(3 * SECOND)
    assert bucket.take(35, 3 * SECOND)
    assert not bucket.take(1, 3 * SECOND)
    assert not bucket.take(6, 100 * SECOND)
    used = TokenBucket(rate=10, burst=5, now_us=0)
    assert used.take(5, 0)
    used.credit(3 * SECOND)
    assert not used.take(31, 3 * SECOND)
    assert used.take(30, 3 * SECOND)


@pytest.mark.parametrize("credited", [True, False])
def test_audio_of_a_pause_is_not_ahead_of_time(credited: bool) -> None:
    uplink = Uplink(LITE_24KHZ, 2000, 0)
    pause_us = 6 * SECOND
    if credited:
        uplink.credit(pause_us)
    messages = [PcmUp(PcmFormat.S16, number, number * HOP, bytes(2 * HOP), None) for number in range(6 * 75)]
    if credited:
        assert sum(len(uplink.pcm(message, False, pause_us)) for message in messages) == len(messages)
    else:
        with pytest.raises(ProtocolError, match="ahead of real time"):
            [uplink.pcm(message, False, pause_us) for message in messages]
