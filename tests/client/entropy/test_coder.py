"""A client's end of entropy coding: messages as they go and come, and what cannot be read."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.client.core.receiver import Receiver
from earshot.client.entropy.coder import EntropyCoder
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
    decode_down,
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
    coder, far = EntropyCoder(LM), LinkDecoder(LM.lm)
    for number in range(3):
        made = decode_up(await coder.encode(encode_codes_up(packet(number))))
        assert isinstance(made, CodedPacket)
        assert far.decode(made) == packet(number)
    pcm = encode_pcm_up(PcmUp(PcmFormat.S16, 0, 0, bytes(640)))
    assert await coder.encode(pcm) == pcm
    assert coder.sent.total.plain_bytes == 15
    assert coder.sent.total.coded_bytes > 0
    coder.close()


async def test_messages_down_come_plain() -> None:
    coder, far = EntropyCoder(LM), LinkEncoder(LM.lm)
    for number in range(3):
        parts = [packet(number, source) for source in (1, 2)] + [packet(number, 3)]
        sent = [far.encode(part) for part in parts[:2]] + parts[2:]
        assert await coder.decode(decode_down(encode_codes_down(sent))) == parts
    block = PcmBlock(1, 0, 0, bytes(640))
    assert await coder.decode(decode_down(encode_pcm_down([block]))) == [block]
    assert coder.heard.total.plain_bytes == 30
    with pytest.raises(Lost, match=r"has not begun.*going on without"):
        await coder.decode([CodedPacket(4, 1, 0, 0, b"123", source=9)])
    assert coder.failed
    coder.close()


async def test_what_nobody_can_play_yet_keeps_the_decoder_in_step() -> None:
    def nobody() -> object:
        raise AssertionError("nothing is played here")

    coder, far = EntropyCoder(LM), LinkEncoder(LM.lm)
    receiver = Receiver(nobody)  # type: ignore[arg-type]
    connection = Connection(receiver, receiver, coder)
    for number in range(4):
        message = encode_codes_down([far.encode(packet(number, 1))])
        await connection.put(message, number, audible=number > 1)
        with pytest.raises(ProtocolError, match="no language model was agreed on"):
            connection.receiver.put(message, number)
    assert connection.receiver.traffic.frames == 2
    connection.close()
