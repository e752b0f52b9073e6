"""Rooms as their users meet them: real server, real WebSockets, exact codes."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from earshot.protocol.messages import Mute, PeerChanged, PeerJoined, PeerLeft, Ping, Pong, SetRate
from earshot.protocol.packet import Packet, PcmBlock, Trace
from tests.peers import (
    FRAME_S,
    HOP,
    Heard,
    RunningServer,
    TestPeer,
    join,
    noise,
    real_time,
    until,
)

FRAMES = 60
RATES = (1.5, 3.0, 6.0, 12.0)


async def speak_pcm(peer: TestPeer, pcm: np.ndarray, block: int) -> None:
    """Sends PCM in blocks that are no frames, in real time."""
    async for number in real_time(-(-len(pcm) // block), block / 24_000):
        at = number * block
        await peer.send_pcm(pcm[at : at + block], number, at)


async def test_two_rooms_of_four_decode_exactly_what_was_said_at_each_ones_rate(server: RunningServer) -> None:
    """Item 5 of "Done when" of the first issue."""
    rooms = {
        name: [
            await join(server, name, send=("pcm", "codes")[i % 2], send_kbps=12.0, max_kbps=kbps)
            for i, kbps in enumerate(RATES)
        ]
        for name in ("blue", "red")
    }
    spoken = {(name, i): noise(FRAMES, seed=10 * room + i) for room, name in enumerate(rooms) for i in range(4)}
    codes = {key: server.model.encoder(12.0).push(pcm) for key, pcm in spoken.items()}
    await asyncio.gather(
        *(
            speak_pcm(peer, spoken[name, i], 500) if i % 2 == 0 else peer.talk(codes[name, i])
            for name, peers in rooms.items()
            for i, peer in enumerate(peers)
        )
    )
    for name, peers in rooms.items():
        for i, listener in enumerate(peers):
            speakers = [(j, peer) for j, peer in enumerate(peers) if j != i]
            await until(lambda who=listener, all_=speakers: all(who.heard[p.id].frames >= FRAMES for _, p in all_))
            assert set(listener.heard) == {peer.id for _, peer in speakers}
            n_q = server.model.config.n_q(RATES[i])
            for j, speaker in speakers:
                heard = listener.heard[speaker.id]
                expected = codes[name, j][:n_q]
                np.testing.assert_array_equal(heard.codes(), expected)
                decoded = server.model.decoder().push(heard.codes())
                np.testing.assert_array_equal(decoded, server.model.decoder().push(expected))
    for peers in rooms.values():
        for peer in peers:
            assert (await peer.stats()).frames_dropped == 0
            await peer.leave()


async def test_pcm_listeners_hear_what_a_decoder_at_their_rate_makes(server: RunningServer) -> None:
    speaker = await join(server, "pcm", want="none", send_kbps=12.0)
    listeners = [await join(server, "pcm", send="none", want="pcm", model=None, max_kbps=kbps) for kbps in (1.5, 6.0)]
    codes = server.model.encoder(12.0).push(noise(40, seed=1))
    await speaker.talk(codes)
    for listener, n_q in zip(listeners, (2, 8), strict=True):
        heard = listener.heard[speaker.id]
        await until(lambda heard=heard: heard.frames >= 40)
        assert heard.missing == 0
        expected = server.model.decoder().push(codes[:n_q])
        np.testing.assert_allclose(heard.pcm() / 32767, np.clip(expected, -1, 1), atol=1e-4)
    assert not speaker.heard
    assert server.get("/stats")["workers"]["free_decoders"] == server.settings.decoders_per_worker - 2
    for peer in (*listeners, speaker):
        await peer.leave()
    await until(lambda: server.get("/stats")["workers"]["free_decoders"] == server.settings.decoders_per_worker)


async def test_peers_are_told_who_comes_changes_and_goes(server: RunningServer) -> None:
    anna = await join(server, "told", name="Anna")
    ben = await join(server, "told", name="Ben", send_kbps=3.0)
    assert [peer.name for peer in ben.welcome.peers] == ["Anna"]
    await ben.say(Mute(muted=True))
    await ben.say(SetRate(send_kbps=6.0, max_kbps=1.5))
    await until(lambda: any(told.peer.muted and told.peer.max_kbps == 1.5 for told in anna.of(PeerChanged)))
    assert [peer.peer.name for peer in anna.of(PeerJoined)] == ["Ben"]
    changed = anna.of(PeerChanged)[-1].peer
    assert (changed.muted, changed.send_kbps, changed.max_kbps) == (True, 6.0, 1.5)
    await ben.leave()
    await until(lambda: anna.of(PeerLeft))
    assert anna.of(PeerLeft)[0].id == ben.id
    await anna.leave()
    await until(lambda: "told" not in server.hub.rooms)


async def test_a_rate_changes_between_frames_for_pcm_speakers_and_for_listeners(server: RunningServer) -> None:
    speaker = await join(server, "rate", send="pcm", send_kbps=12.0)
    listener = await join(server, "rate", max_kbps=12.0)
    pcm = noise(30, seed=2)
    n_q = []
    for part, (send_kbps, max_kbps, expected) in enumerate([(12.0, 12.0, 16), (3.0, 12.0, 4), (12.0, 6.0, 8)]):
        await speaker.say(SetRate(send_kbps=send_kbps))
        await listener.say(SetRate(max_kbps=max_kbps))
        await until(
            lambda rate=max_kbps: any(
                peer["max_kbps"] == rate for room in server.get("/stats")["rooms"] for peer in room["peers"]
            )
        )
        for index in range(part * 10, part * 10 + 10):
            await speaker.send_pcm(pcm[index * HOP : (index + 1) * HOP], index, index * HOP)
        await until(lambda count=part * 10 + 10: listener.heard[speaker.id].frames >= count)
        n_q += [expected] * 10
    packets = listener.heard[speaker.id].packets
    assert [p.n_q for p in packets if isinstance(p, Packet) for _ in range(p.frames)] == n_q
    await speaker.leave()
    await listener.leave()


async def test_a_muted_speaker_is_silent_and_counted(server: RunningServer) -> None:
    speaker, listener = await join(server, "mute"), await join(server, "mute")
    codes = np.ones((8, 5), int)
    await speaker.say(Mute(muted=True))
    await speaker.send_codes(codes)
    await speaker.say(Mute(muted=False))
    await speaker.send_codes(codes + 1)
    await until(lambda: listener.heard[speaker.id].frames >= 5)
    np.testing.assert_array_equal(listener.heard[speaker.id].codes(), codes + 1)
    stats = await speaker.stats()
    assert (stats.frames_received, stats.frames_discarded) == (10, 5)
    await speaker.leave()
    await listener.leave()


@pytest.mark.parametrize("uplink", ["pcm", "codes"])
async def test_traces_are_filled_in_order_for_those_who_ask(server: RunningServer, uplink: str) -> None:
    speaker = await join(server, "trace", send=uplink)
    asks, does_not = await join(server, "trace", trace=True), await join(server, "trace")
    await speaker.say(Ping(sent_us=7))
    await until(lambda: speaker.of(Pong))
    pong = speaker.of(Pong)[0]
    assert pong.ping_us == 7
    assert pong.received_us <= pong.sent_us
    if uplink == "pcm":
        trace = Trace(pong.sent_us % (1 << 32), framed=200)
        await speaker.send_pcm(noise(2, 3)[: HOP + 80], 0, 0, trace)
        await until(lambda: asks.heard[speaker.id].frames == 1)
        later = Trace((pong.sent_us + 20_000) % (1 << 32), framed=134)
        await speaker.send_pcm(noise(2, 3)[: HOP - 80], 1, HOP + 80, later)
    else:
        await speaker.send_codes(np.ones((8, 1), int), Trace(pong.sent_us % (1 << 32), framed=134, encoded=140))
    await until(lambda: asks.heard[speaker.id].packets and does_not.heard[speaker.id].packets)
    got = asks.heard[speaker.id].packets[0].trace
    assert got is not None
    assert does_not.heard[speaker.id].packets[0].trace is None
    assert got.capture_us == pong.sent_us % (1 << 32)
    if uplink == "pcm":
        assert got.framed == 200
        assert 0 < got.received <= got.encoded <= got.relayed
        await until(lambda: asks.heard[speaker.id].frames == 2)
        second = asks.heard[speaker.id].packets[1].trace
        assert second is not None
        assert second.capture_us == (pong.sent_us + HOP * 1_000_000 // 24_000) % (1 << 32)
        # Its last sample came with the second message, whose own last sample was there 33.4 ms
        # after the start.
        assert second.framed == (20_000 + 13_400 - 13_333) // 100
    else:
        assert (got.framed, got.encoded) == (134, 140)
        assert 0 < got.received <= got.relayed
    for peer in (speaker, asks, does_not):
        await peer.leave()


async def test_a_crowd_costs_its_listeners_one_message_a_frame(server: RunningServer) -> None:
    speakers = [await join(server, "crowd", want="none") for _ in range(5)]
    listener = await join(server, "crowd", send="none")
    await asyncio.gather(*(speaker.talk(np.full((8, 75), i)) for i, speaker in enumerate(speakers)))
    await until(lambda: all(listener.heard[speaker.id].frames == 75 for speaker in speakers))
    assert all(listener.heard[speaker.id].missing == 0 for speaker in speakers)
    assert listener.binary_messages < 5 * 75 * 3 / 4
    for peer in (*speakers, listener):
        await peer.leave()


async def test_health_and_stats_tell_what_happens(server: RunningServer) -> None:
    assert server.get("/healthz") == {"status": "ok"}
    peer = await join(server, "seen", name="nobody's business")
    stats = server.get("/stats")
    assert stats["model"] == {"name": "tiny", "digest": server.model.digest}
    assert [p["id"] for p in stats["rooms"][-1]["peers"]] == [peer.id]
    assert "nobody" not in str(stats)
    assert "seen" not in str(stats)
    await peer.leave()


def test_heard_counts_missing_frames() -> None:
    """The measure that the other tests stand on can fail."""
    blocks = [PcmBlock(1, n % 65536, n * HOP, bytes(2 * HOP)) for n in (65534, 65535, 65537)]
    assert Heard(blocks).missing == 1
    assert FRAME_S * 75 == 1
