"""A client's end of entropy coding: messages as they go and come, what cannot be read, and the
meters."""

from __future__ import annotations

import numpy as np
import pytest
from earshot.client.core.receiver import Receiver
from earshot.client.entropy.coder import EntropyLink, Meter, Rates, Totals
from earshot.client.net.connection import Connection
from earshot.client.net.websocket import Lost
from earshot.codec.bitstream import pack
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.entropy_link import LinkDecoder, LinkEncoder
from earshot.protocol.packet import (
    CodedPacket,
    Packet,
    PcmBlock,
    PcmFormat,
    PcmUp,
    decode_up,
    encode_codes_down,
    encode_codes_up,
    encode_pcm_down,
    encode_pcm_up,
)

from tests.integer_lm import live_lm

pytest.importorskip("earshot.codec.engine.native.lm")
LM = live_lm()


def packet(number: int, source: int = 0, n_q: int = 4) -> Packet:
    codes = np.random.default_rng(number).integers(0, 1024, (n_q, 1))
    return Packet(n_q, 1, number, 320 * number, pack(codes), source=source)


async def test_messages_up_are_coded_and_others_left_alone() -> None:
    link, far = EntropyLink(LM), LinkDecoder(LM.lm)
    for number in range(3):
        made = decode_up(await link.code(encode_codes_up(packet(number))))
        assert isinstance(made, CodedPacket)
        assert far.decode(made) == packet(number)
    pcm = encode_pcm_up(PcmUp(PcmFormat.S16, 0, 0, bytes(640)))
    assert await link.code(pcm) == pcm
    assert link.sent.total.plain_bytes == 15
    assert link.sent.total.coded_bytes > 0
    link.close()


async def test_messages_down_come_plain() -> None:
    link, far = EntropyLink(LM), LinkEncoder(LM.lm)
    for number in range(3):
        parts = [packet(number, source) for source in (1, 2)] + [packet(number, 3)]
        sent = [far.encode(part) for part in parts[:2]] + parts[2:]
        assert await link.decode(encode_codes_down(sent)) == parts
    block = PcmBlock(1, 0, 0, bytes(640))
    assert await link.decode(encode_pcm_down([block])) == [block]
    assert link.heard.total.plain_bytes == 30
    with pytest.raises(Lost, match=r"has not begun.*going on without"):
        await link.decode(encode_codes_down([CodedPacket(4, 1, 0, 0, b"123", source=9)]))
    assert link.failed
    link.close()


async def test_what_nobody_can_play_yet_keeps_the_decoder_in_step() -> None:
    def nobody() -> object:
        raise AssertionError("nothing is played here")

    link, far = EntropyLink(LM), LinkEncoder(LM.lm)
    connection = Connection(Receiver(nobody), entropy=link)  # type: ignore[arg-type]
    for number in range(4):
        message = encode_codes_down([far.encode(packet(number, 1))])
        await connection.put(message, number, audible=number > 1)
        with pytest.raises(ProtocolError, match="no language model was agreed on"):
            connection.receiver.put(message, number)
    assert connection.receiver.traffic.frames == 2
    connection.close()


def test_meters_tell_the_last_seconds() -> None:
    meter = Meter()
    assert meter.recent(5) == Rates()
    for tick in range(75 * 10):  # a second of 5 kB/s, cut in half, at a tenth of a core
        meter.add(Totals(5, 2 if tick < 375 else 3, 1333), 1_000_000 + tick * 13_333)
    now = 1_000_000 + 75 * 10 * 13_333
    recent = meter.recent(now)
    assert recent.plain_kbps == pytest.approx(3.0, rel=0.02)
    assert recent.coded_kbps == pytest.approx(1.8, rel=0.02)
    assert recent.cpu_share == pytest.approx(0.1, rel=0.02)
    assert meter.recent(now + 10_000_000) == Rates()
    assert meter.total.coded_bytes == 375 * 5
