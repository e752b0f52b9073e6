"""Requests that are refused before the application sees them."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from earshot.protocol.messages import SUBPROTOCOL
from earshot.server import figures
from earshot.server.hub import KNOWN_CLOSE_CODES
from tests.peers import PATIENCE_S, RunningServer, join, running_server, tiny_model, until
from tests.server.net.test_door import come, ended


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(tiny_model(), allowed_origins="https://calls.example.org, http://b.example") as server:
        yield server


def own(server: RunningServer) -> str:
    return server.url.replace("ws", "http", 1)


def status(server: RunningServer, path: str = "/stats", **headers: str) -> int:
    request = urllib.request.Request(own(server) + path, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


async def test_foreign_pages_cannot_open_a_websocket(server: RunningServer) -> None:
    async def code(origin: str | None, **headers: str) -> int:
        try:
            async with connect(
                server.room("page"),
                origin=origin,  # type: ignore[arg-type]
                subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
                additional_headers=headers,
                open_timeout=PATIENCE_S,
            ):
                return 101
        except InvalidStatus as error:
            return error.response.status_code

    assert await code(None) == 101
    assert await code(own(server)) == 101
    assert await code("https://calls.example.org") == 101
    assert await code("http://evil.example") == 403
    assert await code("null") == 403


def test_foreign_pages_cannot_read_the_figures(server: RunningServer) -> None:
    assert status(server) == 200
    assert status(server, Origin=own(server)) == 200
    assert status(server, Origin="http://evil.example") == 403
    assert status(server, Host="evil.example") == 403
    assert status(server, Host="evil.example", Origin="http://evil.example") == 403
    assert status(server, "/healthz", Host="balancer.example") == 200


def test_figures_are_limited_by_address() -> None:
    with running_server(tiny_model(), stats_requests_per_second=0.5) as server:
        assert [status(server) for _ in range(2)] == [200, 429]
        assert status(server, "/healthz") == 200


async def test_requests_of_one_connection_are_limited_too() -> None:
    """An HTTP connection that stays open passes the door once. Who asks too often is cut."""
    with running_server(tiny_model(), http_requests_per_second=2.5) as server:
        for path in ("/healthz", "/nothing"):
            host = "127.0.0.2" if path == "/healthz" else "127.0.0.3"
            reader, writer = await come(server.url, host)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 200)
            answers = (await ended(reader)).split(b"HTTP/1.1 ")[1:]
            writer.close()
            assert [answer[:3] for answer in answers[-1:]] == [b"429"]
            assert 5 <= len(answers) < 50
        assert server.get("/stats")["door"]["refused"]["too_many_requests"] == 2


async def test_close_codes_that_clients_make_up_are_one_kind(server: RunningServer) -> None:
    before = server.hub.closed["other"]
    for code in (3000, 3001, 4500, 4999):
        peer = await join(server, "codes")
        await peer.socket.close(code)
    await until(lambda: server.hub.closed["other"] == before + 4)
    assert {int(code) for code in server.hub.closed if code != "other"} <= KNOWN_CLOSE_CODES


def test_figures_are_made_once_for_many(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    monkeypatch.setattr(figures, "figures", lambda hub: counted.append(1) or {})
    page = figures.Figures(server.hub)
    page.rendered()
    started = page.rendered_us
    for _ in range(50):
        page.rendered()
    age_us = page.rendered_us - started
    assert 1 <= len(counted) <= 1 + age_us / (server.settings.stats_age_s * 1e6)
