"""Addresses, refusals in words, and the queue of what goes out, against real WebSocket servers on
loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from earshot.client.net import websocket
from earshot.client.net.websocket import MAX_WAITING, Lost, Outbox, join, open_connection, room_url
from earshot.codec.errors import UsageError
from earshot.protocol.close_codes import CloseCode
from earshot.protocol.messages import Error, Hello, Mute
from earshot.protocol.text import MAX_SHOWN

HELLO = Hello(protocol=1, model="0123456789abcdef")


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("ws://host:8765", "ws://host:8765/v1/rooms/den"),
        ("wss://host/", "wss://host/v1/rooms/den"),
        ("https://host/path", "wss://host/path/v1/rooms/den"),
        ("http://[::1]:80", "ws://[::1]:80/v1/rooms/den"),
        ("host:8765", "ws://host:8765/v1/rooms/den"),
    ],
)
def test_addresses(server: str, url: str) -> None:
    assert room_url(server, "den") == url


@pytest.mark.parametrize(
    ("server", "room"),
    [
        ("ws://h", ""),
        ("ws://h", "a/b"),
        ("ws://h", "x" * 65),
        ("ws://", "den"),
        ("ftp://h", "den"),
        ("ws://h:99999", "den"),
        ("ws://h:port", "den"),
        ("ws://[::1", "den"),
        ("ws://a..b", "den"),
        ("ws://h?x", "den"),
    ],
)
def test_what_is_no_address_or_room(server: str, room: str) -> None:
    with pytest.raises(UsageError):
        room_url(server, room)


async def refused(handler: Callable[[ServerConnection], Awaitable[None]]) -> Lost:
    """How joining a server that behaves like this fails."""
    async with serve(handler, "127.0.0.1", 0, subprotocols=[Subprotocol("earshot.v1")]) as server:
        port = server.sockets[0].getsockname()[1]
        connection = await open_connection(room_url(f"ws://127.0.0.1:{port}", "den"))
        with pytest.raises(Lost) as caught:
            await join(connection, HELLO)
        await connection.close()
        return caught.value


async def test_an_error_message_is_passed_on_word_for_word() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(Error(code=CloseCode.ROOM_FULL, message="den is full").model_dump_json())

    lost = await refused(handler)
    assert (str(lost), lost.code, lost.final) == ("den is full", CloseCode.ROOM_FULL, False)


async def test_a_close_with_a_reason_is_passed_on() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.close(CloseCode.BAD_ROOM, "not a room")

    lost = await refused(handler)
    assert (str(lost), lost.code, lost.final) == ("not a room", CloseCode.BAD_ROOM, True)


@pytest.mark.parametrize("answer", [b"\x00", "[]", '{"type": "pong"}', "no json"])
async def test_an_answer_that_is_no_welcome(answer: str | bytes) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(answer)

    assert "does not speak earshot.v1" in str(await refused(handler))


async def test_a_connection_that_is_cut() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        connection.transport.abort()

    lost = await refused(handler)
    assert "broke off" in str(lost)
    assert not lost.final


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_nobody_listens(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Lost, match=rf"no server at ws://{host}:{port} \(connection refused\)"):
        await open_connection(room_url(f"ws://{host}:{port}", "den"))


async def test_something_else_listens() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-thing\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Lost, match="is no Earshot server"):
            await open_connection(room_url(f"ws://127.0.0.1:{port}", "den"))


async def test_outbox_keeps_order_drops_the_oldest_and_what_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0
    monkeypatch.setattr(websocket, "monotonic_us", lambda: now)
    came: list[str | bytes] = []
    done = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            came.append(message)
            if message == b"last":
                done.set()

    outbox = Outbox()
    for index in range(MAX_WAITING + 3):
        outbox.put(b"%d" % index)
    assert outbox.dropped == 3
    now = websocket.MAX_AGE_US + 1  # all of those are too old now, control messages never are
    outbox.put(Mute(muted=True))
    outbox.put(b"last")
    async with serve(handler, "127.0.0.1", 0, subprotocols=[Subprotocol("earshot.v1")]) as server:
        port = server.sockets[0].getsockname()[1]
        connection = await open_connection(room_url(f"ws://127.0.0.1:{port}", "den"))
        writing = asyncio.create_task(outbox.write(connection))
        await asyncio.wait_for(done.wait(), 30)
        writing.cancel()
        await connection.close()
    assert came == ['{"type":"mute","muted":true}', b"last"]
    assert outbox.dropped == MAX_WAITING + 3


@pytest.mark.parametrize("said", ["\x1b[2J\x1b]0;owned\x07", "a\u202eb\u2066", "\udc80", "x" * 10_000])
def test_what_a_server_says_is_clean_before_anyone_shows_it(said: str) -> None:
    lost = Lost(said, 4000)
    assert str(lost).isprintable()
    assert len(str(lost)) <= MAX_SHOWN
    assert lost.code == 4000
