"""What goes out on one client's WebSocket: control messages first, then media when they are due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import WebSocket

from earshot.server.clock import clock_us
from earshot.server.core import refusals
from earshot.server.core.packet_coding import PLAIN, PacketCoding
from earshot.server.core.session import Session
from earshot.server.net.asgi_extensions import ShortCut


class _NoShortCut:
    """Stands in where a connection has no short cut: nothing can be written through it."""

    media: Callable[[bytes], None] | None = None

    def ready(self) -> bool:
        return False

    def write(self, message: bytes) -> None:
        raise RuntimeError("this connection has no short cut")


class Sender:
    """Takes from a session what waits there. Media go out at once, from whoever has queued them,
    where there is a short cut and nothing else is on its way; all else is sent by `run`."""

    def __init__(self, websocket: WebSocket, session: Session, timeout_s: float) -> None:
        """`timeout_s` is how long the client may take to take a message."""
        self._websocket, self._session, self._timeout_s = websocket, session, timeout_s
        self._something = asyncio.Event()
        self._sending = False
        self.coding: PacketCoding = PLAIN
        self._link: ShortCut = _NoShortCut()
        self._alarm: asyncio.TimerHandle | None = None
        """Rings when media are due that were not when they came."""

    def take_short_cut(self, link: ShortCut) -> None:
        """Sends media by this link where possible."""
        self._link = link

    def leave_short_cut(self) -> None:
        """Sends by the WebSocket only."""
        self._link.media = None
        self._link = _NoShortCut()
        if self._alarm is not None:
            self._alarm.cancel()

    def notice(self) -> None:
        """Wakes `run`: a control message waits."""
        self._something.set()

    def wake(self) -> None:
        """Sends the media that are due, by the short cut now or when they are, or wakes `run` to do
        it."""
        if not self._send_at_once():
            self._something.set()

    def _ring(self) -> None:
        self._alarm = None
        self.wake()

    def _send_at_once(self) -> bool:
        """Returns whether nothing is left for `run`."""
        session, link = self._session, self._link
        if self._sending or session.outbox:
            return False
        while (due_us := session.due_us(now_us := clock_us())) is not None:
            if not link.ready():
                return False
            if due_us > now_us:
                if self._alarm is None:
                    self._alarm = asyncio.get_running_loop().call_later((due_us - now_us) / 1e6, self._ring)
                return True
            for message in session.next_media(now_us):
                link.write(message)
        return True

    async def run(self) -> None:
        """Sends until it is cancelled. Raises ProtocolError if the client takes a message too
        slowly."""
        session = self._session
        while True:
            await self._something.wait()
            self._something.clear()
            while (text := session.next_control(clock_us())) is not None:
                await self._send(text)
            now_us = clock_us()
            due_us = session.due_us(now_us)
            if due_us is None:
                continue
            if due_us > now_us:
                timer = asyncio.get_running_loop().call_later((due_us - now_us) / 1e6, self._something.set)
                await self._something.wait()
                timer.cancel()
                continue
            for message in session.written(await self.coding.code(session.take(now_us), clock_us)):
                await self._send(message)
            self._something.set()

    async def _send(self, message: str | bytes) -> None:
        self._sending = True
        try:
            async with asyncio.timeout(self._timeout_s):
                if isinstance(message, bytes):
                    await self._websocket.send_bytes(message)
                else:
                    await self._websocket.send_text(message)
        except TimeoutError:
            raise refusals.too_slow() from None
        finally:
            self._sending = False
