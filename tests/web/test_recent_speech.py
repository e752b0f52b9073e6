"""What a page sends again after its connection broke is what a terminal sends again."""

from __future__ import annotations

import numpy as np

from earshot.client.core.recent_speech import RecentSpeech
from earshot.codec.bitstream import pack
from earshot.protocol.packet import Packet, PcmFormat, PcmUp, Trace, encode_codes_up, encode_pcm_up
from tests.web.node import run_js

EVERY_US = 40_000
FIRST = 65_500
"""The sequence wraps within the second that is kept."""


def test_what_was_missed_is_sent_again_as_a_terminal_does() -> None:
    random, sequence = np.random.default_rng(0), FIRST
    said: list[tuple[int, bytes]] = []
    for number in range(60):
        n_q, frames = int(random.choice([1, 2, 4, 8])), int(random.integers(1, 7))
        trace = Trace(number, 1, 2, 0, 0) if number % 3 == 0 else None
        codes = random.integers(0, 1024, (n_q, frames))
        packet = Packet(n_q, frames, sequence % 65_536, sequence * 320, pack(codes), trace)
        said.append((number * EVERY_US, encode_codes_up(packet)))
        sequence += frames
    for number in range(60, 75):
        pcm = PcmUp(PcmFormat.S16, sequence % 65_536, sequence * 320, bytes(640), None)
        said.append((number * EVERY_US, encode_pcm_up(pcm)))
        sequence += 1
    last_us = said[-1][0]
    asked = [
        (None, last_us),
        (FIRST, last_us),
        ((sequence - 9) % 65_536, last_us),
        (None, last_us + 350_000),
        (0, 2 * last_us),
    ]
    recent = RecentSpeech()
    for at_us, message in said:
        recent.add(message, at_us)
    expected = [[message.hex() for message in recent.since(*one)] for one in asked]
    assert [bool(messages) for messages in expected] == [True, True, True, True, False]
    assert (
        run_js("recent.mjs", data={"said": [(at, message.hex()) for at, message in said], "asked": asked}) == expected
    )
