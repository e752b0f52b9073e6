"""Everything a peer can do wrong. It is told, or closed with the documented code; two others, who
talk to each other all the while, get every frame of each other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from earshot.codec.bitstream import pack
from earshot.protocol.messages import SUBPROTOCOL, Error, Hello, PeerLeft, Stats, Welcome, parse_server
from earshot.protocol.packet import Packet, PcmFormat, PcmUp, encode_codes_up, encode_pcm_up
from tests.peers import (
    FRAME_S,
    HOP,
    PATIENCE_S,
    RunningServer,
    TestPeer,
    bystanders,
    join,
    quiet_socket,
    real_time,
    running_server,
    tiny_model,
    until,
)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    limits = {"hello_timeout_s": 4.0, "close_after_ms": 6000, "max_connections_per_address": 230}
    with running_server(tiny_model(), **limits) as server:
        yield server


@pytest.fixture
async def others(server: RunningServer, request: pytest.FixtureRequest) -> AsyncIterator[tuple[TestPeer, TestPeer]]:
    """The two others of the room "bad"."""
    async with bystanders(server, "bad") as peers:
        yield peers


def hello(server: RunningServer, **fields: Any) -> str:
    return Hello(**{"protocol": 1, "model": server.model.digest, "send": "codes", **fields}).model_dump_json()


async def outcome(socket: ClientConnection, within_s: float = PATIENCE_S) -> tuple[int, str]:
    """Reads until the server closes: the close code and what the error message before it said."""
    said = ""
    async with asyncio.timeout(within_s):
        while True:
            try:
                message = await socket.recv()
            except ConnectionClosed:
                break
            if isinstance(message, str) and isinstance(error := parse_server(message), Error):
                said = error.message
                assert error.code
    assert socket.close_code is not None
    assert said, f"closed with {socket.close_code} {socket.close_reason!r} and no error message"
    return socket.close_code, said


def open_socket(server: RunningServer, room: str = "bad", **options: Any) -> Any:
    return connect(
        server.room(room),
        **{"subprotocols": [SUBPROTOCOL], "compression": None, "open_timeout": PATIENCE_S, **options},
    )


CODES = pack(np.ones((8, 1), int))
GOOD = encode_codes_up(Packet(8, 1, 0, 0, CODES))
PCM = encode_pcm_up(PcmUp(PcmFormat.S16, 0, 0, bytes(640)))

MALFORMED: dict[str, bytes | str] = {
    "empty": b"",
    "unknown binary type": b"\x09" + GOOD[1:],
    "a type that only servers send": b"\x03\x00",
    "cut header": GOOD[:7],
    "cut payload": GOOD[:-1],
    "surplus bytes": GOOD + b"\x00",
    "unknown flags": GOOD[:1] + b"\x02" + GOOD[2:],
    "trace announced and not there": GOOD[:1] + b"\x01" + GOOD[2:],
    "no codebooks": GOOD[:2] + b"\x00" + GOOD[3:],
    "no frames": GOOD[:3] + b"\x00" + GOOD[4:],
    "PCM of odd length": PCM + b"\x00",
    "PCM of unknown format": PCM[:2] + b"\x07" + PCM[3:],
    "PCM from one who said codes": PCM,
    "text where media is due": "AQAAAA==",
    "control where media is due, as bytes": json.dumps({"type": "mute", "muted": True}).encode(),
    "no JSON": "{",
    "no object": "[1, 2]",
    "unknown type": '{"type": "dance"}',
    "a type that only servers send, in JSON": '{"type": "pong", "ping_us": 1, "received_us": 1, "sent_us": 1}',
    "missing field": '{"type": "mute"}',
    "wrong JSON type": '{"type": "mute", "muted": "yes"}',
    "NaN": '{"type": "set_rate", "send_kbps": NaN}',
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_malformed_messages_close_only_their_sender(server: RunningServer, kind: str) -> None:
    async with bystanders(server, "bad") as others, open_socket(server) as bad:
        await bad.send(hello(server))
        await bad.send(GOOD)
        await bad.send(MALFORMED[kind])
        code, message = await outcome(bad)
        assert code == 4000, message
        await until(lambda: others[0].of(PeerLeft))
        assert others[0].of(PeerLeft)[0].reason == message


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"protocol": 2}, 4001, "protocol 2"),
        ({"model": "0" * 16}, 4002, "tiny"),
        ({"model": None}, 4002, "tiny"),
        ({"model": None, "send": "none", "want": "codes"}, 4002, "tiny"),
        ({"send_kbps": 7.0}, 4002, "send_kbps 7"),
        ({"max_kbps": 0.5}, 4002, "max_kbps 0.5"),
    ],
)
async def test_a_hello_that_does_not_fit_is_refused(
    server: RunningServer, others: object, fields: dict[str, Any], code: int, says: str
) -> None:
    async with open_socket(server) as bad:
        await bad.send(hello(server, **fields))
        got, message = await outcome(bad)
        assert got == code
        assert says in message


@pytest.mark.parametrize(
    ("first", "code"),
    [(GOOD, 4003), ('{"type": "ping", "sent_us": 1}', 4003), ("hello", 4000), ('{"type": "hello"}', 4000)],
)
async def test_something_else_than_hello_is_refused(
    server: RunningServer, others: object, first: str | bytes, code: int
) -> None:
    async with open_socket(server) as bad:
        await bad.send(first)
        assert (await outcome(bad))[0] == code


async def test_a_second_hello_is_refused(server: RunningServer, others: object) -> None:
    async with open_socket(server) as bad:
        await bad.send(hello(server))
        await bad.send(hello(server))
        assert (await outcome(bad))[0] == 4003


@pytest.mark.parametrize("subprotocols", [None, ["earshot.v9"]])
async def test_a_wrong_subprotocol_is_refused(server: RunningServer, others: object, subprotocols: Any) -> None:
    async with open_socket(server, subprotocols=subprotocols) as bad:
        assert (await outcome(bad))[0] == 4001


@pytest.mark.parametrize("room", ["b%C3%A4d", "a" * 65, "a/b", "a.b", ""])
async def test_a_wrong_room_name_is_refused(server: RunningServer, others: object, room: str) -> None:
    async with open_socket(server, room) as bad:
        assert (await outcome(bad))[0] == 4012


@pytest.mark.parametrize("n_q", [17, 32])
async def test_more_codebooks_than_the_model_has_are_refused(server: RunningServer, others: object, n_q: int) -> None:
    async with open_socket(server) as bad:
        await bad.send(hello(server))
        await bad.send(encode_codes_up(Packet(n_q, 1, 0, 0, pack(np.ones((n_q, 1), int)))))
        assert (await outcome(bad))[0] == 4002


@pytest.mark.parametrize("size", [70_000, 200_000, 5_000_000])
async def test_oversized_messages_are_refused(server: RunningServer, others: object, size: int) -> None:
    async with open_socket(server) as bad:
        await bad.send(hello(server))
        with contextlib.suppress(Exception):
            await bad.send(bytes(size))
        assert (await outcome(bad))[0] == 4004


async def test_an_oversized_control_message_is_refused(server: RunningServer, others: object) -> None:
    async with open_socket(server) as bad:
        await bad.send(hello(server))
        await bad.send('{"type": "mute", "muted": true, "more": "' + "x" * 5000 + '"}')
        assert (await outcome(bad))[0] == 4004


async def test_text_that_is_not_utf8_is_refused(server: RunningServer, others: object) -> None:
    async with open_socket(server) as bad:
        await bad.send(hello(server))
        await bad.send(b"\xff\xfe", text=True)
        async with asyncio.timeout(PATIENCE_S):
            await bad.wait_closed()
        assert (bad.close_code, bad.close_reason) == (1007, "a text message is not UTF-8")


async def test_a_message_in_countless_fragments_is_refused(server: RunningServer, others: object) -> None:
    async with open_socket(server) as bad:
        await bad.send(hello(server))
        with contextlib.suppress(Exception):
            await bad.send(b"" for _ in range(100))
        assert (await outcome(bad))[0] == 4000


async def test_late_doubled_and_future_packets_are_discarded_and_counted(
    server: RunningServer, others: tuple[TestPeer, TestPeer]
) -> None:
    bad = await join(server, "bad")

    async def send(number: int, timestamp: int | None = None) -> None:
        at = (number * HOP if timestamp is None else timestamp) % (1 << 32)
        await bad.socket.send(encode_codes_up(Packet(8, 1, number % (1 << 16), at, CODES)))

    good = [0, 1, 2, 3, 5, 6]
    for number in good[:4]:
        await send(number)
    await send(3)  # twice
    await send(1)  # out of order
    await send(3 - 30_000)  # ancient
    await send(4 + 30_000)  # far future, by sequence
    await send(4, 1 << 30)  # far future, by timestamp
    await send(4, 0)  # later by sequence, earlier by timestamp
    for number in good[4:]:
        await send(number)
    heard = others[0].heard[bad.id]
    await until(lambda: heard.frames >= len(good))
    stats = await bad.stats()
    assert [packet.sequence for packet in heard.packets] == good
    assert (stats.frames_received, stats.frames_discarded) == (12, 6)
    await bad.leave()


@pytest.mark.parametrize("sound", ["silence", "square", "nan", "infinite", "huge"])
async def test_any_samples_at_all_are_encoded(
    server: RunningServer, others: tuple[TestPeer, TestPeer], sound: str
) -> None:
    pcm = {
        "silence": np.zeros(HOP * 20),
        "square": np.where(np.arange(HOP * 20) // 50 % 2, 1.0, -1.0),
        "nan": np.full(HOP * 20, np.nan),
        "infinite": np.full(HOP * 20, -np.inf),
        "huge": np.full(HOP * 20, 1e30),
    }[sound].astype(np.float32)
    bad = await join(server, "bad", send="pcm", send_kbps=6.0)
    await bad.send_pcm(pcm, 0, 0)
    heard = others[0].heard[bad.id]
    await until(lambda: heard.frames >= 20)
    clean = {"nan": 0.0, "infinite": 0.0, "huge": 16.0}.get(sound)
    expected = pcm if clean is None else np.full(HOP * 20, clean, np.float32)
    np.testing.assert_array_equal(heard.codes(), server.model.encoder(6.0).push(expected))
    stats = await bad.stats()
    assert stats.samples_replaced == (0 if clean is None else HOP * 20)
    await bad.leave()


@pytest.mark.parametrize("uplink", ["pcm", "codes"])
async def test_ten_times_real_time_is_refused(server: RunningServer, others: object, uplink: str) -> None:
    bad = await join(server, "bad", send=uplink)
    with contextlib.suppress(Exception):
        # So few messages that, however long they pile up, they are not too many.
        async for number in real_time(250, 4 * FRAME_S / 10):
            if uplink == "pcm":
                await bad.send_pcm(np.zeros(4 * HOP), number, number * 4 * HOP)
            else:
                await bad.send_codes(np.ones((8, 4), int))
    assert (await bad.closed())[0] == 4006


@pytest.mark.parametrize("what", ["media", "control", "empty"])
async def test_floods_of_messages_are_refused(server: RunningServer, others: object, what: str) -> None:
    bad = await join(server, "bad", send="pcm")
    flood = {"media": encode_pcm_up(PcmUp(PcmFormat.S16, 0, 0, b"")), "control": '{"type": "mute", "muted": true}'}
    with contextlib.suppress(Exception):
        for _ in range(3000):
            await bad.socket.send(flood.get(what, b""))
            await asyncio.sleep(0)
    # A server that is held up finds that they are too many before it looks into the first.
    assert (await bad.closed())[0] in ((4000, 4005) if what == "empty" else (4005,))


@pytest.mark.parametrize("what", ["pings", "pongs", "fragments"])
async def test_floods_of_frames_that_are_no_messages_are_refused(
    server: RunningServer, others: object, what: str
) -> None:
    """1 MB as fast as it is taken, as one would send to hold up the event loop."""
    closed = server.hub.closed[4005]
    bad = await join(server, "bad")
    frame = {
        "pings": Frame(Opcode.PING, b""),
        "pongs": Frame(Opcode.PONG, b""),
        "fragments": Frame(Opcode.BINARY, b"", fin=False),
    }[what].serialize(mask=True)
    if what == "fragments":
        frame += 32 * Frame(Opcode.CONT, b"", fin=False).serialize(mask=True)
        frame += Frame(Opcode.CONT, GOOD, fin=True).serialize(mask=True)
    bad.socket.transport.write(frame * (1_000_000 // len(frame)))
    assert (await bad.closed())[0] == 4005
    await until(lambda: server.hub.closed[4005] == closed + 1)


async def test_one_that_vanishes_within_a_frame(server: RunningServer, others: tuple[TestPeer, TestPeer]) -> None:
    bad = await join(server, "bad", send="pcm")
    await bad.send_pcm(np.zeros(100), 0, 0)
    raw = bad.socket.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    bad.socket.transport.write(b"\x82\xfe\x10\x00 the beginning of a message of 4096 bytes")
    bad.socket.transport.abort()
    await until(lambda: [left.id for left in others[0].of(PeerLeft)] == [bad.id])
    await until(lambda: [len(room["peers"]) for room in server.get("/stats")["rooms"]] == [2])


@contextlib.asynccontextmanager
async def talking(crowd: list[TestPeer]) -> AsyncIterator[None]:
    """All of them at once and without end, at the highest rate."""
    talks = [asyncio.create_task(peer.talk(np.ones((16, 60_000), int))) for peer in crowd]
    try:
        yield
    finally:
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


def frames_in(data: bytes) -> list[tuple[int, bytes]]:
    """The WebSocket frames of a server, as (opcode, payload)."""
    frames, at = [], 0
    while at + 2 <= len(data):
        size, at, opcode = data[at + 1], at + 2, data[at] & 15
        if size == 126:
            size, at = struct.unpack_from(">H", data, at)[0], at + 2
        frames.append((opcode, data[at : at + size]))
        at += size
    return frames


@pytest.mark.timeout(300)
async def test_one_that_stops_reading_for_ten_seconds_costs_the_others_nothing(
    server: RunningServer, others: tuple[TestPeer, TestPeer], capsys: pytest.CaptureFixture[str]
) -> None:
    """Item 7 of "Done when" of the first issue. After a while without progress it is closed with
    4009."""
    # Ten speakers fill what buffers the kernels have within the ten seconds, on machines that are
    # not held up.
    crowd = [await join(server, "bad", want="none") for _ in range(10)]
    raw = await quiet_socket(server.url, "bad", hello(server, send="none"))
    closed_before = server.hub.closed[4009]
    before = [peer.heard[other.id].missing for peer, other in (others, others[::-1])]
    async with talking(crowd):
        await asyncio.sleep(10)
        after = [peer.heard[other.id].missing for peer, other in (others, others[::-1])]
        await until(lambda: server.hub.closed[4009] > closed_before, within_s=120)
    assert server.hub.closed[4009] == closed_before + 1
    assert before == after == [0, 0]
    with capsys.disabled():
        frames = sum(peer.heard[other.id].frames for peer, other in (others, others[::-1]))
        print(f"\n  10 s of not reading: the others miss {sum(before)} frames before, {sum(after)} after, of {frames}")
    for peer in crowd:
        await peer.leave()
    raw.close()


@pytest.mark.timeout(300)
async def test_one_that_reads_again_is_told_why_it_was_closed(
    server: RunningServer, others: tuple[TestPeer, TestPeer]
) -> None:
    loop = asyncio.get_running_loop()
    crowd = [await join(server, "bad", want="none") for _ in range(10)]
    raw = await quiet_socket(server.url, "bad", hello(server, send="none"))
    closed_before = server.hub.closed[4009]
    data = b""
    async with talking(crowd), asyncio.timeout(150):
        await until(lambda: server.hub.closed[4009] > closed_before, within_s=120)
        while part := await loop.sock_recv(raw, 1 << 16):
            data += part
    raw.close()
    *_, (text, error), (close, reason) = frames_in(data)
    assert (text, close) == (1, 8)
    assert json.loads(error)["code"] == 4009
    assert struct.unpack(">H", reason[:2])[0] == 4009
    for peer in crowd:
        await peer.leave()


async def test_two_hundred_connections_that_say_nothing(
    server: RunningServer, others: tuple[TestPeer, TestPeer], capsys: pytest.CaptureFixture[str]
) -> None:
    """The other half of item 7; half of them do not even ask for a WebSocket."""
    before = [peer.heard[other.id].missing for peer, other in (others, others[::-1])]
    closed = server.hub.closed[4003]
    host, port = server.url.removeprefix("ws://").split(":")
    mute = [await asyncio.open_connection(host, int(port)) for _ in range(100)]
    silent = await asyncio.gather(*(open_socket(server, "silent").__aenter__() for _ in range(200)))
    assert [code for code, _ in await asyncio.gather(*(outcome(peer) for peer in silent))] == [4003] * 200
    for reader, writer in mute:
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        writer.close()
    after = [peer.heard[other.id].missing for peer, other in (others, others[::-1])]
    assert before == after == [0, 0]
    assert server.hub.closed[4003] == closed + 200
    await until(lambda: server.get("/stats")["connections"] == 2)
    with capsys.disabled():
        frames = sum(peer.heard[other.id].frames for peer, other in (others, others[::-1]))
        print(f"\n  200 silent: the others miss {sum(before)} frames before, {sum(after)} after, of {frames}")
    for peer in silent:
        await peer.close()


async def test_the_limits_of_rooms_peers_and_connections() -> None:
    limits = {"max_rooms": 2, "max_peers_per_room": 3, "max_connections_per_address": 6, "encoders_per_worker": 1}
    with running_server(tiny_model(), **limits) as server:
        async with bystanders(server, "bad"), open_socket(server, "second") as second:
            await second.send(hello(server, send="pcm"))
            assert isinstance(parse_server(await second.recv()), Welcome)
            async with open_socket(server, "third") as third:
                await third.send(hello(server))
                assert (await outcome(third))[0] == 4008
            async with open_socket(server, "second") as speaker:
                await speaker.send(hello(server, send="pcm"))
                assert (await outcome(speaker))[0] == 4013
            third_peer = await join(server, "bad", send="none")
            async with open_socket(server) as fourth:
                await fourth.send(hello(server))
                assert (await outcome(fourth))[0] == 4007
            fifth, sixth = [await open_socket(server).__aenter__() for _ in range(2)]
            async with open_socket(server) as seventh:
                assert (await outcome(seventh))[0] == 4011
            await third_peer.leave()
            for idle in (fifth, sixth):
                await idle.close()


async def test_a_shutdown_tells_everyone_even_those_who_do_not_read() -> None:
    with running_server(tiny_model()) as server:
        peer = await join(server, "bad")
        raw = await quiet_socket(server.url, "bad", hello(server, send="none"))
        await until(lambda: [len(room["peers"]) for room in server.get("/stats")["rooms"]] == [2])
    code, message = await peer.closed()
    assert code == 4010
    assert "shuts down" in message
    raw.close()


async def test_stats_keep_coming(server: RunningServer) -> None:
    peer = await join(server, "alone")
    await until(lambda: len(peer.of(Stats)) >= 2)
    await peer.leave()
