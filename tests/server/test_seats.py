"""Clients whose connection breaks and who come back, against a real server."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from earshot.protocol.close_codes import CloseCode
from earshot.protocol.messages import Moderate, PeerChanged, PeerJoined, PeerLeft
from earshot.protocol.silence import Silence, encode_silence_up
from tests.peers import PATIENCE_S, RunningServer, TestPeer, join, running_server, tiny_model, until

ASKS = {"resume": "", "short_headers": True, "silence": True}


async def breaks(server: RunningServer, peer: TestPeer, away: int = 1) -> None:
    """Lets the connection of a peer break without a close."""
    peer.socket.transport.abort()
    await until(lambda: server.get("/stats")["seats"]["away"] == away)


async def ended(server: RunningServer, *peers: TestPeer) -> None:
    for peer in peers:
        await peer.leave()
    await until(lambda: not server.hub.rooms)


async def test_a_client_comes_back_to_its_seat_and_hears_what_it_missed() -> None:
    with running_server(tiny_model()) as server:
        first, other = await join(server, "den", name="ada", **ASKS), await join(server, "den", **ASKS)
        for number in range(3):
            await first.send_codes(np.full((8, 1), number))
        await until(lambda: other.heard[first.id].frames == 3)
        assert (first.welcome.resumed, first.welcome.next_sequence) == (False, None)
        assert first.welcome.resume_within_s == server.settings.resume_s
        await breaks(server, first)
        for number in range(5):
            await other.send_codes(np.full((8, 1), 100 + number))
        await asyncio.sleep(0.1)
        again = await join(server, "den", name="eve", **ASKS | {"resume": first.welcome.resume})
        assert (again.id, again.welcome.resumed, again.welcome.next_sequence) == (first.id, True, 3)
        assert again.welcome.resume == first.welcome.resume  # one that is lost with a connection may be used again
        await until(lambda: again.heard[other.id].frames == 5)
        np.testing.assert_array_equal(again.heard[other.id].codes(), np.arange(100, 105) * np.ones((2, 1)))
        again.sequence = 3
        await again.send_codes(np.full((8, 1), 3))
        await until(lambda: other.heard[first.id].frames == 4)
        assert other.heard[first.id].missing == 0
        assert other.of(PeerLeft) == []
        assert other.of(PeerJoined) == []
        assert [peer.name for peer in (await join_and_leave(server, "den")).welcome.peers if peer.id == first.id] == [
            "ada"
        ]
        assert server.get("/stats")["seats"] == {"away": 0, "resumed": 1, "expired": 0}
        await ended(server, again, other)


async def join_and_leave(server: RunningServer, room: str) -> TestPeer:
    peer = await join(server, room)
    await peer.leave()
    return peer


async def test_a_seat_is_given_up_after_a_while() -> None:
    with running_server(tiny_model(), resume_s=0.2) as server:
        first, other = await join(server, "den", **ASKS), await join(server, "den")
        await breaks(server, first)
        await until(lambda: [left.id for left in other.of(PeerLeft)] == [first.id])
        assert other.of(PeerLeft)[0].reason == "connection lost for 0.2 s"
        again = await join(server, "den", **ASKS | {"resume": first.welcome.resume})
        assert not again.welcome.resumed
        assert again.id not in (first.id, other.id)
        assert again.welcome.resume not in (None, first.welcome.resume)
        await ended(server, again, other)


@pytest.mark.parametrize("setting", [{"resume_s": 0.0}, {}], ids=["kept by no server", "not asked for"])
async def test_seats_that_are_not_kept(setting: dict[str, float]) -> None:
    with running_server(tiny_model(), **setting) as server:
        asks = {"resume": ""} if setting else {}
        first, other = await join(server, "den", **asks), await join(server, "den")
        assert first.welcome.resume is None
        first.socket.transport.abort()
        await until(lambda: [left.id for left in other.of(PeerLeft)] == [first.id])
        await ended(server, other)


async def test_who_says_goodbye_has_left() -> None:
    with running_server(tiny_model()) as server:
        first, other = await join(server, "den", **ASKS), await join(server, "den")
        await first.leave()
        await until(lambda: other.of(PeerLeft) != [])
        again = await join(server, "den", **ASKS | {"resume": first.welcome.resume})
        assert not again.welcome.resumed
        await ended(server, again, other)


@pytest.mark.parametrize(
    ("room", "hello"),
    [
        ("den", {"resume": "x" * 32}),
        ("kitchen", {}),
        ("den", {"send": "pcm"}),
        ("den", {"want": "none"}),
    ],
    ids=["guessed", "another room", "sends another kind", "hears nothing"],
)
async def test_a_seat_is_for_its_own_client(room: str, hello: dict[str, str]) -> None:
    with running_server(tiny_model()) as server:
        first, other = await join(server, "den", **ASKS), await join(server, "den")
        await breaks(server, first)
        asks = ASKS | {"resume": first.welcome.resume} | hello
        stranger = await join(server, room, **asks)
        assert not stranger.welcome.resumed
        assert room != "den" or stranger.id != first.id
        again = await join(server, "den", **ASKS | {"resume": first.welcome.resume})
        assert (again.id, again.welcome.resumed) == (first.id, True)
        await ended(server, stranger, again, other)


async def test_a_client_comes_back_before_the_server_has_noticed() -> None:
    """As when a telephone goes over from Wi-Fi to the mobile network."""
    with running_server(tiny_model()) as server:
        first, other = await join(server, "den", **ASKS), await join(server, "den")
        await first.send_codes(np.zeros((8, 1), int))
        await until(lambda: other.heard[first.id].frames == 1)
        again = await join(server, "den", **ASKS | {"resume": first.welcome.resume})
        assert (again.id, again.welcome.resumed) == (first.id, True)
        assert await first.closed() == (CloseCode.CAME_BACK, "you came back by another connection")
        again.sequence = 1
        await again.send_codes(np.ones((8, 1), int))
        await other.send_codes(np.ones((8, 1), int))
        await until(lambda: (other.heard[first.id].frames, again.heard[other.id].frames) == (2, 1))
        assert other.of(PeerLeft) == []
        await ended(server, again, other)


async def test_clients_that_hear_pcm_and_send_it_come_back() -> None:
    with running_server(tiny_model()) as server:
        asks = {"send": "pcm", "want": "pcm", "model": None, "resume": ""}
        first, other = await join(server, "den", **asks), await join(server, "den")
        pcm = np.zeros(320, np.float32)
        await first.send_pcm(pcm, 0, 0)
        await until(lambda: other.heard[first.id].frames == 1)
        await breaks(server, first)
        await other.send_codes(np.zeros((8, 2), int))  # nobody decodes this
        again = await join(server, "den", **asks | {"resume": first.welcome.resume, "max_kbps": 3.0})
        assert again.welcome.resumed
        await until(lambda: [told.peer.max_kbps for told in other.of(PeerChanged)] == [3.0])
        await again.send_pcm(pcm, 1, 320)
        await other.send_codes(np.zeros((8, 2), int))
        await until(lambda: (other.heard[first.id].frames, again.heard[other.id].frames) == (2, 2))
        assert [room["frames_not_decoded"] for room in server.get("/stats")["rooms"]] == [0]
        await ended(server, again, other)


async def test_what_happens_to_a_peer_that_is_away() -> None:
    with running_server(tiny_model()) as server:
        first, other = await join(server, "den", **ASKS), await join(server, "den", **ASKS)
        await breaks(server, first)

        def moderate() -> None:
            live = server.hub.rooms["den"]
            live.moderate(Moderate(action="mute", peer=first.id), None, "")
            live.note_slow(server.hub.audit)

        server.call_soon(moderate)
        await until(lambda: [told.peer.muted for told in other.of(PeerChanged)] == [True])
        await other.socket.send(encode_silence_up(Silence(0, 0, bytes(6))))
        server.call_soon(lambda: server.hub.rooms["den"].moderate(Moderate(action="remove", peer=first.id), None, ""))
        await until(lambda: [left.reason for left in other.of(PeerLeft)] == ["removed from this room by a moderator"])
        again = await join(server, "den", **ASKS | {"resume": first.welcome.resume})
        assert not again.welcome.resumed
        await ended(server, again, other)


async def test_seats_are_bounded_and_end_with_the_server() -> None:
    with running_server(tiny_model(), max_connections_per_address=3) as server:
        peers = [await join(server, "den", **ASKS) for _ in range(3)]
        for away, peer in enumerate(peers, 1):
            await breaks(server, peer, away)
        more = await join(server, "den", **ASKS)
        more.socket.transport.abort()
        await until(lambda: len(server.hub.rooms["den"].room.peers) == 3)
        assert server.get("/stats")["seats"]["away"] == 3
    assert not server.hub.rooms
    assert len(server.hub.seats) == 0


async def test_a_crowd_that_comes_and_goes_leaves_nothing() -> None:
    with running_server(tiny_model(), resume_s=0.05) as server:
        for _ in range(20):
            peer = await join(server, "den", **ASKS)
            again = await join(server, "den", **ASKS | {"resume": peer.welcome.resume})
            await asyncio.wait_for(peer.closed(), PATIENCE_S)
            again.socket.transport.abort()
            await until(lambda: not server.hub.rooms)
        seats = server.hub.seats
        assert not (seats._places)
        assert not (seats._secrets)
        assert not (seats._away)
        assert not (len(seats._addresses))
