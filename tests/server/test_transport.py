"""What comes before a WebSocket: HTTP requests that never end, from raw sockets to a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.peers import RunningServer, running_server, tiny_model

PATIENCE_S = 0.5
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(tiny_model(), hello_timeout_s=PATIENCE_S) as server:
        yield server


async def connection(server: RunningServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = server.url.removeprefix("ws://").split(":")
    return await asyncio.open_connection(host, int(port))


async def is_cut(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 10) == b""
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


async def test_so_is_the_second_request_of_a_connection(server: RunningServer) -> None:
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
