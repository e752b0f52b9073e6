"""What server/net/transport/ takes for granted about uvicorn, name by name and on loopback. When
another version of uvicorn breaks the server, these tests fail first and say what has changed."""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httptools
import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from earshot.server.net import transport
from earshot.server.net.asgi_extensions import LAST_WORDS, SHORT_CUT
from earshot.server.net.serve import bind
from earshot.server.net.transport.http import PatientHttp
from earshot.server.net.transport.server import Server, StoppableServer
from earshot.server.net.transport.websocket import (
    BYTES_PER_TURN,
    MAX_FRAGMENTS,
    MAX_QUEUED,
    READ_SLICE,
    SHORT_CUTS,
    MediaProtocol,
)
from earshot.server.settings import Settings
from tests.peers import PATIENCE_S, until

METHODS: dict[type, dict[str, list[str]]] = {
    WebSocketsSansIOProtocol: {
        "__init__": ["config", "server_state", "app_state", "_loop"],
        "connection_made": ["transport"],
        "connection_lost": ["exc"],
        "data_received": ["data"],
        "handle_connect": ["event"],
        "handle_bytes": ["event"],
        "handle_text": ["event"],
        "handle_cont": ["event"],
        "handle_ping": [],
        "handle_pong": ["event"],
        "handle_parser_exception": [],
        "send_receive_event_to_app": [],
        "keepalive_timeout": [],
        "run_asgi": [],
        "send": ["message"],
        "receive": [],
        "stop_keepalive": [],
    },
    HttpToolsProtocol: {
        "__init__": ["config", "server_state", "app_state", "_loop"],
        "connection_made": ["transport"],
        "connection_lost": ["exc"],
        "data_received": ["data"],
        "handle_websocket_upgrade": [],
        "send_400_response": ["msg"],
        "on_message_begin": [],
        "on_url": ["url"],
        "on_header": ["name", "value"],
        "on_headers_complete": [],
        "on_message_complete": [],
        "on_response_complete": [],
        "on_body": ["body"],
    },
    uvicorn.Server: {
        "__init__": ["config"],
        "startup": ["sockets"],
        "shutdown": ["sockets"],
        "capture_signals": [],
        "handle_exit": ["sig", "frame"],
    },
}
"""Methods that are replaced or called, with their arguments."""
STATE: dict[type, dict[str, type]] = {
    WebSocketsSansIOProtocol: {
        "transport": asyncio.BaseTransport,
        "loop": asyncio.AbstractEventLoop,
        "scope": dict,
        "client": tuple,
        "handshake_initiated": bool,
        "handshake_complete": bool,
        "disconnected": bool,
        "curr_msg_data_type": str,
        "conn": ServerProtocol,
        "queue": asyncio.Queue,
        "frames": list,
        "writable": asyncio.Event,
        "close_sent": bool,
        "close_timeout": float,
        "close_timer": type(None),
        "read_paused": bool,
    },
    HttpToolsProtocol: {
        "transport": asyncio.BaseTransport,
        "loop": asyncio.AbstractEventLoop,
        "connections": set,
        "parser": httptools.HttpRequestParser,
        "client": tuple,
        "scope": type(None),
    },
    uvicorn.Server: {
        "config": uvicorn.Config,
        "started": bool,
        "should_exit": bool,
        "server_state": object,
        "lifespan": object,
        "_captured_signals": list,
    },
}
"""Attributes of an open connection, or of a running server, that are read or written."""
ELSEWHERE = {"on_body"}
"""Names that lab/listening/transport.py uses."""


@dataclass
class App:
    """Answers by the way that a message took: `short ` and its bytes, or `long ` and its bytes."""

    events: list[Any] = field(default_factory=list)
    scopes: list[Any] = field(default_factory=list)
    before_close: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for done in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{done}.complete"})
            return
        self.scopes.append(scope)
        await receive()
        await send({"type": "websocket.accept"})
        short_cut = scope["extensions"].get(SHORT_CUT)
        if short_cut is not None:
            short_cut.media = lambda data: short_cut.write(b"short " + data)
        while (event := await receive())["type"] == "websocket.receive":
            data = event.get("bytes")
            await send(
                {"type": "websocket.send", "bytes": b"long " + (event["text"].encode() if data is None else data)}
            )
        self.events.append(event)

    async def say_goodbye(self) -> None:
        self.before_close += 1


@asynccontextmanager
async def running(server: uvicorn.Server) -> AsyncIterator[int]:
    """The port of this server, which runs on the loop of the test."""
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await until(lambda: server.started)
        yield port
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, PATIENCE_S)
        listener.close()


@asynccontextmanager
async def served(app: App, **settings: Any) -> AsyncIterator[tuple[Server, ClientConnection]]:
    """Our server of this application, and a client."""
    server = Server(app, Settings(**settings), app.say_goodbye, lambda port: None)
    async with running(server) as port, connect(f"ws://127.0.0.1:{port}", compression=None) as client:
        yield server, client


def client_frames(*frames: Frame) -> bytes:
    return b"".join(frame.serialize(mask=True) for frame in frames)


async def answers(client: ClientConnection, count: int) -> list[Any]:
    async with asyncio.timeout(PATIENCE_S):
        return [await client.recv() for _ in range(count)]


@pytest.mark.parametrize("base", METHODS)
def test_methods_have_the_arguments_that_we_replace_or_call(base: type) -> None:
    found = {name: list(inspect.signature(getattr(base, name)).parameters)[1:] for name in METHODS[base]}
    assert found == METHODS[base]


async def test_connections_and_servers_have_the_state_that_we_touch() -> None:
    """Looks at uvicorn's own classes, at work without ours."""
    config = uvicorn.Config(App(), ws=WebSocketsSansIOProtocol, http=HttpToolsProtocol, log_level="warning")
    server = uvicorn.Server(config)
    async with running(server) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        async with connect(f"ws://127.0.0.1:{port}"):
            await until(lambda: len(server.server_state.connections) == 2)
            things = {type(thing): thing for thing in [*server.server_state.connections, server]}
            for base, state in STATE.items():
                wrong = {name: getattr(things[base], name, "missing") for name in state}
                assert not {name: it for name, it in wrong.items() if not isinstance(it, state[name])}
            assert callable(server.lifespan.state.copy)
        writer.close()
        await until(lambda: not server.server_state.connections)


def names_used(ours: type) -> set[str]:
    """Attributes of `self` in the source of a class, and the methods that it defines."""
    tree = ast.parse(inspect.getsource(ours))
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    of_self = {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "self"}
    return of_self | {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(
    ("ours", "base"),
    [
        ((MediaProtocol,), WebSocketsSansIOProtocol),
        ((PatientHttp,), HttpToolsProtocol),
        ((Server, StoppableServer), uvicorn.Server),
    ],
)
async def test_the_lists_above_and_the_docstring_are_complete(ours: tuple[type, ...], base: type) -> None:
    """Fails as well when uvicorn begins to use a name that was ours alone."""
    config = uvicorn.Config(App())
    config.load()
    state = uvicorn.server.ServerState()
    plain = base(config) if base is uvicorn.Server else base(config, state, {})
    listed = set(METHODS[base]) | set(STATE[base])
    late = {"scope", "lifespan"} & listed  # uvicorn sets these later than in `__init__`
    used = {name for part in ours for name in names_used(part)}
    assert {name for name in used if hasattr(plain, name) or name in late} | {"__init__"} == listed - ELSEWHERE
    said = inspect.getdoc(transport) or ""
    assert [name for name in listed - {"__init__"} if f"`{name}`" not in said and f"`{name}." not in said] == []


def test_no_other_file_touches_uvicorn_inside() -> None:
    server, lab = (Path(inspect.getfile(transport)).parents[1], Path(inspect.getfile(transport)).parents[2] / "lab")
    inside = ("uvicorn.protocols", "uvicorn.server", "_captured_signals", "server_state")
    files = [
        file for root in (server, lab) for file in root.rglob("*.py") if any(it in file.read_text() for it in inside)
    ]
    assert {file.parent.name for file in files} == {"transport"}


async def test_whole_binary_messages_take_the_short_cut_and_others_do_not() -> None:
    async with served(App()) as (_, client):
        sent: list[Any] = [b"1", "2", [b"3", b"3"], b""]
        for message, answer in zip(sent, [b"short 1", b"long 2", b"long 33", b"short "], strict=True):
            await client.send(message)
            assert await answers(client, 1) == [answer]


async def test_what_comes_behind_a_message_that_waits_waits_too() -> None:
    frames = [Frame(Opcode.TEXT, b"0"), *(Frame(Opcode.BINARY, b"%d" % number) for number in range(1, 4))]
    async with served(App()) as (_, client):
        client.transport.write(client_frames(*frames))
        assert await answers(client, 4) == [b"long 0", b"long 1", b"long 2", b"long 3"]


async def test_messages_of_one_read_take_the_short_cut_up_to_a_limit() -> None:
    async with served(App()) as (_, client):
        client.transport.write(client_frames(*(Frame(Opcode.BINARY, b"") for _ in range(2 * SHORT_CUTS))))
        assert await answers(client, 2 * SHORT_CUTS) == [b"short "] * SHORT_CUTS + [b"long "] * SHORT_CUTS


async def test_messages_that_come_in_pieces_are_whole() -> None:
    async with served(App()) as (_, client):
        stream = client_frames(Frame(Opcode.BINARY, b"a" * 300), Frame(Opcode.BINARY, b"b" * 5))
        for at in range(0, len(stream), 7):
            client.transport.write(stream[at : at + 7])
            await asyncio.sleep(0)
        assert await answers(client, 2) == [b"short " + b"a" * 300, b"short bbbbb"]


TOO_MANY = [Frame(Opcode.BINARY, b"", fin=False), *(Frame(Opcode.CONT, b"", fin=False) for _ in range(MAX_FRAGMENTS))]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (client_frames(Frame(Opcode.TEXT, b"\xff")), 1007),
        (client_frames(*TOO_MANY), 4000),
        (client_frames(Frame(Opcode.BINARY, bytes(10_000))), 4004),
        (Frame(Opcode.BINARY, b"not masked").serialize(mask=False), 1002),
    ],
    ids=["text that is not UTF-8", "too many", "too long", "not masked"],
)
async def test_what_a_peer_may_not_send_ends_the_connection_with_a_code(sent: bytes, code: int) -> None:
    app = App()
    async with served(app, max_message_bytes=4096, message_burst=200) as (_, client):
        client.transport.write(sent)
        with pytest.raises(ConnectionClosed):
            await answers(client, 1000)
        assert client.close_code == code
        await until(lambda: [event["code"] for event in app.events] == [code])


async def test_a_read_is_handled_in_turns_and_stays_in_order() -> None:
    large = bytes(BYTES_PER_TURN * 5)
    async with served(App()) as (server, client):
        (media,) = server._media()
        heard: list[int] = []
        await client.send(b"")
        await answers(client, 1)  # the application has begun
        short_cut, media.media = media.media, lambda data: (heard.append(len(data)), short_cut(data))[0]  # type: ignore[misc]
        media.data_received(client_frames(Frame(Opcode.BINARY, b"1"), Frame(Opcode.BINARY, large)))
        assert heard == [1]
        media.data_received(client_frames(Frame(Opcode.BINARY, b"22")))  # comes before its turn
        assert await answers(client, 3) == [b"short 1", b"short " + large, b"short 22"]
        assert heard == [1, len(large), 2]
        await client.send(b"on")
        assert await answers(client, 1) == [b"short on"]  # reading goes on


async def test_a_flood_of_messages_waits_where_it_is_bounded() -> None:
    """What an application does not take stays behind, and nothing of it is lost or refused."""
    app = App()
    async with served(app) as (server, client):
        await client.send(b"hello")
        await answers(client, 1)
        (media,) = server._media()
        frames = [Frame(Opcode.TEXT, b"%d" % number) for number in range(3000)]
        media.data_received(client_frames(*frames))
        assert media.queue.qsize() <= MAX_QUEUED + READ_SLICE // 6
        heard = await answers(client, len(frames))
        assert heard == [b"long " + frame.data for frame in frames]
        await client.send(b"on")
        assert await answers(client, 1) == [b"short on"]  # reading goes on


async def test_what_still_waits_when_the_application_closes_is_thrown_away() -> None:
    async with served(App()) as (server, client):
        await client.send(b"hello")
        await answers(client, 1)
        (media,) = server._media()
        media.data_received(client_frames(*[Frame(Opcode.TEXT, b"")] * 3000))
        await media.send({"type": "websocket.close", "code": 4000})
        await until(lambda: not media._rest)
        with pytest.raises(ConnectionClosed):
            await answers(client, 3000)
        assert client.close_code == 4000


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG])
async def test_floods_of_control_frames_end_the_connection(opcode: Opcode) -> None:
    app = App()
    async with served(app, message_burst=50) as (server, client):
        client.transport.write(client_frames(*[Frame(opcode, b"")] * 40))
        await client.send(b"still here")
        assert await answers(client, 1) == [b"short still here"]
        (media,) = server._media()
        client.transport.write(client_frames(*[Frame(opcode, b"")] * 20_000))
        with pytest.raises(ConnectionClosed):
            await answers(client, 2)
        assert client.close_code == 4005
        await until(lambda: [event["code"] for event in app.events] == [4005])
        assert media._dead


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (Frame(Opcode.BINARY, b"not masked").serialize(mask=False), 1002),
        (Frame(Opcode.CLOSE, b"\x03\xe8\xff").serialize(mask=True), 1007),
    ],
    ids=["not masked", "a reason that is not UTF-8"],
)
async def test_what_is_no_frame_is_answered_with_a_close_that_says_why(sent: bytes, code: int) -> None:
    async with served(App()) as (_, client):
        client.transport.write(sent)
        with pytest.raises(ConnectionClosed):
            await answers(client, 1)
        assert client.close_code == code
        assert client.close_reason is not None
        assert client.close_reason.startswith("not a WebSocket frame: ")


async def test_a_peer_may_close_in_the_middle_of_a_message() -> None:
    app = App()
    async with served(app) as (_, client):
        close = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True)
        client.transport.write(client_frames(Frame(Opcode.BINARY, b"half", fin=False)) + close)
        with pytest.raises(ConnectionClosed):
            await answers(client, 1)
        assert client.close_code == 1000
        await until(lambda: [event["code"] for event in app.events] == [1000])


async def test_pings_after_the_close_are_not_parsed_for_ever() -> None:
    async with served(App(), message_burst=50) as (server, client):
        await client.send(b"hello")
        await answers(client, 1)
        (media,) = server._media()
        await media.send({"type": "websocket.close", "code": 4000})
        media.data_received(client_frames(*[Frame(Opcode.PING, b"")] * 100))
        assert media._dead


async def test_a_peer_that_does_not_read_makes_it_not_ready_and_last_words_pass() -> None:
    app = App()
    async with served(app, write_high_water_bytes=4096) as (server, client):
        await client.send(b"hello")
        await answers(client, 1)
        client.transport.pause_reading()
        (media,) = server._media()

        async def is_full() -> bool:
            """Fills the buffers; False if the kernels made room for more meanwhile."""
            while media.ready():
                media.write(bytes(10_000))
            await asyncio.sleep(0.05)
            return not media.ready()

        while not await is_full():
            pass

        waiting = asyncio.create_task(media.send({"type": "websocket.send", "text": "error"}))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        app.scopes[0]["extensions"][LAST_WORDS]()
        await asyncio.wait_for(waiting, PATIENCE_S)
        media.transport.abort()


async def test_when_a_peer_is_gone_the_application_hears_of_it_and_nothing_refers_back() -> None:
    app = App()
    async with served(app) as (server, client):
        client.transport.abort()
        await until(lambda: [event["type"] for event in app.events] == ["websocket.disconnect"])
        await until(lambda: not server.server_state.connections)
        assert not {LAST_WORDS, SHORT_CUT} & set(app.scopes[0]["extensions"])


async def test_a_server_that_stops_says_so_first_and_cuts_those_who_stay() -> None:
    app = App()
    began = asyncio.get_running_loop().time()
    async with served(app, close_timeout_s=0.2) as (server, client):
        await client.send(b"1")
        await answers(client, 1)
        server.should_exit = True
        with pytest.raises(ConnectionClosed):
            await answers(client, 1)
    assert app.before_close == 1
    assert asyncio.get_running_loop().time() - began < PATIENCE_S
