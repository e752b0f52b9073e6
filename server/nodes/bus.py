"""The connection to NATS: what goes to which node, and what comes."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from earshot.codec.errors import UsageError
from earshot.protocol.text import MAX_SHOWN, clean
from earshot.server.core.bus_messages import MAX_MEDIA_BYTES, media_message

try:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
except ImportError as error:
    raise UsageError("several nodes need nats-py: pip install 'earshot[nats]'") from error

log = logging.getLogger(__name__)

EVERYONE = "earshot.all"
MAX_CONTROL = 4096
"""Control messages that wait."""
MAX_MEDIA = MAX_MEDIA_BYTES - 1024
"""Bytes of media that wait for one node; what is over is lost."""
MAX_UNSENT = 1 << 20
"""Bytes that may wait in the connection to NATS; above it media are lost."""
MAX_INCOMING, MAX_INCOMING_BYTES = 4096, 8 << 20
"""Messages, and bytes of them, that wait until they are read."""
RETRY_S = 0.25
LOOK_S = 0.1
"""A connection of which nothing is asked is looked at so often."""


def subject_of(node: str) -> str:
    """Returns where a node is told something."""
    return f"earshot.to.{node}"


class Bus:
    """Sends control messages and media, and passes on what comes. It connects again and again, and
    while it is not connected, everything that is to be sent is dropped: it would come too late."""

    def __init__(
        self, url: str, me: str, boot: int, tick_s: float, take: Callable[[bytes], None], back: Callable[[], None]
    ) -> None:
        """`take` gets every message that comes, and raises nothing; `back` is called when the bus
        is there, and there again. Raises UsageError for an address that cannot be."""
        if not url.startswith(("nats://", "tls://")) or len(url.split("://", 1)[1]) == 0:
            raise UsageError("the bus is named as nats://HOST:4222, or tls://HOST:4222 (--bus, EARSHOT_BUS)")
        self._url, self._me, self._boot, self._tick_s, self._take, self._back = url, me, boot, tick_s, take, back
        self._client = Client()
        self._control: deque[tuple[str, bytes]] = deque()
        self._media: dict[str, list[bytes]] = {}
        self._sizes: Counter[str] = Counter()
        self._something = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.why_not = "not connected yet"
        self.counts: Counter[str] = Counter()
        """Messages and bytes of them in both directions, and what was dropped."""

    @property
    def connected(self) -> bool:
        return self._client.is_connected

    async def start(self) -> None:
        """Begins to connect, and to send."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Sends what waits, if that is possible, and ends the connection."""
        await asyncio.sleep(0)
        with suppress(Exception):
            async with asyncio.timeout(1.0):
                await self._send_all()
                await self._client.flush()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._one_connection()
            except Exception as error:
                self._note(error)
            await asyncio.sleep(RETRY_S)

    async def _one_connection(self) -> None:
        """Goes on until the connection ends, and leaves none behind. The client of nats-py does not
        connect again by itself: between two connections it would leave a socket open."""
        self._client = client = Client()
        try:
            await client.connect(
                self._url,
                name=f"earshot {self._me}",
                error_cb=self._error,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=1,
                connect_timeout=2,
                ping_interval=2,
                max_outstanding_pings=2,
                no_echo=True,
            )
            for subject in (EVERYONE, subject_of(self._me)):
                await client.subscribe(
                    subject,
                    cb=self._came,
                    pending_msgs_limit=MAX_INCOMING,
                    pending_bytes_limit=MAX_INCOMING_BYTES,
                )
            await client.flush()
            log.info("the bus is there")
            self._back()
            await self._pump(client)
            log.warning("the bus is gone")
        finally:
            self._drop()
            with suppress(Exception):
                async with asyncio.timeout(1.0):
                    await client.close()

    async def _error(self, error: Exception) -> None:
        self._note(error)

    def _note(self, error: Exception) -> None:
        self.counts["errors"] += 1
        self.why_not = clean(str(error) or type(error).__name__, MAX_SHOWN)

    async def _came(self, message: Msg) -> None:
        self.counts["messages_in"] += 1
        self.counts["bytes_in"] += len(message.data)
        self._take(message.data)

    # What goes out

    def tell(self, node: str | None, data: bytes) -> None:
        """Sends a control message to a node, or to all."""
        if not self.connected or len(self._control) >= MAX_CONTROL:
            self.counts["control_dropped"] += 1
            return
        self._control.append((EVERYONE if node is None else subject_of(node), data))
        self._something.set()

    def say(self, node: str, entry: bytes) -> None:
        """Sends an entry of media to a node, with all others that go there now."""
        if not self.connected or self._sizes[node] + len(entry) > MAX_MEDIA:
            self.counts["media_dropped"] += 1
            return
        self._sizes[node] += len(entry)
        self._media.setdefault(node, []).append(entry)
        self._something.set()

    async def _pump(self, client: Client) -> None:
        """Sends what comes, at most once a tick, until the connection is lost."""
        loop = asyncio.get_running_loop()
        while client.is_connected:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._something.wait()
            self._something.clear()
            sent_s = loop.time()
            try:
                await self._send_all()
            except Exception as error:
                self._note(error)
            await asyncio.sleep(max(0.0, sent_s + self._tick_s - loop.time()))

    def _take_all(self) -> tuple[deque[tuple[str, bytes]], dict[str, list[bytes]]]:
        control, self._control = self._control, deque()
        media, self._media = self._media, {}
        self._sizes.clear()
        return control, media

    def _drop(self) -> None:
        """Drops what waits: the next connection is too late for it."""
        control, media = self._take_all()
        self.counts["control_dropped"] += len(control)
        self.counts["media_dropped"] += sum(map(len, media.values()))

    async def _send_all(self) -> None:
        control, media = self._take_all()
        for subject, data in control:
            await self._publish(subject, data)
        for node, entries in media.items():
            if self._client.pending_data_size > MAX_UNSENT:
                self.counts["media_dropped"] += len(entries)
                continue
            await self._publish(subject_of(node), media_message(self._me, self._boot, entries))

    async def _publish(self, subject: str, data: bytes) -> None:
        await self._client.publish(subject, data)
        self.counts["messages_out"] += 1
        self.counts["bytes_out"] += len(data)

    def stats(self) -> dict[str, Any]:
        """Returns what `/stats` shows."""
        return {"connected": self.connected} | dict(self.counts)
