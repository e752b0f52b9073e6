"""What Prometheus is told: every close code is counted, and what people send and hear."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from earshot.protocol.close_codes import CloseCode
from earshot.protocol.messages import PROTOCOL, SUBPROTOCOL, Hello, Moderate, Ping, SetRate
from earshot.server.core import refusals
from earshot.server.core.grants import Grants
from tests.peers import HOP, PATIENCE_S, RunningServer, join, noise, quiet_socket, running_server, tiny_model, until
from tests.server.access.test_paths import EXPIRED, SECRET, TOKENS, ask, token

ROOT = Path(__file__).parents[2]
Samples = dict[tuple[str, str], float]
"""Values by name and the values of all labels."""


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    limits: dict[str, Any] = {"max_peers_per_room": 2, "max_rooms_per_address": 3, "hello_timeout_s": PATIENCE_S}
    with running_server(tiny_model(), token_key=SECRET, health_port=0, **limits) as server:
        yield server


def scrape(server: RunningServer) -> Samples:
    url = (server.health_url or server.url).replace("ws", "http", 1) + "/metrics"
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:  # noqa: S310
        text = answer.read().decode()
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def closed(server: RunningServer, code: int) -> float:
    return next(value for (name, labels), value in scrape(server).items() if labels.startswith(f"{code},"))


OPEN: list[ClientConnection] = []


@pytest.fixture(autouse=True)
async def _everybody_leaves() -> AsyncIterator[None]:
    yield
    for connection in OPEN:
        await connection.close()
    OPEN.clear()


async def opened(server: RunningServer, room: str = "den") -> ClientConnection:
    OPEN.append(await connect(server.room(room), subprotocols=[SUBPROTOCOL], open_timeout=PATIENCE_S))  # type: ignore[list-item]
    return OPEN[-1]


async def said(server: RunningServer, room: str = "den", **hello: Any) -> None:
    peer = await opened(server, room)
    fields = {"protocol": PROTOCOL, "model": server.model.digest, "send": "codes", "token": token(room="*")} | hello
    with suppress(ConnectionClosed):
        await peer.send(Hello(**fields).model_dump_json())


async def sent(server: RunningServer, *messages: str | bytes) -> None:
    peer = await opened(server)
    with suppress(ConnectionClosed):
        for message in messages:
            await peer.send(message)


async def seated(server: RunningServer, room: str = "den", **hello: Any) -> Any:
    peer = await join(server, room, **{"token": token(room="*"), **hello})
    OPEN.append(peer.socket)
    return peer


async def too_fast(server: RunningServer) -> None:
    peer = await seated(server)
    with suppress(ConnectionClosed):
        for _ in range(20):
            await peer.send_codes(np.zeros((2, 32), np.int64))


async def too_many(server: RunningServer) -> None:
    peer = await seated(server)
    with suppress(ConnectionClosed):
        for _ in range(400):
            await peer.say(Ping(sent_us=0))


async def too_big(server: RunningServer) -> None:
    with suppress(ConnectionClosed):
        await (await seated(server)).socket.send(b"x" * (server.settings.max_message_bytes + 1))


async def room_full(server: RunningServer) -> None:
    for _ in range(2):
        await seated(server, "full")
    await said(server, "full")


async def too_many_rooms(server: RunningServer) -> None:
    for name in ("a", "b", "c"):
        await seated(server, name)
    await said(server, "d")


async def failed(server: RunningServer, error: Callable[[], Exception]) -> None:
    """As the server does by itself in moments that are not made here."""
    peer = await seated(server, "failing")
    connection = server.hub.rooms["failing"].connections[peer.id]
    server.call_soon(lambda: connection.fail(error()))


async def too_many_connections(server: RunningServer) -> None:
    enough = server.settings.max_connections
    object.__setattr__(server.hub.settings, "max_connections", 0)
    try:
        await said(server)
        await until(lambda: server.hub.closed[CloseCode.TOO_MANY_CONNECTIONS])
    finally:
        object.__setattr__(server.hub.settings, "max_connections", enough)


async def overloaded(server: RunningServer) -> None:
    server.hub.pool.fits = lambda encoders, decoders: False
    try:
        await said(server, send="pcm")
        await until(lambda: server.hub.closed[CloseCode.OVERLOADED])
    finally:
        del server.hub.pool.fits


async def bytes_of_no_frame(server: RunningServer, data: bytes) -> None:
    raw = await quiet_socket(server.url, "den")
    await asyncio.get_running_loop().sock_sendall(raw, data)
    await asyncio.sleep(0.2)
    raw.close()


async def removed(server: RunningServer) -> None:
    peer, moderator = await seated(server), await seated(server, token=token(room="*", moderate=True))
    await moderator.say(Moderate(action="remove", peer=peer.id))


async def locked(server: RunningServer) -> None:
    await (await seated(server, token=token(room="*", moderate=True))).say(Moderate(action="lock"))
    await until(lambda: server.hub.rooms["den"].room.locked)
    await said(server)


async def came_back(server: RunningServer) -> None:
    peer = await seated(server, resume="")
    await seated(server, resume=peer.welcome.resume)


async def shut_down(server: RunningServer) -> None:
    await failed(server, refusals.shutting_down)


CAUSES: dict[int, Callable[[RunningServer], Awaitable[None]]] = {
    4000: lambda server: sent(server, "{}"),
    4001: lambda server: said(server, protocol=PROTOCOL + 1),
    4002: lambda server: said(server, model="another"),
    4003: lambda server: sent(server, Ping(sent_us=0).model_dump_json()),
    4004: too_big,
    4005: too_many,
    4006: too_fast,
    4007: room_full,
    4008: too_many_rooms,
    4009: lambda server: failed(server, refusals.too_slow),
    4010: shut_down,
    4011: too_many_connections,
    4012: lambda server: said(server, "no.room"),
    4013: overloaded,
    4014: lambda server: failed(server, refusals.internal_error),
    4015: lambda server: said(server, token=None),
    4016: lambda server: said(server, token=EXPIRED),
    4017: lambda server: said(server, token=token(room="other")),
    4018: lambda server: said(server, token=token(speak=False)),
    4019: removed,
    4020: locked,
    4021: came_back,
    1002: lambda server: bytes_of_no_frame(server, b"\xf1\x80\0\0\0\0"),
    1007: lambda server: bytes_of_no_frame(server, b"\x88\x83\0\0\0\0\x03\xe8\xff"),
}


def test_every_documented_code_has_a_cause_here() -> None:
    rows = re.findall(r"^\| ([14]\d{3}(?:, [14]\d{3})*) \|", (ROOT / "docs/protocol.md").read_text("utf-8"), re.M)
    assert {int(code) for row in rows for code in row.split(", ")} == set(CAUSES)


@pytest.mark.parametrize("code", CAUSES)
async def test_a_close_code_raises_its_counter(server: RunningServer, code: int) -> None:
    await until(lambda: not server.hub.rooms)  # those of the test before have gone
    before = await asyncio.to_thread(closed, server, code)
    await CAUSES[code](server)
    await until(lambda: server.hub.closed[code] > before)
    assert await asyncio.to_thread(closed, server, code) == before + 1


def test_refusals_over_http_are_counted_too(server: RunningServer) -> None:
    before = closed(server, 4018)
    assert ask(server.url + "/metrics", TOKENS.make(Grants("den")))[0] == 403
    assert closed(server, 4018) == before + 1


async def test_what_people_send_and_hear_is_counted() -> None:
    with running_server(tiny_model()) as server:
        empty = await asyncio.to_thread(scrape, server)
        assert empty["earshot_rooms", ""] == empty["earshot_frames_received_total", ""] == 0
        speaker, listener = await join(server, "den", send="pcm", model=None, want="none"), await join(server, "den")
        await join(server, "other", send="none", want="pcm")
        for index in range(20):
            await speaker.send_pcm(noise(1, index), index, index * HOP)
        await until(lambda: listener.heard[speaker.id].frames == 20)
        await listener.say(SetRate(max_kbps=3.0))
        await until(lambda: server.hub.queue_age_s.cumulated()[-1])
        shown = await asyncio.to_thread(scrape, server)
        for (name, label), value in {
            ("earshot_rooms", ""): 2,
            ("earshot_connections", ""): 3,
            ("earshot_speakers", "pcm"): 1,
            ("earshot_speakers", "codes"): 1,
            ("earshot_listeners", "codes"): 1,
            ("earshot_listeners", "pcm"): 1,
            ("earshot_streams", "encoder"): 1,
            ("earshot_ready", ""): 1,
            ("earshot_frames_received_total", ""): 20,
            ("earshot_frames_sent_total", ""): 20,
            ("earshot_frames_dropped_total", ""): 0,
            ("earshot_result_seconds_count", ""): 20,
            ("earshot_model_info", f"{server.model.digest},tiny"): 1,
        }.items():
            assert shown[name, label] == value, (name, label)
        assert shown["earshot_received_bytes_total", "pcm"] == 20 * (10 + 4 * HOP)
        assert shown["earshot_received_bytes_total", "control"] > 0
        assert shown["earshot_sent_bytes_total", "codes"] > 20 * 10
        assert shown["earshot_sent_bytes_total", "control"] > 0
        assert shown["earshot_step_seconds_count", "encoder"] >= 1
        assert shown["earshot_step_frames_sum", "encoder"] == 20
        assert shown["earshot_loop_lag_seconds_count", ""] > 0
        assert shown["process_cpu_seconds_total", ""] > 0
        for peer in (speaker, listener):
            await peer.leave()
        await until(lambda: "den" not in server.hub.rooms)
        after = await asyncio.to_thread(scrape, server)
        assert after["earshot_frames_received_total", ""] == 20, "counters never fall"
        assert after["earshot_received_bytes_total", "pcm"] == shown["earshot_received_bytes_total", "pcm"]


def test_the_document_names_every_metric(server: RunningServer) -> None:
    assert httpx.get(server.url.replace("ws", "http", 1), headers={"Origin": "https://evil.example"}).status_code == 403
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name, _ in scrape(server) if name.startswith("earshot_")}
    text = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    documented = set(re.findall(r"`(earshot_\w+)`", text))
    assert documented == shown
