"""What a call does before the clocks are compared, against a WebSocket server that never answers a
ping; and when a call begins."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import soundfile
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from earshot.client.audio.endpoints import NoSink, NoSource, OnBlock
from earshot.client.audio.files import FileSink, FileSource
from earshot.client.settings import CallSettings
from earshot.client.wiring import make_call
from earshot.codec.bitstream import pack
from earshot.codec.model.model import Model
from earshot.protocol.messages import Hello, Limits, ModelInfo, Welcome, parse_client
from earshot.protocol.packet import CodedPacket, Packet, encode_codes_down
from tests.integer_lm import live_lm
from tests.peers import running_server

LIMITS = Limits(max_message_bytes=65_536, messages_per_second=200, audio_burst_ms=1000)
SENT = 5


async def test_what_comes_before_play_out_begins_is_counted_and_not_kept(tmp_path: Path, tiny_model: Model) -> None:
    codes = np.zeros((8, 1), np.int16)

    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        model = ModelInfo.of(tiny_model.config, tiny_model.digest)
        welcome = Welcome(peer=1, room="den", model=model, limits=LIMITS, clock_us=0, peers=[])
        await connection.send(welcome.model_dump_json())
        for number in range(SENT):
            packet = Packet(8, 1, number, number * 320, pack(codes), source=2)
            await connection.send(encode_codes_down([packet]))
        await connection.wait_closed()

    async with serve(handler, "127.0.0.1", 0, subprotocols=[Subprotocol("earshot.v1")]) as server:
        port = server.sockets[0].getsockname()[1]
        settings = CallSettings("den", f"ws://127.0.0.1:{port}")
        call = make_call(settings, tiny_model, NoSource(), FileSink(tmp_path / "heard.wav"))
        running = asyncio.create_task(call.run())
        async with asyncio.timeout(30):
            while call.unheard < SENT:  # noqa: ASYNC110 -- a call tells nobody what it has read
                await asyncio.sleep(0.01)
        call.leave()
        await running
    assert call.unheard == SENT
    assert call.malformed == 0
    assert call.connections[-1].receiver.stats() == {}
    assert not (tmp_path / "heard.wav").exists()


async def test_packets_that_cannot_be_read_end_entropy_coding_and_not_the_call(
    tmp_path: Path, tiny_model: Model
) -> None:
    offered: list[list[str]] = []

    async def handler(connection: ServerConnection) -> None:
        hello = parse_client(await connection.recv(decode=True))
        assert isinstance(hello, Hello)
        offered.append(hello.entropy)
        model = ModelInfo.of(tiny_model.config, tiny_model.digest)
        agreed = hello.entropy[0] if hello.entropy else None
        welcome = Welcome(peer=1, room="den", model=model, limits=LIMITS, clock_us=0, peers=[], entropy=agreed)
        await connection.send(welcome.model_dump_json())
        if agreed:
            await connection.send(encode_codes_down([CodedPacket(8, 1, 0, 0, b"1234", source=2)]))
        await connection.wait_closed()

    async with serve(handler, "127.0.0.1", 0, subprotocols=[Subprotocol("earshot.v1")]) as server:
        port = server.sockets[0].getsockname()[1]
        settings, sink = CallSettings("den", f"ws://127.0.0.1:{port}"), FileSink(tmp_path / "heard.wav")
        call = make_call(settings, tiny_model, NoSource(), sink, live_lm=live_lm())
        running = asyncio.create_task(call.run())
        async with asyncio.timeout(30):
            while len(offered) < 2:  # noqa: ASYNC110 -- a call tells nobody what it has said
                await asyncio.sleep(0.01)
        call.leave()
        await running
    assert offered == [[live_lm().digest], []]


def test_what_was_encoded_for_a_lost_connection_stays_out_of_the_next(tmp_path: Path, tiny_model: Model) -> None:
    """Its sequence numbers would make the server take the first of the new ones for late."""
    call = make_call(CallSettings("den"), tiny_model, NoSource(), FileSink(tmp_path / "heard.wav"))
    assert call.talker.sender is None  # as between two connections
    call.speech.send([b"one", b"two"])
    assert call.outbox.dropped == 2
    call.outbox.clear()
    assert call.outbox.dropped == 2  # nothing waited


class SlowToStart(FileSource):
    """Has spoken to the end before its `start` returns."""

    def start(self, on_block: OnBlock) -> None:
        super().start(on_block)
        assert self.ended.wait(30)


async def test_a_call_begins_before_its_source_speaks(tmp_path: Path, tiny_model: Model) -> None:
    soundfile.write(tmp_path / "short.wav", np.zeros(12_000, np.float32), 24_000)
    with running_server(tiny_model) as server:
        settings = CallSettings("den", server.url, linger_s=0.2)
        call = make_call(settings, tiny_model, SlowToStart(tmp_path / "short.wav"), NoSink())
        async with asyncio.timeout(60):
            await call.run()
    assert call.seconds >= 0.7
