"""What a room passes on, to those who cannot decode and to those who do not read."""

from __future__ import annotations

import numpy as np

from earshot.protocol.messages import Mute, PeerChanged, SetRate
from earshot.protocol.packet import MAX_FRAMES
from tests.peers import join, running_server, tiny_model, until


async def test_the_longest_packet_is_decoded_whole() -> None:
    with running_server(tiny_model()) as server:
        speaker = await join(server, "long", want="none")
        listener = await join(server, "long", send="none", want="pcm", model=None, max_kbps=1.5)
        codes = np.random.default_rng(5).integers(0, 1024, (2, MAX_FRAMES))
        await speaker.send_codes(codes)
        heard = listener.heard[speaker.id]
        await until(lambda: heard.frames >= MAX_FRAMES)
        expected = np.clip(server.model.decoder().push(codes), -1, 1)
        np.testing.assert_allclose(heard.pcm() / 32767, expected, atol=1e-4)
        assert [room["frames_not_decoded"] for room in server.get("/stats")["rooms"]] == [0]
        for peer in (speaker, listener):
            await peer.leave()


async def test_a_listener_that_nobody_can_decode_for_is_told_and_the_others_hear_on() -> None:
    with running_server(tiny_model(), decoders_per_worker=1) as server:
        speakers = [await join(server, "full", want="none") for _ in range(2)]
        listener = await join(server, "full", send="none", want="pcm", model=None)
        able = await join(server, "full", send="none")
        for speaker in speakers:
            await speaker.send_codes(np.ones((8, 3), int))
        code, message = await listener.closed()
        assert code == 4013
        assert "decode" in message
        await until(lambda: all(able.heard[speaker.id].frames == 3 for speaker in speakers))
        for peer in (*speakers, able):
            await peer.leave()


async def test_a_peer_that_changes_to_and_fro_does_not_fill_the_outboxes_of_others() -> None:
    with running_server(tiny_model(), max_waiting_control=5) as server:
        toggling, other = await join(server, "toggle"), await join(server, "toggle")

        def change() -> None:
            """On the server's loop, where nothing can be sent in between."""
            live = server.hub.rooms["toggle"]
            peer = live.room.peers[toggling.id]
            for number in range(20):
                live.broadcast(live.room.mute(peer, Mute(muted=number % 2 == 0)), but=peer.id)
            live.broadcast(live.room.set_rate(peer, SetRate(max_kbps=3.0)), but=peer.id)

        server.call_soon(change)
        await until(lambda: other.of(PeerChanged))
        await other.stats()
        assert [(told.peer.muted, told.peer.max_kbps) for told in other.of(PeerChanged)] == [(False, 3.0)]
        for peer in (toggling, other):
            await peer.leave()
