"""Two nodes that serve the same rooms over a real NATS server."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest
from pydantic import SecretStr

from earshot.protocol.close_codes import CloseCode
from earshot.protocol.messages import (
    Draining,
    Moderate,
    Moderated,
    Mute,
    PeerChanged,
    PeerJoined,
    PeerLeft,
    Ping,
    Pong,
    SetRate,
)
from earshot.protocol.packet import Trace
from earshot.server.core.bus_messages import Beat
from earshot.server.routes.rooms import _described
from tests.nats_server import NatsServer, nats_server
from tests.peers import FRAME_S, HOP, RunningServer, TestPeer, join, noise, real_time, running_server, tiny_model, until
from tests.server.access.test_paths import SECRET, token

__all__ = ["nats_server"]
FRAMES = 60
RATES = (1.5, 3.0, 6.0, 12.0)
Nodes = tuple[RunningServer, RunningServer]


def together(*nodes: RunningServer) -> bool:
    """Whether each node knows all the others."""
    return all(len(node.hub.nodes.presence.nodes) == len(nodes) - 1 for node in nodes)


@pytest.fixture(scope="module")
def nodes(nats_server: NatsServer) -> Iterator[Nodes]:
    model = tiny_model()
    with ExitStack() as stack:
        a, b = (
            stack.enter_context(
                running_server(
                    model, bus=SecretStr(nats_server.url), node=name, public_url=f"ws://{name}.test", bus_timeout_s=1.5
                )
            )
            for name in ("a", "b")
        )
        asyncio.run(until(lambda: together(a, b)))
        yield a, b


async def speak_pcm(peer: TestPeer, pcm: np.ndarray, block: int) -> None:
    async for number in real_time(-(-len(pcm) // block), block / 24_000):
        at = number * block
        await peer.send_pcm(pcm[at : at + block], number, at)


def named(peer: TestPeer) -> dict[str, int]:
    """The ids of everyone whom this peer was told of, by name."""
    infos = [*peer.welcome.peers, *(told.peer for told in peer.of(PeerJoined))]
    return {info.name: info.id for info in infos}


async def test_two_rooms_of_four_over_both_nodes_decode_exactly_what_was_said(nodes: Nodes) -> None:
    rooms = {
        name: [
            await join(nodes[i % 2], name, name=f"p{i}", send=("pcm", "codes")[i // 2], send_kbps=12.0, max_kbps=kbps)
            for i, kbps in enumerate(RATES)
        ]
        for name in ("blue", "red")
    }
    model = nodes[0].model
    spoken = {(name, i): noise(FRAMES, seed=10 * room + i) for room, name in enumerate(rooms) for i in range(4)}
    codes = {key: model.encoder(12.0).push(pcm) for key, pcm in spoken.items()}
    for peers in rooms.values():
        await until(lambda peers=peers: all(len(named(peer)) == 3 for peer in peers))
    await asyncio.gather(
        *(
            speak_pcm(peer, spoken[name, i], 500) if i < 2 else peer.talk(codes[name, i])
            for name, peers in rooms.items()
            for i, peer in enumerate(peers)
        )
    )
    for name, peers in rooms.items():
        for i, listener in enumerate(peers):
            ids = named(listener)
            await until(lambda who=listener, ids=ids: all(who.heard[id_].frames >= FRAMES for id_ in ids.values()))
            assert set(listener.heard) == set(ids.values())
            n_q = model.config.n_q(RATES[i])
            for j in set(range(4)) - {i}:
                heard, expected = listener.heard[ids[f"p{j}"]], codes[name, j][:n_q]
                np.testing.assert_array_equal(heard.codes(), expected)
                np.testing.assert_array_equal(model.decoder().push(heard.codes()), model.decoder().push(expected))
    for peers in rooms.values():
        for peer in peers:
            assert (await peer.stats()).frames_dropped == 0
            await peer.leave()
    for node in nodes:
        await until(lambda node=node: not node.hub.rooms and not node.hub.nodes.stats()["shared_rooms"])
        assert node.hub.nodes.counts["bad"] == 0


async def test_pcm_listeners_hear_speakers_of_another_node(nodes: Nodes) -> None:
    speaker = await join(nodes[0], "pcm", name="s", want="none", send_kbps=12.0)
    listener = await join(nodes[1], "pcm", send="none", want="pcm", model=None, max_kbps=6.0)
    await until(lambda: len(speaker.of(PeerJoined)) == 1)
    codes = nodes[0].model.encoder(12.0).push(noise(40, seed=1))
    await speaker.talk(codes)
    heard = listener.heard[named(listener)["s"]]
    await until(lambda: heard.frames >= 40)
    expected = nodes[0].model.decoder().push(codes[:8])
    np.testing.assert_allclose(heard.pcm() / 32767, np.clip(expected, -1, 1), atol=1e-4)
    await speaker.leave()
    await until(lambda: listener.of(PeerLeft))
    await listener.leave()


async def test_people_of_both_nodes_see_who_comes_changes_and_goes(nodes: Nodes) -> None:
    anna = await join(nodes[0], "told", name="Anna")
    ben = await join(nodes[1], "told", name="Ben", send_kbps=3.0)
    assert [peer.name for peer in ben.welcome.peers] == ["Anna"]
    assert ben.welcome.servers == ["ws://a.test"]
    other = await join(nodes[1], "told", name="anna")
    assert named(other).keys() == {"Anna", "Ben"}
    await until(lambda: len(anna.of(PeerJoined)) == 2)
    assert named(anna).keys() == {"Ben", "anna (2)"}
    await ben.say(Mute(muted=True))
    await ben.say(SetRate(send_kbps=6.0, max_kbps=1.5))
    await until(lambda: any(told.peer.muted and told.peer.max_kbps == 1.5 for told in anna.of(PeerChanged)))
    assert anna.of(PeerChanged)[-1].peer.id == named(anna)["Ben"]
    await ben.leave()
    await until(lambda: anna.of(PeerLeft))
    assert anna.of(PeerLeft)[0].id == named(anna)["Ben"]
    for peer in (anna, other):
        await peer.leave()


async def measure_bus(nodes: Nodes, room: str, frames: int) -> list[float]:
    """Returns what the bus adds to each frame, in milliseconds: a listener of the speaker's own
    node and one of the other compare when their nodes passed it on."""
    speaker = await join(nodes[0], room, name="s", want="none")
    near, far = [await join(node, room, send="none", trace=True) for node in nodes]
    await until(lambda: len(speaker.of(PeerJoined)) == 2)
    await speaker.say(Ping(sent_us=0))
    await until(lambda: speaker.of(Pong))
    capture_us = speaker.of(Pong)[0].sent_us
    codes = np.random.default_rng(0).integers(0, 1024, (8, frames))
    async for index in real_time(frames, FRAME_S):
        at_us = int(capture_us + index * FRAME_S * 1e6) % (1 << 32)
        await speaker.send_codes(codes[:, index : index + 1], Trace(at_us))
    ids = [named(peer)["s"] for peer in (near, far)]
    heard = [peer.heard[id_] for peer, id_ in zip((near, far), ids, strict=True)]
    await until(lambda: all(each.frames == frames for each in heard))
    for peer in (speaker, near, far):
        await peer.leave()

    def passed_on_us(packet: object) -> int:
        trace = packet.trace  # type: ignore[attr-defined]
        return trace.capture_us + 100 * trace.relayed

    pairs = zip(*(each.packets for each in heard), strict=True)
    return [(passed_on_us(later) - passed_on_us(first)) / 1000 for first, later in pairs]


async def test_the_time_that_the_bus_adds_is_seen_in_traces(nodes: Nodes) -> None:
    """How much it is on a quiet machine is measured by hand; here the clocks must agree."""
    added = await measure_bus(nodes, "time", 75)
    assert -2.0 < statistics.median(added) < 50.0


async def test_a_lock_and_a_moderator_reach_over_nodes(nodes: Nodes) -> None:
    from earshot.server.core.grants import Grants

    anna, ben = await join(nodes[0], "strict", name="Anna"), await join(nodes[1], "strict", name="Ben")
    await until(lambda: len(anna.of(PeerJoined)) == 1)
    there = named(anna)["Ben"]
    hub = nodes[0].hub
    moderator = Grants(room="*", name="Mo", moderate=True, id="mo")

    def moderate(action: str, peer: int | None = None) -> None:
        nodes[0].call_soon(lambda: hub.moderate(hub.rooms["strict"], Moderate(action=action, peer=peer), moderator))

    (described,) = [_described(live, moderator) for live in hub.rooms.values() if live.room.name == "strict"]
    assert described["peers"] == 2
    assert {each["name"]: each["id"] for each in described["who"]} == {"Anna": anna.id, "Ben": there}
    moderate("mute", there)
    await until(lambda: any(told.peer.muted and told.peer.id == there for told in anna.of(PeerChanged)))
    await until(lambda: any(told.action == "mute" and told.peer == ben.id for told in ben.of(Moderated)))
    moderate("lock")
    await until(lambda: any(told.action == "lock" for told in ben.of(Moderated)))
    with pytest.raises(AssertionError, match="is locked"):
        await join(nodes[1], "strict")
    moderate("remove", there)
    assert (await ben.closed())[0] == CloseCode.REMOVED
    await until(lambda: anna.of(PeerLeft))
    with pytest.raises(AssertionError, match="is locked"):  # the other node asks who has the room
        await join(nodes[1], "strict")
    await anna.leave()


async def test_bad_messages_on_the_bus_hurt_nobody(nodes: Nodes, nats_server: NatsServer) -> None:
    import nats

    from earshot.server.core.bus_messages import media_message

    near, far = await join(nodes[0], "calm", name="n"), await join(nodes[1], "calm", name="f")
    await until(lambda: len(near.of(PeerJoined)) == 1)
    before = nodes[1].hub.nodes.counts["bad"]
    stranger = await nats.connect(nats_server.url)
    random = np.random.default_rng(5)
    boot = nodes[0].hub.nodes._boot
    bad = [random.bytes(size) for size in (0, 1, 40, 5000)]
    bad += [b"{}", b'{"node":"a","boot":1,"body":{"type":"beat"}}', b"[" * 100_000]
    bad += [media_message("a", boot, [random.bytes(40)]), b"\x01" + bytes(200), media_message("a", boot, [b"\0"])]
    for data in bad:
        await stranger.publish("earshot.all", data)
        await stranger.publish("earshot.to.b", data)
    await stranger.flush()
    await until(lambda: nodes[1].hub.nodes.counts["bad"] >= before + 2 * len(bad) - 4)
    codes = np.random.default_rng(1).integers(0, 1024, (8, 20))
    await near.talk(codes)
    heard = far.heard[named(far)["n"]]
    await until(lambda: heard.frames >= 20)
    np.testing.assert_array_equal(heard.codes(), codes)
    await stranger.close()
    for peer in (near, far):
        await peer.leave()


async def test_without_the_bus_rooms_go_on_and_are_one_again_when_it_is_back() -> None:
    model, random = tiny_model(), np.random.default_rng(2)
    said = [random.integers(0, 1024, (8, 1)) for _ in range(2000)]
    with ExitStack() as stack:
        bus = stack.enter_context(NatsServer())
        a, b = (stack.enter_context(running_server(model, bus=SecretStr(bus.url), node=name)) for name in ("a", "b"))
        await until(lambda: together(a, b))
        assert a.get("/readyz") == {"status": "ready"}
        speaker, near, far = await join(a, "r", name="s"), await join(a, "r"), await join(b, "r")
        await until(lambda: len(speaker.of(PeerJoined)) == 2)
        stop = asyncio.Event()

        async def talk() -> None:
            async for index in real_time(len(said), FRAME_S):
                if stop.is_set():
                    return
                await speaker.send_codes(said[index])

        talking = asyncio.create_task(talk())
        await until(lambda: far.heard[named(far)["s"]].frames > 20)
        before = named(far)["s"]
        bus.kill()
        await until(lambda: a.hub.not_ready() and far.of(PeerLeft) and near.of(PeerLeft))
        assert "the bus is gone" in a.hub.not_ready()[0]
        alone = await join(b, "r")  # who comes now is with those of the own node
        assert len(alone.welcome.peers) == 1
        bus.start()
        await until(lambda: together(a, b) and not a.hub.not_ready())
        for listener in (far, alone):
            await until(lambda who=listener: named(who).get("s", before) != before)
            line = listener.heard[named(listener)["s"]]
            await until(lambda line=line: line.frames > 20)
        stop.set()
        await talking
        heard = near.heard[speaker.id]
        await until(lambda: heard.frames == speaker.sequence)
        assert heard.missing == 0
        np.testing.assert_array_equal(heard.codes(), np.concatenate(said[: speaker.sequence], axis=1))
        for peer in (speaker, near, far, alone):
            await peer.leave()


async def test_those_on_a_drained_node_hear_of_one_that_comes_later(nats_server: NatsServer) -> None:
    model = tiny_model()
    with ExitStack() as stack:
        a = stack.enter_context(running_server(model, bus=SecretStr(nats_server.url), node="drained"))
        stays = await join(a, "r")
        a.call_soon(lambda: a.hub.begin_drain(60.0))
        await until(lambda: stays.of(Draining))
        stack.enter_context(
            running_server(model, bus=SecretStr(nats_server.url), node="later", public_url="ws://later.test")
        )
        await until(lambda: any("ws://later.test" in told.servers for told in stays.of(Draining)))
        strange = Beat(digest="0" * 16, clock_us=0, takes_calls=True, address="ws://strange.test")
        for _ in range(10):  # a node of another model is no place to go to
            a.call_soon(lambda: a.hub.nodes._take_beat("strange", 1, strange))
        await stays.say(Ping(sent_us=0))
        await until(lambda: stays.of(Pong))
        told = [tuple(draining.servers) for draining in stays.of(Draining)]  # nodes of other tests may beat, too
        assert "ws://strange.test" not in {server for servers in told for server in servers}
        assert len(set(told)) == len(told)  # only who is new is news
        await stays.leave()


async def test_strangers_cause_no_traffic_on_the_bus(nats_server: NatsServer) -> None:
    with ExitStack() as stack:
        settings = {"bus": SecretStr(nats_server.url), "token_key": SECRET}
        e, f = (stack.enter_context(running_server(tiny_model(), node=name, **settings)) for name in ("e", "f"))
        await until(lambda: e.hub.nodes.presence.nodes.keys() >= {"f"} and f.hub.nodes.presence.nodes.keys() >= {"e"})
        with pytest.raises(AssertionError, match="invited"):
            await join(e, "den")
        assert e.hub.nodes.counts["asked"] == 0
        peer = await join(e, "den", token=token(room="den"))
        assert e.hub.nodes.counts["asked"] == 1
        await peer.leave()


async def test_a_room_fills_over_all_nodes(nats_server: NatsServer) -> None:
    model = tiny_model()
    with ExitStack() as stack:
        c, d = (
            stack.enter_context(running_server(model, bus=SecretStr(nats_server.url), node=name, max_peers_per_room=3))
            for name in ("c", "d")
        )
        await until(lambda: c.hub.nodes.presence.nodes.keys() >= {"d"} and d.hub.nodes.presence.nodes.keys() >= {"c"})
        peers = [await join(c, "full"), await join(d, "full"), await join(c, "full")]
        await until(lambda: len(peers[1].of(PeerJoined)) == 1)
        with pytest.raises(AssertionError, match="is full"):
            await join(d, "full")
        for peer in peers:
            await peer.leave()


def test_hop_is_what_these_tests_think() -> None:
    assert FRAME_S * 24_000 == HOP
