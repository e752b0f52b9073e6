"""What a client sends over a line that takes nothing, against a real socket whose other end does
not read."""

from __future__ import annotations

import asyncio
import socket

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from earshot.client.core.adaptation import Amount
from earshot.client.core.clock import ServerClock
from earshot.client.core.sender import Sender
from earshot.client.core.traffic import WireMeter
from earshot.client.local_clock import monotonic_us
from earshot.client.net import line as net_line
from earshot.client.net.line import Line, unacknowledged
from earshot.client.net.websocket import Outbox, open_connection, room_url
from earshot.protocol.messages import Pong
from tests.peers import PATIENCE_S, until

RATES = (1.5, 3.0, 6.0)


class Encoder:
    kbps = 6.0

    def push(self, pcm: object, /) -> object:
        raise NotImplementedError


async def test_a_line_that_takes_nothing_is_sent_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_line, "SETTLE_US", 0)
    monkeypatch.setattr(net_line, "MOST_WAITING_US", 500_000)
    reading = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await reading.wait()
        connection.transport.resume_reading()
        async for _ in connection:
            pass

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    async with asyncio.timeout(PATIENCE_S), serve(handler, sock=listener, subprotocols=[Subprotocol("earshot.v1")]):
        port = listener.getsockname()[1]
        connection = await open_connection(room_url(f"ws://127.0.0.1:{port}", "den"))
        outbox, clock, line, meter = Outbox(), ServerClock(), Line(Amount(3, 6.0), RATES), WireMeter(masked=True)
        clock.pong(Pong(ping_us=clock.ping(0).sent_us, received_us=5, sent_us=5), 10)
        sender = Sender("codes", encoder=Encoder(), frames_per_packet=3)  # type: ignore[arg-type]
        line.begin(connection, meter, adapts=True)
        tasks = [
            asyncio.create_task(outbox.write(connection, None, line.sent, line.room)),
            asyncio.create_task(line.watch(outbox, clock, lambda: sender)),
        ]
        outbox.put(bytes(100_000))
        await until(lambda: sender.kbps == 1.5)
        assert sender.frames_per_packet == 6
        assert line.notice == "the line is slow: sending 1.5 kbps, 6 frames a message"
        assert unacknowledged(connection) > 10_000
        line.want(sender, kbps=3.0)  # the user's wish counts once the line is good again
        assert sender.kbps == 1.5
        held = meter.messages
        outbox.put(b"speech")
        await until(lambda: outbox.age_us(monotonic_us()) > 500_000)
        assert meter.messages == held
        reading.set()
        await until(lambda: unacknowledged(connection) == 0)
        outbox.put(b"later speech")
        await until(lambda: meter.messages > held)
        assert outbox.dropped == 1  # the network did not take it for so long that nobody waits for it
        for task in tasks:
            task.cancel()
        await asyncio.wait_for(connection.close(), PATIENCE_S)
