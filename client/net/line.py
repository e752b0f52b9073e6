"""Watches how a call's line takes what is sent, and steers how much that is."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterable

from websockets.asyncio.client import ClientConnection

from earshot.client.core.adaptation import SETTLE_US, Adaptation, Amount
from earshot.client.core.backlog import TLS_BYTES, Backlog
from earshot.client.core.clock import ServerClock
from earshot.client.core.economy import Economy
from earshot.client.core.sender import MediaSender
from earshot.client.core.traffic import WireMeter
from earshot.client.local_clock import monotonic_us
from earshot.client.net.websocket import Outbox

TOLD = sys.platform == "linux"
"""Whether the system tells what the other end has not acknowledged. Elsewhere the answer to a ping
must do, which comes more seldom."""
if sys.platform == "linux":
    import fcntl
    import termios

LOOK_S = 0.05
HUSHED_LOOKS = 5
"""Looks in which nothing was sent before it counts as silence."""
WEBSOCKET_BYTES = 6
"""Head and mask of a message from a client."""
MOST_WAITING_US = 2_000_000
"""What waits at the socket for longer keeps more in the outbox, which drops what is old."""


class Line:
    """The line of one call. It keeps what was learnt when a connection is made anew."""

    def __init__(self, most: Amount, rates: Iterable[float], frames_per_s: float = 75.0) -> None:
        """`most` is what is sent on a good line, and `rates` are those that the codec has."""
        self._most, self._adapts = most, False
        self.thrifty = True
        """Whether messages hold no fewer frames where silence has saved the bits for it."""
        self._economy = Economy(frames_per_s)
        self._sent_frames: deque[int] = deque([0], maxlen=HUSHED_LOOKS)
        self._adaptation = Adaptation(most, rates)
        self._backlog = Backlog(WEBSOCKET_BYTES)
        self._connection: ClientConnection | None = None
        self._meter = WireMeter(masked=True)
        self._settled_us = 0

    @property
    def amount(self) -> Amount:
        """What is sent now."""
        return self._adaptation.amount if self._adapts else self._most

    @property
    def notice(self) -> str:
        """That less is sent than wanted, as a sentence."""
        if not (self._adapts and self._adaptation.lowered):
            return ""
        return f"the line is slow: sending {self.amount.kbps:g} kbps, {self.amount.frames} frames a message"

    def want(self, sender: MediaSender | None, frames: int | None = None, kbps: float | None = None) -> None:
        """Takes what is to be sent on a good line from now on."""
        self._most = Amount(frames or self._most.frames, kbps or self._most.kbps)
        self._adaptation.want(self._most)
        self._apply(sender)

    def begin(self, connection: ClientConnection, meter: WireMeter, adapts: bool) -> None:
        """Takes the connection that is watched from now on; `meter` counts what is sent. Unless it
        `adapts`, what is sent stays as it is wanted."""
        self._connection, self._meter, self._adapts = connection, meter, adapts
        self._settled_us = monotonic_us() + SETTLE_US
        self._backlog = Backlog(WEBSOCKET_BYTES + (TLS_BYTES if _is_tls(connection) else 0))

    def sent(self, now_us: int, size: int) -> None:
        """Takes note of a message that is given to the socket."""
        self._backlog.add(now_us, size)
        self._meter.add(now_us, size)

    def _economise(self, sender: MediaSender | None, now_us: int) -> None:
        """Chooses how many frames a message holds on a good line: fewer while nobody speaks here,
        more at once. A line that was too thin for what was sent gets no more messages."""
        if sender is None:
            return
        frames = sender.traffic.frames
        self._economy.note(frames, now_us)
        self._sent_frames.append(frames)
        spoils = self.thrifty or self._adaptation.downs > 0
        wanted = self._most.frames if spoils else self._economy.choose(self._most.frames, self._most.kbps)
        hushed = len(self._sent_frames) == HUSHED_LOOKS and self._sent_frames[0] == frames
        if wanted > self._adaptation.most.frames or (hushed and wanted < self._adaptation.most.frames):
            self._adaptation.want(self._most._replace(frames=wanted))

    async def room(self) -> None:
        """Waits while very much waits at the socket."""
        while self._waiting_us(monotonic_us()) > MOST_WAITING_US:  # noqa: ASYNC110 -- no event tells of acknowledgements
            await asyncio.sleep(LOOK_S)

    async def watch(self, outbox: Outbox, clock: ServerClock, sender: Callable[[], MediaSender | None]) -> None:
        """Steers what is sent until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            now = monotonic_us()
            waiting = max(outbox.age_us(now), self._waiting_us(now))
            if not TOLD:
                waiting = max(waiting, clock.unanswered_us(now))
            if self._adapts:
                self._economise(sender(), now)
                self._apply(sender())
            if self._adapts and clock.ready and now >= self._settled_us:
                self._adaptation.observe(waiting - (clock.round_trip_us or 0), now)
                self._apply(sender())

    def _waiting_us(self, now_us: int) -> int:
        connection = self._connection
        return 0 if connection is None else self._backlog.age_us(unacknowledged(connection), now_us)

    def _apply(self, sender: MediaSender | None) -> None:
        if sender is not None:
            sender.frames_per_packet, sender.kbps = self.amount


def _is_tls(connection: ClientConnection) -> bool:
    return connection.transport.get_extra_info("ssl_object") is not None


def unacknowledged(connection: ClientConnection) -> int:
    """Returns how many bytes wait for the network or for the other end's acknowledgement, the
    latter as far as the system tells."""
    waiting = connection.transport.get_write_buffer_size()
    plug = connection.transport.get_extra_info("socket")
    if sys.platform != "linux" or plug is None or plug.fileno() < 0:
        return waiting
    try:
        told = fcntl.ioctl(plug.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:  # no TCP
        return waiting
    return waiting + int.from_bytes(told, sys.byteorder)
