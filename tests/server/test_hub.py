"""What a room passes on, to those who cannot decode and to those who do not read."""

from __future__ import annotations

import numpy as np
from websockets.asyncio.client import connect

from earshot.protocol.messages import (
    PROTOCOL,
    SUBPROTOCOL,
    Error,
    Hello,
    Mute,
    PeerChanged,
    PeerJoined,
    SetRate,
    Welcome,
    parse_server,
)
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


async def test_one_address_does_not_open_all_rooms() -> None:
    with running_server(tiny_model(), max_rooms=4, max_rooms_per_address=2) as server:
        first, second = await join(server, "one"), await join(server, "two")
        async with connect(server.room("three"), subprotocols=[SUBPROTOCOL], compression=None) as third:
            await third.send(Hello(protocol=PROTOCOL, model=server.model.digest, send="codes").model_dump_json())
            error = parse_server(await third.recv())
        assert isinstance(error, Error)
        assert error.code == 4008
        await first.leave()
        await until(lambda: "one" not in server.hub.rooms)
        again = await join(server, "four")
        for peer in (second, again):
            await peer.leave()
        await until(lambda: not server.hub.rooms)
        assert len(server.hub.room_owners) == 0


async def test_who_comes_and_goes_all_the_time_is_held_back_and_nobody_else() -> None:
    async def answer(host: str) -> object:
        """What the server says to one that comes from this address, and goes at once."""
        async with connect(
            server.room("door"), subprotocols=[SUBPROTOCOL], compression=None, local_addr=(host, 0)
        ) as peer:
            await peer.send(Hello(protocol=PROTOCOL, send="none", want="pcm").model_dump_json())
            return parse_server(await peer.recv())

    with running_server(tiny_model(), joins_per_second=0.001, join_burst=3) as server:
        honest = await join(server, "door")
        for _ in range(3):
            assert isinstance(await answer("127.0.0.2"), Welcome)
        refused = await answer("127.0.0.2")
        assert isinstance(refused, Error)
        assert (refused.code, "just now" in refused.message) == (4011, True)
        assert isinstance(await answer("127.0.0.3"), Welcome)
        await honest.stats()
        assert len(honest.of(PeerJoined)) == 4
        await honest.leave()


async def test_one_address_does_not_take_all_decoders_and_gives_them_back() -> None:
    with running_server(tiny_model(), decoders_per_worker=4, max_address_share=0.5) as server:
        speakers = [await join(server, "many", want="none") for _ in range(3)]
        listener = await join(server, "many", send="none", want="pcm", model=None)
        for speaker in speakers:
            await speaker.send_codes(np.ones((8, 1), int))
        code, message = await listener.closed()
        assert (code, "decode" in message) == (4013, True)
        await until(lambda: server.hub.pool.streams["decoder"] == 0)
        assert server.hub.decoders.total() == 0
        for speaker in speakers:
            await speaker.leave()


async def test_decoders_of_silent_speakers_close_and_open_again() -> None:
    with running_server(tiny_model(), decoder_idle_s=0.2) as server:
        speaker = await join(server, "quiet", want="none")
        listener = await join(server, "quiet", send="none", want="pcm", model=None)
        heard = listener.heard[speaker.id]
        for frames in (1, 2):
            await speaker.send_codes(np.ones((8, 1), int))
            await until(lambda frames=frames: heard.frames == frames)
            await until(lambda: server.hub.pool.streams["decoder"] == 0)
            assert server.hub.decoders.total() == 0
        for peer in (speaker, listener):
            await peer.leave()


async def test_many_changes_within_the_limits_cost_few_messages_and_close_nobody() -> None:
    limits = {"changes_per_second": 100.0, "changes_burst": 200, "control_burst": 100, "max_waiting_control": 20}
    with running_server(tiny_model(), **limits) as server:
        changing = [await join(server, "crowd") for _ in range(8)]
        honest = await join(server, "crowd")
        for number in range(60):
            for peer in changing:
                await peer.say(Mute(muted=number % 2 == 0))
        await changing[-1].say(Mute(muted=True))
        await until(lambda: any(m.peer.id == changing[-1].id and m.peer.muted for m in honest.of(PeerChanged)))
        await until(lambda: not len(server.hub.rooms["crowd"].changed))
        await honest.stats()
        newest = {told.peer.id: told.peer.muted for told in honest.of(PeerChanged)}
        assert newest == {peer.id: peer is changing[-1] for peer in changing}
        assert len(honest.of(PeerChanged)) < 8 * 60 / 2
        assert not honest.of(Error)
        for peer in (*changing, honest):
            await peer.leave()
