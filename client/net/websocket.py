"""The WebSocket of a call: how it is made, what can go wrong with it in words, and the queue of
what goes out."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from pydantic import BaseModel
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    SecurityError,
)
from websockets.typing import Subprotocol

from earshot.client.local_clock import monotonic_us
from earshot.client.net.failures import OPEN_TIMEOUT_S, why_not
from earshot.codec.errors import UsageError
from earshot.codec.proxies import proxy_for, shown_as
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import ROOM_PATTERN, SUBPROTOCOL, Error, Hello, Welcome, parse_server
from earshot.protocol.text import MAX_SHOWN, clean

CLOSE_TIMEOUT_S = 1.0
IMPATIENT_S = 2.0
"""How long a connection may take to be made where there is another server."""
MAX_AGE_US = 250_000
"""Speech that waits longer than this for the network is dropped. The server does the same."""
MAX_WAITING = 256
"""Messages that may wait for the network (3.4 s of speech)."""
FINAL = {
    CloseCode.MALFORMED,
    CloseCode.UNSUPPORTED_VERSION,
    CloseCode.MODEL_MISMATCH,
    CloseCode.HELLO_EXPECTED,
    CloseCode.MESSAGE_TOO_BIG,
    CloseCode.BAD_ROOM,
    CloseCode.NOT_INVITED,
    CloseCode.TOKEN_EXPIRED,
    CloseCode.ANOTHER_ROOM,
    CloseCode.NOT_GRANTED,
    CloseCode.REMOVED,
    CloseCode.CAME_BACK,
}
"""Close codes after which another try would end the same way."""


class Lost(Exception):  # noqa: N818 -- a turn of events, handled by connecting again
    """Says that the connection is gone or was refused. `code` is the close code if the server gave
    one. The message may hold words of the server's, so that it is made clean."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(clean(message, MAX_SHOWN))
        self.code = code

    @property
    def final(self) -> bool:
        """Whether another try would end the same way."""
        return self.code in FINAL

    @classmethod
    def closed(cls, error: ConnectionClosed) -> Lost:
        """Says why a connection was closed, in the server's words if it gave any."""
        close = error.rcvd
        if close is None:
            return cls("the connection to the server broke off")
        return cls(close.reason or f"the server closed the connection (code {close.code})", close.code)

    @classmethod
    def first_of(cls, group: ExceptionGroup[Exception]) -> Exception:
        """Returns what ended the tasks of a connection: an error message of the server if there is
        one, because it says more than the broken connection that follows."""
        first = next((error for error in group.exceptions if isinstance(error, cls)), group.exceptions[0])
        return cls.closed(first) if isinstance(first, ConnectionClosed) else first


def room_url(server: str, room: str) -> str:
    """Returns the address of a room. `server` may lack ws:// and may be http(s)://.

    Raises UsageError for what cannot be an address or a room."""
    server = server.strip()
    if not re.fullmatch(ROOM_PATTERN, room):
        raise UsageError(f"{room!r} is no room name: it may have 1 to 64 of A-Z a-z 0-9 _ -")
    address = re.sub(r"^http(s?)://", r"ws\1://", server)
    if "://" not in address:
        address = f"ws://{address}"
    if not _is_address(address):
        raise UsageError(f"{server!r} is no address of a server; it looks like ws://HOST:8765 or wss://HOST")
    return f"{address.rstrip('/')}/v1/rooms/{room}"


def _is_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").encode("idna")
        return parts.scheme in ("ws", "wss") and bool(host) and parts.port != 0 and not parts.query
    except ValueError:  # a port or a host name that there cannot be
        return False


class _Connect(connect):
    """Follows redirects of web servers too, which name http(s) and not ws(s) addresses."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        if isinstance(exc, InvalidStatus) and (place := exc.response.headers.get("Location")):
            del exc.response.headers["Location"]
            exc.response.headers["Location"] = re.sub(r"^http(s?)://", r"ws\1://", place, flags=re.IGNORECASE)
        return super().process_redirect(exc)


async def open_connection(url: str, tls: ssl.SSLContext | None = None, patient: bool = True) -> ClientConnection:
    """Opens a WebSocket that sends small messages at once. `tls` checks the server's certificate in
    another way than browsers do. Not to be `patient` is for where there are other servers. Raises
    Lost, and UsageError for a proxy that cannot be used."""
    server = url.partition("/v1/")[0]
    proxy = proxy_for(url)
    try:
        connection = await _Connect(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            open_timeout=OPEN_TIMEOUT_S if patient else IMPATIENT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=None,
            max_size=1 << 20,
            max_queue=64,
            write_limit=4096,
            ssl=tls or (True if url.startswith("wss:") else None),
            proxy=proxy,
        )
    except ConnectionClosed as error:
        raise Lost.closed(error) from error
    except (InvalidURI, InvalidHandshake, InvalidProxy, SecurityError, TimeoutError, OSError) as error:
        raise Lost(why_not(error, server, proxy and shown_as(proxy))) from error
    plug = connection.transport.get_extra_info("socket")
    if plug is not None:
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


async def join(connection: ClientConnection, hello: Hello) -> Welcome:
    """Says hello and returns the server's welcome. Raises Lost, with the server's sentence, if it
    refuses, or if its room has another model."""
    try:
        await connection.send(hello.model_dump_json())
        answer = await asyncio.wait_for(connection.recv(), OPEN_TIMEOUT_S)
    except ConnectionClosed as error:
        raise Lost.closed(error) from error
    except TimeoutError as error:
        raise Lost("the server does not answer") from error
    try:
        message = parse_server(answer) if isinstance(answer, str) else None
    except ProtocolError:
        message = None
    if isinstance(message, Error):
        raise Lost(message.message, message.code)
    if not isinstance(message, Welcome):
        raise Lost(f"the server does not speak {SUBPROTOCOL}", CloseCode.UNSUPPORTED_VERSION)
    if hello.send_model is not None and not message.windows:
        raise Lost("this server is older than music in rooms; update it", CloseCode.UNSUPPORTED_VERSION)
    if hello.model is not None and message.model.digest != hello.model:
        raise Lost(
            f"this room speaks the model {message.model.name} ({message.model.digest}) and you have {hello.model}; "
            "start with the server's --model",
            CloseCode.MODEL_MISMATCH,
        )
    return message


class Outbox:
    """Holds what waits for the network, oldest first. Speech that waits too long, or that is too
    much, is dropped."""

    def __init__(self) -> None:
        self.dropped = 0
        self._waiting: deque[tuple[int, str | bytes]] = deque()
        self._something = asyncio.Event()

    def age_us(self, now_us: int) -> int:
        """Returns how long the oldest message has waited; 0 if none waits."""
        return now_us - self._waiting[0][0] if self._waiting else 0

    def put(self, message: BaseModel | bytes) -> None:
        """Adds a control message or a media message."""
        if not isinstance(message, bytes):
            self._waiting.append((monotonic_us(), message.model_dump_json(exclude_none=True)))
        else:
            self._waiting.append((monotonic_us(), message))
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._something.set()

    async def write(
        self,
        connection: ClientConnection,
        encode: Callable[[bytes], Awaitable[bytes]] | None = None,
        sent: Callable[[int, int], None] = lambda now_us, size: None,
        room: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Sends until it is cancelled. Media messages go through `encode` right before they are
        sent, so that it sees nothing that is dropped. `sent` gets the time and the size of each
        message; `room` returns when another may follow. Raises ConnectionClosed."""
        while True:
            await self._something.wait()
            self._something.clear()
            while self._waiting:
                if room is not None:
                    await room()
                at, message = self._waiting.popleft()
                if isinstance(message, bytes) and monotonic_us() - at > MAX_AGE_US:
                    self.dropped += 1
                    continue
                if encode and isinstance(message, bytes):
                    message = await encode(message)
                sent(monotonic_us(), len(message))
                await connection.send(message)

    def clear(self) -> None:
        """Drops what was meant for a connection that is gone, and counts it."""
        self.dropped += sum(isinstance(message, bytes) for _, message in self._waiting)
        self._waiting.clear()
