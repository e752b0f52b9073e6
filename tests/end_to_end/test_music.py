"""Music in a room of talkers: a 48 kHz stereo speaker beside a 24 kHz one, through a real server
that has no idea of the stereo model, and listeners that have it or not."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from earshot.codec.bitstream import Window, pack, unpack
from earshot.codec.model.model import Model
from earshot.codec.model.window_streams import WindowDecoder
from earshot.codec.pcm import Pcm
from earshot.protocol.messages import PeerJoined, WindowModel
from earshot.protocol.packet import Packet, Trace, encode_codes_up
from tests.peers import (
    FRAME_S,
    Heard,
    RunningServer,
    TestPeer,
    join,
    noise,
    real_time,
    until,
)
from tests.stereo import STRIDE, WINDOW, make_music, tiny_stereo

TALK_FRAMES = 225


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_stereo()


async def play(peer: TestPeer, model: Model, pcm: Pcm, kbps: float) -> None:
    """Sends [2, n] as a client would: a window as soon as its last sample is spoken."""
    encoder, number = model.encoder(kbps), 0

    async def send(windows: list[Window]) -> None:
        nonlocal number
        for window in windows:
            place = (peer.sequence % 65_536, number * STRIDE)
            assert window.scale is not None
            trace = Trace(number, 10_000, 10_200)
            packet = Packet(*window.codes.shape, *place, pack(window.codes), trace, scale=window.scale)
            peer.sequence += window.codes.shape[1]
            number += 1
            await peer.socket.send(encode_codes_up(packet))

    block = WINDOW // 10
    async for index in real_time(-(-pcm.shape[1] // block), 0.1):
        await send(encoder.push(pcm[:, index * block : (index + 1) * block]))
    await send(encoder.flush())


def windows_of(heard: Heard) -> list[Window]:
    packets = [packet for packet in heard.packets if isinstance(packet, Packet)]
    return [Window(unpack(p.payload, p.n_q, p.frames), p.scale) for p in packets]


async def test_a_listener_hears_the_talker_and_the_music(server: RunningServer, model: Model, speech: Pcm) -> None:
    """Each at its own rate, sample for sample what the models make of the codes; who lacks the
    model gets no window."""
    music = make_music(speech)[:, 100_000 : 100_000 + 2 * STRIDE + 20_000]
    talk = server.model.encoder(6.0).push(noise(TALK_FRAMES, seed=9))
    spoken = WindowModel.of(model.config, model.digest)
    listener = await join(server, "hall", send="none", also=[model.digest], max_kbps=12.0, trace=True)
    lacks = await join(server, "hall", send="none", max_kbps=12.0)
    pcm = await join(server, "hall", send="none", want="pcm", model=None)
    talker = await join(server, "hall", max_kbps=3.0, also=[model.digest])
    player = await join(server, "hall", send_model=spoken, send_kbps=24.0)
    assert player.welcome.windows
    others = listener, lacks, pcm, talker
    await until(lambda: all(any(told.peer.id == player.id for told in peer.of(PeerJoined)) for peer in others))
    for peer in others:
        assert peer.of(PeerJoined)[-1].peer.model == spoken  # all are told whose codes these are

    await asyncio.gather(talker.talk(talk), play(player, model, music, 24.0))
    count = len(model.encode_windows(music, 24.0))
    for peer in (listener, talker):
        await until(lambda who=peer: len(who.heard[player.id].packets) >= count)
    for peer in (listener, lacks, player):
        await until(lambda who=peer: who.heard[talker.id].frames >= TALK_FRAMES)
    await until(lambda: pcm.heard[talker.id].frames >= TALK_FRAMES)

    for peer, kbps in ((listener, 12.0), (talker, 3.0)):
        windows = windows_of(peer.heard[player.id])
        expected = model.encode_windows(music, kbps)
        for ours, theirs in zip(windows, expected, strict=True):
            np.testing.assert_array_equal(ours.codes, theirs.codes)
            assert ours.scale == theirs.scale
        decoder = model.decoder()
        assert isinstance(decoder, WindowDecoder)
        heard = np.concatenate([*(decoder.push([window]) for window in windows), decoder.flush()], axis=1)
        offline = model.decode_windows(expected)
        np.testing.assert_allclose(heard, offline, rtol=0, atol=1e-5)
        assert np.abs(heard - offline[::-1]).max() > 1e-3  # left is not right
    for peer in (listener, lacks, player):
        line = peer.heard[talker.id]
        assert line.missing == 0
        np.testing.assert_array_equal(line.codes(), talk)
    assert player.id not in lacks.heard
    assert player.id not in pcm.heard
    trace = listener.heard[player.id].packets[1].trace
    assert trace is not None
    assert (trace.capture_us, trace.framed, trace.encoded) == (1, 10_000, 10_200)
    assert (await player.stats()).frames_discarded == 0
    for peer in (listener, lacks, pcm, talker, player):
        assert (await peer.stats()).frames_dropped == 0
        await peer.leave()


async def test_windows_delay_nobodys_talk(server: RunningServer, model: Model) -> None:
    """A talker's frames go out at once, and not when the next window comes."""
    listener = await join(server, "prompt", send="none", also=[model.digest])
    talker = await join(server, "prompt")
    player = await join(server, "prompt", send_model=WindowModel.of(model.config, model.digest))
    window = model.encode_windows(np.zeros((2, WINDOW)), 6.0)[0]
    packet = Packet(*window.codes.shape, 0, 0, pack(window.codes), scale=window.scale)
    await player.socket.send(encode_codes_up(packet))
    await until(lambda: listener.heard[player.id].packets)
    async for index in real_time(30, FRAME_S):
        await talker.send_codes(np.full((8, 1), index))
    await until(lambda: listener.heard[talker.id].frames == 30)
    assert listener.binary_messages == 31
    for peer in (listener, talker, player):
        await peer.leave()


@pytest.mark.parametrize(
    ("hello", "packet", "code"),
    [
        ({}, Packet(2, 30, 0, 0, bytes(75)), 4000),
        ({}, Packet(2, 151, 0, 0, bytes(378), scale=1.0), 4002),
        ({"send_model": None}, Packet(2, 30, 0, 0, bytes(75), scale=1.0), 4000),
    ],
)
async def test_what_a_player_may_not_do(
    server: RunningServer, model: Model, hello: dict[str, object], packet: Packet, code: int
) -> None:
    fields = {"send_model": WindowModel.of(model.config, model.digest), **hello}
    peer = await join(server, "wrong", **fields)
    await peer.socket.send(encode_codes_up(packet))
    assert (await peer.closed())[0] == code
