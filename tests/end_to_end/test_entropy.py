"""Entropy coding between real peers: a server with a language model, clients with and without it
over WebSockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from earshot.codec.bitstream import pack, unpack
from earshot.codec.weights.lm import save_integer_lm
from earshot.codec.weights.load import save_native
from earshot.protocol.messages import Mute, PeerChanged, SetRate
from earshot.protocol.packet import CodedPacket, Packet, PcmBlock, encode_codes_up
from tests.end_to_end.earshot_process import EarshotCall, EarshotServer, hears
from tests.integer_lm import live_lm, random_weights
from tests.peers import (
    FRAME_S,
    HOP,
    RunningServer,
    TestPeer,
    bystanders,
    join,
    noise,
    real_time,
    running_server,
    tiny_model,
    until,
)

pytest.importorskip("earshot.codec.engine.native.lm")
LM = live_lm()
CODES = np.random.default_rng(2).integers(0, 1024, (16, 80), np.int16)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(tiny_model(), LM) as server:
        yield server


async def enter(server: RunningServer, room: str, **hello: Any) -> TestPeer:
    peer = await join(server, room, entropy=["some-other", LM.digest], **hello)
    assert peer.welcome.entropy == LM.digest
    return peer


async def test_who_can_gets_coded_packets_and_who_cannot_plain_ones(server: RunningServer) -> None:
    speaker = await enter(server, "mixed", want="none", send_kbps=12.0)
    new, slim = await enter(server, "mixed", send="none"), await enter(server, "mixed", send="none", max_kbps=3.0)
    old = await join(server, "mixed", send="none")
    stranger = await join(server, "mixed", send="none", entropy=["another-model"])
    hears_pcm = await join(server, "mixed", send="none", want="pcm", model=None, entropy=[LM.digest])
    plain = await join(server, "mixed", want="none")
    assert (old.welcome.entropy, stranger.welcome.entropy) == (None, None)
    before = server.get("/stats")["entropy"]
    assert before["links"] == 4
    await asyncio.gather(speaker.talk(CODES), plain.talk(CODES[:8]))
    for listener, n_q in ((new, 16), (slim, 4), (old, 16), (stranger, 16)):
        for talker, most in ((speaker, 16), (plain, 8)):
            heard = listener.heard[talker.id]
            await until(lambda heard=heard: heard.frames >= 80)
            assert heard.missing == 0
            np.testing.assert_array_equal(heard.codes(), CODES[: min(n_q, most)])
    await until(lambda: hears_pcm.heard[speaker.id].frames >= 80)
    assert all(isinstance(part, PcmBlock) for part in hears_pcm.heard[speaker.id].packets)
    assert (old.coded, stranger.coded, hears_pcm.coded) == (0, 0, 0)
    assert min(new.coded, slim.coded) > 0
    after = server.get("/stats")["entropy"]
    assert after["packets"] - before["packets"] == new.coded + slim.coded + 80
    assert after["coded_bytes"] > before["coded_bytes"]
    assert after["plain_bytes"] > before["plain_bytes"]
    assert after["cpu_s"] >= before["cpu_s"]
    for peer in (speaker, new, slim, old, stranger, hears_pcm, plain):
        await peer.leave()
    await until(lambda: server.get("/stats")["entropy"]["links"] == 0)


async def test_rates_change_and_speakers_pause_join_and_leave(server: RunningServer) -> None:
    speaker, listener = await enter(server, "rates", send_kbps=12.0), await enter(server, "rates", send="none")
    spoken = [8] * 10 + [2] * 10 + [16] * 10 + [4] * 10
    async for index in real_time(len(spoken), FRAME_S):
        if index == 15:
            await speaker.say(Mute(muted=True))
        if index == 18:
            await speaker.say(Mute(muted=False))
        if index == 20:
            await listener.say(SetRate(max_kbps=6.0))
            late = await enter(server, "rates", send="none")
        await speaker.send_codes(CODES[: spoken[index], index : index + 1])
    heard, heard_late = listener.heard[speaker.id], late.heard[speaker.id]
    for line in (heard, heard_late):
        await until(lambda line=line: line.packets and line.packets[-1].sequence == len(spoken) - 1)
    assert heard.missing == 3  # what it sent while muted was decoded, or the next could not have been
    check(heard.packets)
    check(heard_late.packets)
    assert {part.n_q for part in heard.packets} == {2, 4, 8}
    again = await enter(server, "rates", send="none", want="none")
    await speaker.leave()
    await again.leave()
    second = await enter(server, "rates", send_kbps=12.0)
    await second.send_codes(CODES[:8, :3])
    await until(lambda: listener.heard[second.id].frames == 3)
    check(listener.heard[second.id].packets)
    for peer in (listener, late, second):
        await peer.leave()


def check(packets: list[Packet | PcmBlock]) -> None:
    """Every packet has the codes that were said there."""
    assert packets
    for part in packets:
        assert isinstance(part, Packet)
        said = CODES[: part.n_q, part.sequence : part.sequence + part.frames]
        np.testing.assert_array_equal(unpack(part.payload, part.n_q, part.frames), said)


async def test_a_link_that_was_held_up_goes_on_after_joining_cutting_and_dropping() -> None:
    degradation = {"join_after_ms": 40, "cut_to_4_after_ms": 120, "cut_to_2_after_ms": 190, "drop_after_ms": 250}
    with running_server(tiny_model(), LM, **degradation) as server:
        speaker, listener = await join(server, "slow", want="none"), await enter(server, "slow", send="none")
        heard, gate = listener.heard[speaker.id], threading.Event()
        for index in range(80):
            if index == 10:
                server.call_soon(lambda: server.hub.pool.coding_tasks.put(gate.wait))
            if index == 45:
                gate.set()
            await speaker.send_codes(CODES[:8, index : index + 1])
            await asyncio.sleep(FRAME_S)  # never made up for, so that the gate is closed for 35 frames at least
        await until(lambda: heard.packets and heard.packets[-1].sequence + heard.packets[-1].frames == 80)
        assert heard.missing > 5
        assert (await listener.stats()).frames_dropped == heard.missing
        shapes = {(part.n_q < 8, part.frames > 1) for part in heard.packets}
        assert len(shapes) > 1  # some were joined or cut
        check(heard.packets)
        await asyncio.gather(speaker.leave(), listener.leave())


async def test_without_place_and_without_a_model_there_are_plain_codes() -> None:
    with running_server(tiny_model(), LM, max_entropy_links=2) as server:  # one address has half of them
        first = await enter(server, "few")
        second = await join(server, "few", entropy=[LM.digest])
        assert second.welcome.entropy is None
        await first.talk(CODES[:8, :5])
        await until(lambda: second.heard[first.id].frames == 5)
        await first.leave()
        await until(lambda: server.get("/stats")["entropy"]["links"] == 0)
        await (await enter(server, "few")).leave()
        await until(lambda: server.get("/stats")["entropy"]["links"] == 0)
        server.hub.pool.busy = lambda: 0.6
        third = await join(server, "few", entropy=[LM.digest])
        assert third.welcome.entropy is None
        await third.leave()
        await second.leave()
    with running_server(tiny_model()) as server:
        peer = await join(server, "none", entropy=[LM.digest])
        assert peer.welcome.entropy is None
        assert server.get("/stats")["entropy"]["model"] is None
        await peer.send_codes(CODES[:8, :1])
        await peer.socket.send(encode_codes_up(CodedPacket(8, 1, 1, HOP, b"", True)))
        assert await peer.closed() == (4000, "an entropy-coded packet came, and welcome names no language model")


def bad(encode: Any, **changes: Any) -> CodedPacket:
    """The second packet of a stream, changed."""
    made: CodedPacket = encode(Packet(8, 1, 1, HOP, pack(CODES[:8, 1:2])))
    return made._replace(**changes)


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "truncated": ({"n_q": 16, "payload": b"12345678"}, 4000, "is truncated"),
    "surplus bytes": ({"payload": b"\x55" * 200}, 4000, "damaged"),
    "another number of codebooks": ({"n_q": 1}, 4000, "bytes after its last code"),
    "more codebooks than the model has": ({"n_q": 17}, 4002, "17 codebooks"),
    "too long": ({"frames": 9}, 4000, "8 codebooks x 9 frames"),
}


async def test_bad_packets_close_only_their_sender(server: RunningServer) -> None:
    async with bystanders(server, "bad") as (witness, _):
        for changes, code, said in BAD.values():
            peer = await enter(server, "bad")
            await peer.send_codes(CODES[:8, :1])
            assert peer.encoder is not None
            await peer.socket.send(encode_codes_up(bad(peer.encoder.encode, **changes)))
            closed = await peer.closed()
            assert closed[0] == code, closed
            assert said in closed[1], closed
        unbegun = await enter(server, "bad")
        await unbegun.socket.send(encode_codes_up(CodedPacket(8, 1, 0, 0, b"1234567")))
        assert await unbegun.closed() == (4000, "an entropy-coded packet goes on with a stream that has not begun")
        liar = await enter(server, "bad", send="pcm")
        await liar.socket.send(encode_codes_up(CodedPacket(8, 1, 0, 0, b"1234567", True)))
        assert await liar.closed() == (4000, "codes came from a client that said it would send pcm")
        # Out of order, what still decodes is other codes, as any could come in plain packets, and
        # the call goes on.
        shuffled = await enter(server, "bad")
        assert shuffled.encoder is not None
        packets = [shuffled.encoder.encode(Packet(2, 1, i, HOP * i, pack(CODES[:2, i : i + 1]))) for i in range(6)]
        for packet in [packets[0], *packets[:1:-1]]:
            await shuffled.socket.send(encode_codes_up(packet))
        await shuffled.say(Mute(muted=True))

        def muted() -> bool:
            return any(said.peer.id == shuffled.id and said.peer.muted for said in witness.of(PeerChanged))

        await until(lambda: muted() or shuffled.socket.close_code is not None)
        if not muted():
            closed = await shuffled.closed()
            assert closed[0] == 4000, closed
            assert "damaged" in closed[1] or "bytes after its last code" in closed[1], closed
        await shuffled.socket.close()


async def test_pcm_speakers_reach_coded_listeners(server: RunningServer) -> None:
    speaker, listener = await join(server, "pcm", send="pcm", send_kbps=3.0), await enter(server, "pcm", send="none")
    pcm = noise(30, seed=4)
    async for index in real_time(30, FRAME_S):
        await speaker.send_pcm(pcm[HOP * index : HOP * (index + 1)], index, HOP * index)
    heard = listener.heard[speaker.id]
    await until(lambda: heard.frames == 30)
    np.testing.assert_array_equal(heard.codes(), server.model.encoder(3.0).push(pcm))
    assert listener.coded > 0
    await asyncio.gather(speaker.leave(), listener.leave())


@pytest.mark.timeout(300)
def test_earshot_call_with_and_without_it(tmp_path: Path) -> None:
    model, voices = tiny_model(), Path(__file__).parents[2] / "lab" / "voices"
    model_file, lm_file = tmp_path / "tiny.safetensors", tmp_path / "lm.safetensors"
    save_native(model.network, model_file)
    save_integer_lm(random_weights(), model.digest, lm_file)
    with EarshotServer(tmp_path, model_file, 0, "--lm-model", lm_file) as server:
        common = ("den", "--server", server.url, "--model", model_file, "--loop", "--kbps", "3", "--uplink", "codes")
        with (
            EarshotCall(
                *common, "--name", "ada", "--input", voices / "ada.flac", "--output", tmp_path / "ada.wav",
                "--entropy", "lm", "--lm-model", lm_file, report=tmp_path / "ada.json",
            ) as ada,
            EarshotCall(
                *common, "--name", "ben", "--input", voices / "ben.flac", "--output", tmp_path / "ben.wav",
                report=tmp_path / "ben.json",
            ) as ben,
        ):  # fmt: skip
            ada.wait_for(hears("ben"))
            ben.wait_for(hears("ada"))
            status = ada.wait_for(lambda status: status["entropy"]["heard_kbps"] and status["entropy"]["sent_kbps"])
            assert status["entropy"]["on"]
            assert 0 < status["entropy"]["cpu_share"] < 1
            reports = {"ada": ada.leave(), "ben": ben.leave()}
    coded = reports["ada"]["entropy"]
    assert coded["sent"]["plain_bytes"] > 0
    assert coded["sent"]["coded_bytes"] > 0
    assert coded["heard"]["plain_bytes"] > 0
    assert reports["ben"]["entropy"] is None
    for report in reports.values():
        assert (report["malformed_messages"], report["reconnects"]) == (0, 0)
        (speaker,) = report["speakers"].values()
        assert speaker["frames"] > 0
