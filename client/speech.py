"""The way of what is said in a call: from the talker's thread to the socket, and once more where a
connection broke."""

from __future__ import annotations

import asyncio

from websockets.asyncio.client import ClientConnection

from earshot.client.audio.talker import MAX_BLOCKS, Talker
from earshot.client.core.adaptation import Amount
from earshot.client.core.clock import ServerClock
from earshot.client.core.recent_speech import RecentSpeech
from earshot.client.local_clock import monotonic_us
from earshot.client.models import CallModels
from earshot.client.net.connection import Connection
from earshot.client.net.line import Line
from earshot.client.net.websocket import Outbox
from earshot.protocol.messages import Mute, Send


class Speech:
    """What one call says. All but the talker's thread is of the event loop."""

    def __init__(self, models: CallModels, most: Amount, trace_every_s: float) -> None:
        """`most` is what is sent on a good line; the seconds are those between two traces."""
        self._models, self._trace_every_s = models, trace_every_s
        # A whole window is encoded at once, and takes its time.
        held = 4 * MAX_BLOCKS if models.spoken else MAX_BLOCKS
        self.talker = Talker(self._emit, models.spoken_format.rate, held)
        self.outbox = Outbox()
        self.line = Line(most, models.mine.config.bandwidths, models.mine.config.frame_rate)
        self._recent = RecentSpeech()
        self._connected = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Starts the talker's thread."""
        self._loop = asyncio.get_running_loop()
        self.talker.start()

    def flow(
        self, tasks: asyncio.TaskGroup, socket: ClientConnection, here: Connection, clock: ServerClock, adapts: bool
    ) -> None:
        """Lets speech flow into a socket, by tasks of this group. Unless it `adapts`, as much is
        sent as is wanted, whatever the line takes."""
        self._connected = True
        self.line.begin(socket, here.sent, adapts)
        tasks.create_task(self.outbox.write(socket, here.outgoing, self.line.sent, self.line.room))
        tasks.create_task(self.line.watch(self.outbox, clock, lambda: self.talker.sender))

    def begin(self, here: Connection, clock: ServerClock, sends: Send, quiet: bool, muted: bool) -> None:
        """Lets speech begin on a connection whose clock is known, unless it goes on from the one
        before. If it is `quiet`, silence is not sent."""
        if here.sender is not None:
            return
        frames, kbps = self.line.amount
        sender = self._models.sender(sends, kbps, clock, frames, quiet, self._trace_every_s)
        sender.muted = muted
        if muted:
            self.outbox.put(Mute(muted=True))
        here.sender = self.talker.sender = sender

    def lost(self, goes_on: bool) -> None:
        """Takes note that the connection broke. Unless it `goes_on` in the same seat, nothing is
        encoded until the next is there."""
        self._connected = False
        if not goes_on:
            self.talker.sender = None
        self.outbox.clear()

    def begin_anew(self) -> None:
        """Forgets what was said, because a new seat has new numbers."""
        self.talker.sender = None
        self._recent.clear()

    def go_on(self, sequence: int | None) -> None:
        """Sends again what the server has missed, that expects this sequence next."""
        for message in self._recent.since(sequence, monotonic_us()):
            self.outbox.put(message)

    def send(self, messages: list[bytes]) -> None:
        """Sends messages of the talker, or keeps them for a connection that takes the same seat."""
        if self.talker.sender is None:  # they carry the numbers of a connection that is gone
            self.outbox.dropped += len(messages)
            return
        for message in messages:
            self._recent.add(message, monotonic_us())
            if self._connected:
                self.outbox.put(message)

    def _emit(self, messages: list[bytes]) -> None:
        """Hands messages to the event loop. It runs on the talker's thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.send, messages)
