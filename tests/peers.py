"""Real peers for tests: a server on loopback in a thread of its own, and clients over real
WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import websockets
from websockets.asyncio.client import ClientConnection, connect

from earshot.codec.bitstream import pack, unpack
from earshot.codec.config import ModelConfig
from earshot.codec.lm.entropy import LiveLm
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from earshot.protocol.entropy_link import LinkDecoder, LinkEncoder
from earshot.protocol.messages import PROTOCOL, SUBPROTOCOL, Error, Hello, Stats, Welcome, parse_server
from earshot.protocol.packet import (
    CodedPacket,
    Packet,
    PcmBlock,
    PcmFormat,
    PcmUp,
    encode_codes_up,
    encode_pcm_up,
)
from earshot.protocol.short_headers import LinkReader
from earshot.protocol.silence import Silence
from earshot.server.app import create_app
from earshot.server.core.packet_coding import no_entropy
from earshot.server.entropy.coded_connections import entropy_by
from earshot.server.net.serve import bind, make_server
from earshot.server.settings import Settings

HOP = 320
FRAME_S = HOP / 24_000
PATIENT: dict[str, Any] = {
    "join_after_ms": 4000,
    "cut_to_4_after_ms": 6000,
    "cut_to_2_after_ms": 8000,
    "drop_after_ms": 10_000,
    "encoder_backlog_frames": 250,
    "ping_timeout_s": 60,
    "late_after": 1000.0,
    "stuck_after_s": 60,
    "stats_age_s": 0.001,
}
"""Settings under which frames wait longer than by default before they are joined, cut or dropped:
server and peers share one process and its cores, and a pause of all of them is not what is tested.
Tests in fake time cover the degradation."""
PATIENCE_S = 40.0
"""Timeout of things that take an instant on a quiet machine."""
START_S = 100.0
"""The same for a process that loads a model."""
LATE_S = 0.5
"""Longest delay that a speaker makes up for. After a longer one it does not catch up, because that
would look like audio faster than real time."""
TINY = ModelConfig(name="tiny", n_filters=4, n_codebooks=16, bandwidths=(1.5, 3.0, 6.0, 12.0), padding="zeros")


def tiny_model(seed: int = 3) -> Model:
    """Returns a small random model whose codebooks fit its latents, so that different sounds have
    different codes."""
    torch.manual_seed(seed)
    network = Encodec(TINY)
    latents, _ = network.encoder.step(torch.randn(1, 1, 24_000), None, "zeros", last=True)
    network.quantizer.codebooks.copy_(torch.randn_like(network.quantizer.codebooks) * float(latents.detach().std()))
    return Model(network)


def noise(frames: int, seed: int) -> np.ndarray:
    """Returns samples [frames * HOP] that are never the same."""
    return np.random.default_rng(seed).standard_normal(frames * HOP).astype(np.float32) * 0.1


@dataclass
class RunningServer:
    url: str
    model: Model
    settings: Settings
    hub: Any
    loop: asyncio.AbstractEventLoop
    lm: LiveLm | None = None
    door: Any = None
    health_url: str | None = None

    def room(self, name: str) -> str:
        return f"{self.url}/v1/rooms/{name}"

    def call_soon(self, work: Callable[[], None]) -> None:
        """Runs a function on the server's loop, between two of its own steps."""
        self.loop.call_soon_threadsafe(work)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url.replace("ws", "http", 1) + path, timeout=PATIENCE_S) as answer:  # noqa: S310
            return json.load(answer)


@contextlib.contextmanager
def running_server(model: Model, lm: LiveLm | None = None, port: int = 0, **settings: Any) -> Iterator[RunningServer]:
    """Runs a server on a port of loopback (0: a free one), with more patience than by default. At
    the end it is stopped, and checked to have stopped."""
    ready = threading.Event()
    ports: list[int] = []
    loops: list[asyncio.AbstractEventLoop] = []
    limits = Settings(**{"workers": 1, **PATIENT, **settings})

    def at_port(port: int) -> None:
        ports.append(port)
        loops.append(asyncio.get_running_loop())
        ready.set()

    app = create_app(model, limits, entropy=entropy_by(lm) if lm else no_entropy)
    server = make_server(app, limits, at_port)
    sockets = [bind("127.0.0.1", at) for at in ((port,) if limits.health_port is None else (port, 0))]
    app.state.health_ports = {listener.getsockname()[1] for listener in sockets[1:]}
    health_url = f"ws://127.0.0.1:{sockets[1].getsockname()[1]}" if len(sockets) > 1 else None
    thread = threading.Thread(target=server.run, args=[sockets], daemon=True)
    thread.start()
    assert ready.wait(PATIENCE_S), "the server did not start"
    try:
        state = server.config.app.state
        yield RunningServer(
            f"ws://127.0.0.1:{ports[0]}", model, limits, state.hub, loops[0], lm, state.door, health_url
        )
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the server did not stop"


@dataclass
class Heard:
    """What a peer received of one speaker."""

    packets: list[Packet | PcmBlock] = field(default_factory=list)

    @property
    def frames(self) -> int:
        return sum(p.frames if isinstance(p, Packet) else len(p.data) // 2 // HOP for p in self.packets)

    @property
    def missing(self) -> int:
        """Number of frames missing between the first and the last, by sequence."""
        first, last = self.packets[0], self.packets[-1]
        count = last.frames if isinstance(last, Packet) else len(last.data) // 2 // HOP
        return (last.sequence + count - first.sequence) % 65536 - self.frames

    def codes(self) -> np.ndarray:
        return np.concatenate([unpack(p.payload, p.n_q, p.frames) for p in self.packets], axis=1)

    def pcm(self) -> np.ndarray:
        return np.frombuffer(b"".join(p.data for p in self.packets), "<i2")


class TestPeer:
    """A client that keeps everything it receives. It reads all the time, and uses entropy coding if
    that was agreed."""

    __test__ = False

    def __init__(self, socket: ClientConnection, welcome: Welcome, lm: LiveLm | None = None) -> None:
        self.socket, self.welcome = socket, welcome
        self.id = welcome.peer
        self.heard: dict[int, Heard] = defaultdict(Heard)
        self.control: list[Any] = []
        self.binary_messages = 0
        self.encoder = LinkEncoder(lm.lm) if lm else None
        self._decoder = LinkDecoder(lm.lm) if lm else None
        self._link = LinkReader(HOP, welcome.short_headers, welcome.silence)
        self.silences: list[Silence] = []
        self.coded = 0
        """Number of packets that came entropy-coded."""
        self.sequence = 0
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for message in self.socket:
                if isinstance(message, str):
                    self.control.append(parse_server(message))
                else:
                    self.binary_messages += 1
                    for part in self._link.down(message):
                        if isinstance(part, Silence):
                            self.silences.append(part)
                            continue
                        if isinstance(part, CodedPacket):
                            assert self._decoder is not None
                            part = self._decoder.decode(part)
                            self.coded += 1
                        self.heard[part.source].packets.append(part)

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.control if isinstance(message, kind)]

    async def say(self, message: Any) -> None:
        await self.socket.send(message.model_dump_json())

    async def send_codes(self, codes: np.ndarray, trace: Any = None) -> None:
        """Sends codes [n_q, frames] as one packet."""
        packet = Packet(*codes.shape, self.sequence % 65536, self.sequence * HOP, pack(codes), trace)
        self.sequence += codes.shape[1]
        await self.socket.send(encode_codes_up(self.encoder.encode(packet) if self.encoder else packet))

    async def send_pcm(self, pcm: np.ndarray, sequence: int, timestamp: int, trace: Any = None) -> None:
        data = np.asarray(pcm, "<f4").tobytes()
        await self.socket.send(encode_pcm_up(PcmUp(PcmFormat.F32, sequence % 65536, timestamp, data, trace)))

    async def talk(self, codes: np.ndarray) -> None:
        """Sends codes [n_q, frames] in real time, a packet per frame."""
        async for index in real_time(codes.shape[1], FRAME_S):
            await self.send_codes(codes[:, index : index + 1])

    async def closed(self, within_s: float = PATIENCE_S) -> tuple[int, str]:
        """Waits for the server to close. Returns the close code, and the text of its error
        message."""
        await asyncio.wait_for(self._reader, within_s)
        errors = self.of(Error)
        assert errors, f"closed with {self.socket.close_code} without an error message"
        assert errors[-1].code == self.socket.close_code
        return errors[-1].code, errors[-1].message

    async def stats(self) -> Stats:
        """Returns the next statistics that the server sends."""
        count = len(self.of(Stats))
        await until(lambda: len(self.of(Stats)) > count)
        return self.of(Stats)[-1]

    async def leave(self) -> None:
        await self.socket.close()
        await self._reader


async def real_time(count: int, interval_s: float) -> AsyncIterator[int]:
    """Yields 0 to `count` - 1, one every `interval_s`."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    for index in range(count):
        await asyncio.sleep(max(0.0, due - loop.time()))
        yield index
        due = max(due + interval_s, loop.time() - LATE_S)


async def until(condition: Any, within_s: float = PATIENCE_S) -> None:
    """Waits until a condition is true."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def join(server: RunningServer, room: str, **hello: Any) -> TestPeer:
    """Connects a peer and waits for its welcome."""
    peer = await connect(
        server.room(room),
        subprotocols=[SUBPROTOCOL],
        compression=None,
        max_queue=None,
        open_timeout=PATIENCE_S,
        ping_interval=None,
    )
    try:
        await peer.send(
            Hello(**{"protocol": PROTOCOL, "model": server.model.digest, "send": "codes", **hello}).model_dump_json()
        )
        welcome = parse_server(await asyncio.wait_for(peer.recv(), PATIENCE_S))
        assert isinstance(welcome, Welcome), welcome
    except BaseException:
        await peer.close()
        raise
    return TestPeer(peer, welcome, server.lm if welcome.entropy else None)


async def quiet_socket(url: str, room: str, greeting: str = "", receive_buffer: int = 2048) -> socket.socket:
    """Opens a non-blocking WebSocket by hand; after its handshake nobody reads from it. `greeting`
    is the only message it sends. With a small receive buffer, the other end soon notices that
    nothing is read."""
    loop = asyncio.get_running_loop()
    host, port = url.removeprefix("ws://").split(":")
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.setblocking(False)
    await loop.sock_connect(raw, (host, int(port)))
    handshake = (
        f"GET /v1/rooms/{room} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    )
    await loop.sock_sendall(raw, handshake.encode())
    assert b" 101 " in await loop.sock_recv(raw, 1024)
    if greeting:
        data = greeting.encode()
        await loop.sock_sendall(raw, b"\x81\xfe" + struct.pack(">H", len(data)) + bytes(4) + data)
    return raw


@contextlib.asynccontextmanager
async def bystanders(server: RunningServer, room: str, seed: int = 0) -> AsyncIterator[tuple[TestPeer, TestPeer]]:
    """Runs two well-behaved peers that talk to each other. At the end every frame must have arrived
    once, in order and unharmed, or the test fails."""
    await until(lambda: room not in server.hub.rooms)  # peers of the previous test may still be leaving
    peers = await join(server, room), await join(server, room)
    random = np.random.default_rng(seed)
    said: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    stop = asyncio.Event()

    async def talk(peer: TestPeer, frames: list[np.ndarray]) -> None:
        async for _ in real_time(60_000, FRAME_S):
            if stop.is_set():
                return
            frames.append(random.integers(0, 1024, (8, 1)))
            await peer.send_codes(frames[-1])

    def heard() -> list[int]:
        return [listener.heard[speaker.id].frames for listener, speaker in (peers, peers[::-1])]

    talks = [asyncio.create_task(talk(peer, frames)) for peer, frames in zip(peers, said, strict=True)]
    try:
        await until(lambda: min(heard()) > 10)
        yield peers
        counts = heard()
        await until(lambda: all(now > before + 10 for now, before in zip(heard(), counts, strict=True)))
    finally:
        stop.set()
        await asyncio.gather(*talks)
    for listener, speaker, frames in ((peers[0], peers[1], said[1]), (peers[1], peers[0], said[0])):
        line = listener.heard[speaker.id]
        await until(lambda line=line, frames=frames: line.frames >= len(frames))
        assert line.missing == 0
        np.testing.assert_array_equal(line.codes(), np.concatenate(frames, axis=1))
    for peer in peers:
        await peer.leave()
