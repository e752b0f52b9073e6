"""Connections that never get as far as a room, crowds of one address, and whom a proxy speaks for:
raw sockets to a real server. On loopback each 127.0.0.x is an address of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml
from uvicorn.middleware.proxy_headers import _TrustedHosts

from earshot.protocol.messages import SUBPROTOCOL
from earshot.server.net.door import Door, DoorLimits, Proxies
from earshot.server.net.transport import http
from earshot.server.net.transport.websocket import MediaProtocol
from earshot.server.settings import Settings
from tests.peers import PATIENCE_S, RunningServer, running_server, tiny_model, until

COMPOSE = Path(__file__).parents[3] / "docker" / "compose.yaml"
UPGRADE = (
    b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: " + SUBPROTOCOL.encode() + b"\r\n"
)
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\n"
HALF_MADE = {
    "200 headers": b"GET /v1/rooms/a HTTP/1.1\r\n" + UPGRADE + b"x: y\r\n" * 200 + b"\r\n",
    "a header of 30 kB": b"GET /v1/rooms/a HTTP/1.1\r\n" + UPGRADE + b"x: " + b"y" * 30_000 + b"\r\n\r\n",
    "a path of 40 kB": b"GET /v1/rooms/" + b"a" * 40_000 + b" HTTP/1.1\r\n" + UPGRADE + b"\r\n",
    "a cookie of 8.5 kB": b"GET /v1/rooms/a HTTP/1.1\r\n" + UPGRADE + b"Cookie: a=" + b"y" * 8500 + b"\r\n\r\n",
    "an upgrade that does not end": b"GET /v1/rooms/a HTTP/1.1\r\n" + UPGRADE,
    "a GET with half a body": GET + b"Content-Length: 100\r\n\r\nhalf",
    "a POST with half a body": POST + b"Content-Length: 100\r\n\r\nhalf",
    "a POST with half a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nff\r\nhalf",
    "an empty line after an answer": GET + b"\r\n\r\n",
}

TOO_LARGE = ("200 headers", "a header of 30 kB", "a cookie of 8.5 kB")


async def come(url: str, host: str = "127.0.0.2") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects from an address of loopback."""
    server, port = url.removeprefix("ws://").split(":")
    return await asyncio.open_connection(server, int(port), local_addr=(host, 0))


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Waits until the server has ended a connection; returns what it said."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(PATIENCE_S):
            while part := await reader.read(1 << 16):
                said += part
    return said


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(tiny_model(), hello_timeout_s=1.0, max_half_made_per_address=8) as server:
        yield server


@pytest.mark.parametrize("kind", HALF_MADE)
async def test_a_half_made_connection_is_ended(server: RunningServer, kind: str) -> None:
    before = server.get("/stats")["door"]["refused"]
    reader, writer = await come(server.url)
    writer.write(HALF_MADE[kind])
    said = await ended(reader)
    writer.close()
    assert (b" 431 " in said) == (kind in TOO_LARGE) or kind == "a path of 40 kB"  # cut where it comes in one read
    await until(lambda: server.get("/stats")["door"]["refused"] != before)
    await until(lambda: server.hub.connections == set())


@pytest.mark.parametrize(("answered", "reason"), [(True, "bad_handshake"), (False, "handshake_too_slow")])
async def test_a_head_that_only_websockets_refuses_is_ended_too(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, answered: bool, reason: str
) -> None:
    """If our bounds of a head were wider than those of websockets, which says nothing."""
    monkeypatch.setattr(http, "MAX_HEADERS", 1000)
    if not answered:
        monkeypatch.setattr(MediaProtocol, "check_handshake", lambda self: None)
    before = server.door.refused[reason]
    reader, writer = await come(server.url)
    writer.write(HALF_MADE["200 headers"])
    await ended(reader)
    writer.close()
    await until(lambda: server.door.refused[reason] == before + 1)


async def test_a_slow_body_gets_no_more_time_by_the_byte(server: RunningServer) -> None:
    reader, writer = await come(server.url)
    writer.write(GET + b"Content-Length: 1000\r\n\r\n")
    dripping = asyncio.create_task(drip(writer))
    await ended(reader)
    dripping.cancel()
    writer.close()


async def drip(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        for _ in range(1000):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.1)


async def test_they_are_shown_while_they_are_held_and_limited_by_address(server: RunningServer) -> None:
    def door() -> dict[str, int]:
        return server.get("/stats")["door"]

    async with crowd(server.url, 5) as _:
        await until(lambda: door()["half_made"] >= 5)
        assert door()["open"] >= 5
    await until(lambda: door()["half_made"] == 0)
    before = door()["refused"].get("too_many_half_made", 0)
    async with crowd(server.url, 30):
        await until(lambda: door()["refused"].get("too_many_half_made", 0) > before)
        reader, writer = await come(server.url, "127.0.0.3")
        writer.write(GET + b"\r\n")
        assert await asyncio.wait_for(reader.readuntil(b'{"status":"ok"}'), PATIENCE_S)
        writer.close()
    await until(lambda: door()["half_made"] == door()["waiting"] == 0)


@contextlib.asynccontextmanager
async def crowd(url: str, size: int, host: str = "127.0.0.2") -> AsyncIterator[list[asyncio.StreamReader]]:
    """Connections that say nothing."""
    all_of_it = [await come(url, host) for _ in range(size)]
    try:
        yield [reader for reader, _ in all_of_it]
    finally:
        for _, writer in all_of_it:
            writer.close()


async def test_a_newcomer_need_not_wait_for_the_crowd_of_another_address() -> None:
    """The crowd would keep the door busy for 40 s."""
    with running_server(tiny_model(), accept_interval_ms=200.0, max_waiting_per_address=200) as server:
        async with crowd(server.url, 200):
            await until(lambda: server.door.open.total() > 0)
            before = server.door.open.total()
            reader, writer = await come(server.url, "127.0.0.3")
            writer.write(GET + b"\r\n")
            assert await asyncio.wait_for(reader.readuntil(b'{"status":"ok"}'), PATIENCE_S)
            assert server.door.open.total() - before <= 20
            writer.close()


async def test_a_crowd_that_waits_is_bounded() -> None:
    with running_server(tiny_model(), accept_interval_ms=1000.0, max_waiting_per_address=10) as server:
        async with crowd(server.url, 30) as readers:
            await until(lambda: server.door.stats()["waiting"] == 10)
            await until(lambda: server.door.refused["too_many_waiting"] >= 10)
            assert sum(reader.at_eof() for reader in readers) <= 20


async def test_health_has_a_port_of_its_own() -> None:
    with running_server(tiny_model(), health_port=0, accept_interval_ms=1000.0) as server:
        assert server.health_url is not None
        async with crowd(server.url, 20, "127.0.0.1"):
            await until(lambda: server.door.stats()["waiting"] > 10)
            for path, says in (("healthz", b"ok"), ("stats", b'"door"')):
                reader, writer = await come(server.health_url, "127.0.0.1")  # whose turn at the other door is late
                writer.write(b"GET /%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode())
                assert says in await ended(reader)
                writer.close()
            assert server.door.stats()["waiting"] > 0
        reader, writer = await come(server.health_url)
        writer.write(b"GET /v1/rooms/a HTTP/1.1\r\n" + UPGRADE + b"\r\n")
        assert b" 101 " not in await ended(reader)
        writer.close()


@pytest.mark.parametrize(
    ("peer", "said", "believed"),
    [
        ("127.0.0.5", "9.9.9.9", "127.0.0.5"),  # no proxy
        ("127.0.0.130", "9.9.9.9", "9.9.9.9"),
        ("127.0.0.130", "1.1.1.1, 9.9.9.9", "9.9.9.9"),  # the client wrote the first one itself
        ("127.0.0.130", "1.1.1.1, 9.9.9.9, 127.0.0.140", "9.9.9.9"),  # by two proxies
        ("127.0.0.130", "2001:db8::1", "2001:db8::1"),
    ],
)
async def test_only_the_network_of_the_proxy_speaks_for_others(
    monkeypatch: pytest.MonkeyPatch, peer: str, said: str, believed: str
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.128/25")
    with running_server(tiny_model()) as server:
        _, writer = await come(server.url, peer)
        writer.write(b"GET /v1/rooms/a HTTP/1.1\r\nX-Forwarded-For: " + said.encode() + b"\r\n" + UPGRADE + b"\r\n")
        await until(lambda: len(server.hub.connections) == 1)
        assert [connection.address for connection in server.hub.connections] == [believed]
        writer.close()


def test_the_compose_file_names_the_network_of_the_proxy() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    (network,) = [part["subnet"] for part in compose["networks"]["default"]["ipam"]["config"]]
    one, two = (compose["services"][name]["environment"] for name in ("one", "two"))
    allowed = one["FORWARDED_ALLOW_IPS"]
    assert two["FORWARDED_ALLOW_IPS"] == allowed
    assert allowed == network
    gateway = network.rpartition(".")[0] + ".1"
    for trusts in (Proxies(allowed), _TrustedHosts(allowed)):
        assert gateway in trusts
        assert "127.0.0.1" not in trusts
        assert "9.9.9.9" not in trusts


async def test_the_addresses_take_turns() -> None:
    limits = DoorLimits.of(Settings(max_waiting_per_address=3))
    noted: list[tuple[str, str]] = []
    door = Door(limits, Proxies(""), lambda host, reason: noted.append((host, reason)))
    sockets = {host: [socket.socket() for _ in range(5)] for host in ("2001:db8::1", "2001:db8::2", "192.0.2.1")}
    owner = {id(one): host for host, some in sockets.items() for one in some}
    for host, some in sockets.items():
        for one in some:
            door.knock(host, one)
    assert door.stats()["waiting"] == 6  # the first two are one network
    assert door.refused["too_many_waiting"] == 9
    assert set(noted) == {(host, "too_many_waiting") for host in sockets}
    turns = [owner[id(await door.next())] for _ in range(6)]
    assert turns == ["2001:db8::1", "192.0.2.1"] * 3
    for some in sockets.values():
        for one in some:
            one.close()
