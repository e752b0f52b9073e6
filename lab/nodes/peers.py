"""Light clients that say codes of nothing, and note when what others say comes."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from earshot.client.net.websocket import join, open_connection, room_url
from earshot.codec.bitstream import pack
from earshot.protocol.messages import PROTOCOL, Hello, PeerJoined, Ping, Pong, Welcome, parse_server
from earshot.protocol.packet import Packet, Trace, encode_codes_up
from earshot.protocol.sequence import CLOCK_MODULUS
from earshot.protocol.short_headers import LinkReader

HOP, RATE = 320, 24_000
FRAME_S = HOP / RATE
N_Q = 8
LATE_S = 0.5


@dataclass
class Line:
    """What came of one speaker, by name, whatever its ids were."""

    frames: int = 0
    missing: int = 0
    """Frames that are missing between others of one stay in the room."""
    arrived_s: list[float] = field(default_factory=list)
    relayed_us: dict[int, int] = field(default_factory=dict)
    """By sequence: when the server passed the packet on."""


class Peer:
    """A client in a room."""

    def __init__(self, connection: ClientConnection, welcome: Welcome) -> None:
        self._connection, self.welcome = connection, welcome
        self.lines: dict[str, Line] = defaultdict(Line)
        self.clock_us: int | None = None
        self._names = {peer.id: peer.name for peer in welcome.peers}
        self._next: dict[int, int] = {}
        self._link = LinkReader(HOP, welcome.short_headers, welcome.silence)
        self._sequence = 0
        self._tasks = [asyncio.create_task(self._read())]

    @classmethod
    async def enter(
        cls, server: str, room: str, name: str, digest: str, send: str = "codes", want: str = "codes"
    ) -> Self:
        """Comes into a room. Raises Lost."""
        connection = await open_connection(room_url(server, room))
        hello = Hello(protocol=PROTOCOL, name=name, model=digest, send=send, want=want, trace=True)  # type: ignore[arg-type]
        return cls(connection, await join(connection, hello))

    async def _read(self) -> None:
        with suppress(ConnectionClosed):
            async for message in self._connection:
                at_s = time.monotonic()
                if isinstance(message, bytes):
                    self._hear(message, at_s)
                    continue
                told = parse_server(message)
                if isinstance(told, PeerJoined):
                    self._names[told.peer.id] = told.peer.name
                elif isinstance(told, Pong):
                    self.clock_us = told.sent_us

    def _hear(self, message: bytes, at_s: float) -> None:
        for part in self._link.down(message):
            if not isinstance(part, Packet):
                continue
            line = self.lines[self._names.get(part.source, "")]
            expected = self._next.get(part.source)
            if expected is not None:
                line.missing += (part.sequence - expected) % (1 << 16)
            self._next[part.source] = (part.sequence + part.frames) % (1 << 16)
            line.frames += part.frames
            line.arrived_s.append(at_s)
            if part.trace is not None:
                line.relayed_us[part.sequence] = part.trace.capture_us + 100 * part.trace.relayed

    @property
    def open(self) -> bool:
        return self._connection.close_code is None

    async def know_the_time(self) -> None:
        """Asks the server for its clock."""
        await self._connection.send(Ping(sent_us=0).model_dump_json())
        while self.clock_us is None:  # noqa: ASYNC110 -- a moment
            await asyncio.sleep(0.005)

    def talk(self, seed: int = 0) -> None:
        """Begins to speak, a frame at a time, each traced."""
        self._tasks.append(asyncio.create_task(self._talk(seed)))

    async def _talk(self, seed: int) -> None:
        await self.know_the_time()
        codes = np.random.default_rng(seed).integers(0, 1024, (64, N_Q, 1))
        payloads = [pack(each) for each in codes]
        ahead_us = (self.clock_us or 0) - time.monotonic_ns() // 1000
        due = time.monotonic()
        with suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                trace = Trace((time.monotonic_ns() // 1000 + ahead_us) % CLOCK_MODULUS)
                number = self._sequence
                packet = Packet(N_Q, 1, number % (1 << 16), number * HOP, payloads[number % 64], trace)
                await self._connection.send(encode_codes_up(packet))
                self._sequence += 1
                due = max(due + FRAME_S, time.monotonic() - LATE_S)

    @property
    def spoken(self) -> int:
        """Frames so far."""
        return self._sequence

    async def leave(self) -> None:
        for task in self._tasks[1:]:
            task.cancel()
        await self._connection.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
