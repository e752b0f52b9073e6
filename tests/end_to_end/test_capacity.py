"""Who is let in to speak, and what those who speak get, on a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect

from earshot.codec.pcm import to_s16
from earshot.lab.loadtest.wire import TEXT, client_frame
from earshot.protocol.messages import PROTOCOL, SUBPROTOCOL, Error, Hello, SetRate, Welcome, parse_server
from earshot.protocol.packet import PcmFormat, PcmUp, encode_pcm_up
from tests.peers import HOP, PATIENCE_S, RunningServer, join, noise, quiet_socket, running_server, tiny_model, until


async def ask(server: RunningServer, room: str, **hello: Any) -> Welcome | Error:
    """What the server answers to a hello; the connection ends then."""
    async with connect(server.room(room), subprotocols=[SUBPROTOCOL]) as peer:
        await peer.send(Hello(**{"protocol": PROTOCOL, "model": server.model.digest, **hello}).model_dump_json())
        answer = parse_server(await asyncio.wait_for(peer.recv(), PATIENCE_S))
        assert isinstance(answer, Welcome | Error)
        return answer


async def test_who_would_make_others_late_is_refused_and_nobody_else() -> None:
    with running_server(tiny_model(), max_address_share=1.0) as server:
        speaker, listener = await join(server, "blue", send="pcm"), await join(server, "blue", send="none")
        server.hub.pool.limit_us = 0.0  # as if nothing were fast enough
        refusal = await ask(server, "red", send="pcm")
        assert isinstance(refusal, Error)
        assert refusal.code == 4013
        assert "try again later" in refusal.message
        assert "codes" in refusal.message
        assert isinstance(await ask(server, "red", send="codes"), Welcome)
        wants_pcm = await ask(server, "blue", send="none", want="pcm")  # the speaker would have to be decoded
        assert isinstance(wants_pcm, Error)
        assert wants_pcm.code == 4013
        for index, pcm in enumerate(noise(20, 1).reshape(-1, HOP)):
            await speaker.send_pcm(pcm, index, index * HOP)
        await until(lambda: listener.heard[speaker.id].frames == 20)
        server.hub.pool.limit_us = 1e9
        assert isinstance(await ask(server, "red", send="pcm"), Welcome)
        await speaker.leave()
        await listener.leave()


async def test_a_listener_to_pcm_gets_no_rate_of_its_own_where_that_would_make_others_late() -> None:
    with running_server(tiny_model()) as server:
        speaker = await join(server, "blue", want="none")
        pcm = {"send": "none", "want": "pcm", "model": None}
        first, second = [await join(server, "blue", max_kbps=6.0, **pcm) for _ in range(2)]
        third = await join(server, "blue", max_kbps=3.0, **pcm)
        server.hub.pool.limit_us = 0.0
        await third.say(SetRate(max_kbps=1.5))  # in place of its own
        await third.say(SetRate(max_kbps=6.0))  # together with the others
        await third.say(SetRate(max_kbps=3.0))
        code, said = await third.closed()
        assert code == 4013
        assert "at 3 kbps" in said
        await speaker.send_codes(np.ones((8, 3), int))
        await until(lambda: first.heard[speaker.id].frames == second.heard[speaker.id].frames == 3)
        assert server.hub.pool.streams["decoder"] == 1
        for peer in (speaker, first, second):
            await peer.leave()


async def test_one_address_has_its_share_of_all_speakers() -> None:
    with running_server(tiny_model(), encoders_per_worker=4, max_address_share=0.5) as server:
        first, second = await join(server, "blue", send="pcm"), await join(server, "blue", send="pcm")
        refusal = await ask(server, "blue", send="pcm")
        assert isinstance(refusal, Error)
        assert refusal.code == 4013
        assert "from your address" in refusal.message
        assert isinstance(await ask(server, "blue", send="codes"), Welcome)
        await first.leave()
        await until(lambda: server.hub.speakers.total() == 1)
        assert isinstance(await ask(server, "blue", send="pcm"), Welcome)
        await second.leave()
        await until(lambda: not server.hub.speakers)


async def test_stats_say_how_busy_the_workers_are() -> None:
    with running_server(tiny_model(), workers=2) as server:
        speaker, listener = await join(server, "blue", send="pcm"), await join(server, "blue", send="none")
        stop = asyncio.Event()

        async def talk() -> None:
            index = 0
            while not stop.is_set():
                await speaker.send_pcm(noise(1, index), index, index * HOP)
                index += 1
                await asyncio.sleep(HOP / 24_000)

        talking = asyncio.create_task(talk())
        await until(lambda: listener.heard[speaker.id].frames > 75)
        stats = await asyncio.to_thread(server.get, "/stats")
        async with asyncio.timeout(PATIENCE_S):
            while not stats["workers"]["load"]:  # of whole seconds of the server's clock
                await asyncio.sleep(0.1)
                stats = await asyncio.to_thread(server.get, "/stats")
        stop.set()
        await talking
        assert stats["cpu_s"] > 0
        assert stats["more_speakers"] > 0
        workers = stats["workers"]
        assert (workers["threads"], workers["sessions"]) == (2, 1)
        assert 0 < workers["load"] < 1
        assert workers["slack_ms"]["p99"] <= workers["slack_ms"]["p50"] < 13.4
        assert workers["batch_sizes"]
        assert workers["step_ms"]["encoder"]["each"] > 0
        assert workers["step_ms"]["decoder"]["each"] > 0
        await speaker.leave()
        await listener.leave()


@pytest.mark.parametrize("size", [1, 3, 7, 331, 681, 5000])
async def test_speech_arrives_whole_however_its_bytes_come(size: int) -> None:
    """PCM, control messages and a message in fragments, cut where no message ends."""
    frames = 24
    voice = noise(frames, 5)
    with running_server(tiny_model()) as server:
        listener = await join(server, "blue", send="none")
        hello = Hello(protocol=PROTOCOL, model=server.model.digest, send="pcm")
        raw = await quiet_socket(server.url, "blue", hello.model_dump_json(), receive_buffer=1 << 16)
        await until(lambda: len(server.hub.rooms["blue"].room.peers) == 2)
        stream = b""
        for index, pcm in enumerate(voice.reshape(-1, HOP)):
            message = encode_pcm_up(PcmUp(PcmFormat.S16, index, index * HOP, to_s16(pcm)))
            whole = b"\x82\xfe" + len(message).to_bytes(2, "big") + bytes(4) + message
            key = b"\x01\x80\xff\x10"
            masked = bytes(byte ^ key[at % 4] for at, byte in enumerate(message))
            other = b"\x82\xfe" + len(message).to_bytes(2, "big") + key + masked
            parts = b"\x02\xe4" + bytes(4) + message[:100] + b"\x80\xfe" + (len(message) - 100).to_bytes(2, "big")
            stream += (whole, other, parts + bytes(4) + message[100:])[index % 3]
            if index % 5 == 0:
                stream += client_frame(TEXT, b'{"type":"ping","sent_us":1}') + client_frame(0x89, b"")
        loop = asyncio.get_running_loop()
        for at in range(0, len(stream), size):
            await loop.sock_sendall(raw, stream[at : at + size])
            if size > 100 or at % 97 == 0:
                await asyncio.sleep(0)
        speaker = next(peer for peer in server.hub.rooms["blue"].room.peers if peer != listener.id)
        await until(lambda: listener.heard[speaker].frames == frames)
        exact = np.frombuffer(to_s16(voice), "<i2").astype(np.float32) / 32768
        np.testing.assert_array_equal(listener.heard[speaker].codes(), server.model.encoder(6.0).push(exact))
        raw.close()
        await listener.leave()
