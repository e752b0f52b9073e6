"""Connections that say too little or too much for HTTP, or fall silent after it: raw sockets to a
real server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator

import pytest

from earshot.protocol.messages import SUBPROTOCOL
from tests.peers import PATIENCE_S, RunningServer, quiet_socket, running_server, tiny_model, until

CUT_AFTER_S = 1.5
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(tiny_model(), hello_timeout_s=CUT_AFTER_S) as server:
        yield server


async def connection(server: RunningServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = server.url.removeprefix("ws://").split(":")
    return await asyncio.open_connection(host, int(port))


async def is_cut(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
    except ConnectionResetError:
        return True


async def write_on(writer: asyncio.StreamWriter) -> None:
    """100 MB, as fast as they are taken."""
    for _ in range(1000):
        writer.write(b"x" * 100_000)
        await writer.drain()


@pytest.mark.parametrize("beginning", [b"", b"G", REQUEST, REQUEST + b"X-Long: "])
async def test_a_request_that_does_not_end_is_cut(server: RunningServer, beginning: bytes) -> None:
    reader, writer = await connection(server)
    writer.write(beginning)
    assert await is_cut(reader)
    writer.close()


async def test_so_is_the_second_request_of_a_connection() -> None:
    with running_server(tiny_model(), hello_timeout_s=4.0) as server:  # the first must not be cut on a busy machine
        reader, writer = await connection(server)
        writer.write(REQUEST + b"\r\n")
        assert await reader.readuntil(b'{"status":"ok"}')
        writer.write(REQUEST)
        assert await is_cut(reader)
        writer.close()


async def test_a_head_without_end_is_cut_before_it_fills_the_memory() -> None:
    with running_server(tiny_model(), hello_timeout_s=60.0) as server:
        _, writer = await connection(server)
        writer.write(REQUEST + b"X-Long: ")
        with pytest.raises(ConnectionError):
            await write_on(writer)
        writer.close()
        assert server.get("/healthz") == {"status": "ok"}


async def test_one_that_answers_no_ping_is_cut() -> None:
    with running_server(tiny_model(), hello_timeout_s=60.0, ping_interval_s=0.2, ping_timeout_s=0.2) as server:
        reader, writer = await connection(server)
        writer.write(
            b"GET /v1/rooms/silent HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: " + SUBPROTOCOL.encode() + b"\r\n\r\n"
        )
        assert b" 101 " in await reader.readline()
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
        writer.close()
        await until(lambda: server.get("/stats")["connections"] == 0)


async def test_a_crowd_comes_in_one_by_one() -> None:
    with running_server(tiny_model(), accept_interval_ms=200.0) as server:
        loop = asyncio.get_running_loop()
        began = loop.time()
        crowd = [await connection(server) for _ in range(4)]
        for _, writer in crowd:
            writer.write(REQUEST + b"\r\n")
        for reader, writer in crowd:
            assert await reader.readuntil(b'{"status":"ok"}')
            writer.close()
        assert loop.time() - began > 3 * 0.2 - 0.05


async def test_connections_that_are_sent_away_leave_no_circles() -> None:
    """What only the collector of circles frees stops everyone's sound when a crowd has left it."""

    def left() -> list[str]:
        names = ("Connection", "BoundMedia", "BoundHttp", "WebSocket", "ProtocolError")
        return [name for thing in gc.garbage if (name := type(thing).__name__) in names]

    async def send_away(count: int) -> None:
        crowd = [await quiet_socket(server.url, "silent") for _ in range(count)]
        await until(lambda: server.get("/stats")["connections"] == 0)
        for raw in crowd:
            raw.close()
        await asyncio.sleep(3 * server.settings.close_timeout_s)

    with running_server(tiny_model(), hello_timeout_s=0.3, close_timeout_s=0.2) as server:
        await send_away(2)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await send_away(5)
            gc.collect()
            assert left() == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
