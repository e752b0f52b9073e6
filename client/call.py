"""A call: one room of one server, held through lost connections.

The event loop moves messages. Encoding is done on the talker's thread, decoding on the sink's."""

from __future__ import annotations

import asyncio
import random
from typing import Literal

from websockets.asyncio.client import ClientConnection

from earshot.client.audio.endpoints import NoSink, NoSource, Sink, Source
from earshot.client.core.adaptation import Amount
from earshot.client.core.clock import ServerClock
from earshot.client.core.replay import ArrivalRecorder
from earshot.client.core.room import RoomView
from earshot.client.core.sender import SendFormat
from earshot.client.core.servers import Servers
from earshot.client.greeting import make_hello, make_report
from earshot.client.local_clock import monotonic_us
from earshot.client.models import CallModels
from earshot.client.net.connection import Connection, PacketCoder, PacketCoding
from earshot.client.net.websocket import Lost, join, open_connection, room_url
from earshot.client.settings import LATENCIES, PACES, CallSettings, Latency, Pace
from earshot.client.speech import Speech
from earshot.codec.errors import CallError, UsageError
from earshot.codec.pcm import Pcm
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import (
    Draining,
    Error,
    Moderated,
    Mute,
    PeerChanged,
    PeerInfo,
    PeerJoined,
    PeerLeft,
    Pong,
    Record,
    Recording,
    SetRate,
    Stats,
    Welcome,
    parse_server,
)

FIRST_PINGS, FIRST_PING_EVERY_S = 8, 0.02
"""Pings before anything is spoken, so that the clock is known by the best of several round
trips."""
SILENT_S = 6.0
"""A connection on which nothing comes for this long, not even a pong, is dead."""
MAX_CONNECTIONS = 8
"""Connections whose figures are kept."""
LAST_WINDOWS_S = 5.0
"""How long the last windows of a file may take to be encoded."""

State = Literal["connecting", "connected", "reconnecting", "left"]


class Call:
    """One call. `run` returns when it is over. The figures (client/ui/figures.py) stay readable
    afterwards.

    `leave`, `toggle_mute`, `step_rate`, `step_latency` and `toggle_recording` are called on the
    event loop."""

    def __init__(
        self,
        settings: CallSettings,
        models: CallModels,
        source: Source,
        sink: Sink,
        coding: PacketCoding | None = None,
    ) -> None:
        """Prepares a call; client/wiring.py makes the arguments.

        With `coding` packets are coded once more where the server can do so. Raises UsageError for
        settings that no server could take."""
        self.servers = Servers(settings.server.split(","), lambda each: room_url(each, settings.room))
        models.check_rates(settings.kbps, settings.max_kbps)
        if models.talk is None and not isinstance(sink, NoSink):
            name = models.mine.config.name
            raise UsageError(f"{name} is for music; to hear who talks, name the room's model with --also")
        self.settings, self.models, self.coding = settings, models, coding
        self.source, self.sink = source, sink
        self.uplink: SendFormat = "codes" if settings.uplink == "auto" else settings.uplink
        self.latency: Latency = settings.latency
        self.speech = Speech(models, Amount(self.pace.frames, settings.kbps), settings.trace_every_s)
        self.talker, self.outbox, self.line = self.speech.talker, self.speech.outbox, self.speech.line
        self.line.thrifty = self.pace.thrifty
        self.state: State = "connecting"
        self.detail = ""
        self.muted = False
        self.kbps, self.max_kbps = settings.kbps, settings.max_kbps
        self.volumes_db: dict[str, float] = {}
        """By how much people are louder here than they are, by name."""
        self.room = RoomView()
        self.clock = ServerClock()
        self.connections: list[Connection] = []
        """The last connections. The newest is in use."""
        self.arrivals: ArrivalRecorder | None = None
        """Writes down when packets came, if it is set before `run`."""
        self.reconnects = self.resumes = 0
        """Connections after the first; those of them that took the same seat again."""
        self.malformed = 0
        """Messages of the server that docs/protocol.md does not allow."""
        self.unheard = 0
        """Media messages that came before anything could be played. They are dropped, because they
        would make what follows late."""
        self.began_us: int | None = None
        self.ended_us: int | None = None
        self._left = asyncio.Event()
        self._sound: asyncio.Task[None] | None = None

    @property
    def sends(self) -> Literal["pcm", "codes", "none"]:
        """What this client sends."""
        if isinstance(self.source, NoSource):
            return "none"
        return "codes" if self.models.spoken else self.uplink

    @property
    def pace(self) -> Pace:
        """How often messages go and come."""
        return PACES[self.latency]

    @property
    def _quiet(self) -> bool:
        """Whether silence is not sent."""
        return self.settings.dtx and self.room.welcome is not None and self.room.welcome.silence

    @property
    def seconds(self) -> float:
        """Seconds since sound began to flow."""
        return 0.0 if self.began_us is None else ((self.ended_us or monotonic_us()) - self.began_us) / 1e6

    # What the user does

    def leave(self) -> None:
        """Ends the call."""
        self._left.set()

    def toggle_mute(self) -> None:
        """Mutes this client, or no longer, unless a moderator did."""
        if self.muted and self.room.silenced_by is not None:
            return
        self.muted = not self.muted
        if self.talker.sender:
            self.talker.sender.muted = self.muted
        self.outbox.put(Mute(muted=self.muted))

    def step_rate(self, up: bool) -> None:
        """Changes to the model's next rate, if there is one."""
        rates = sorted(self.models.mine.config.bandwidths)
        step = rates.index(self.kbps) + (1 if up else -1)
        if 0 <= step < len(rates):
            self.kbps = rates[step]
            self.line.want(self.talker.sender, kbps=self.kbps)
            self.outbox.put(SetRate(send_kbps=self.kbps))

    def step_latency(self) -> None:
        """Saves more bits and less time, or after the last step no bits again."""
        self.latency = LATENCIES[(LATENCIES.index(self.latency) + 1) % len(LATENCIES)]
        self.line.thrifty = self.pace.thrifty
        self.line.want(self.talker.sender, frames=self.pace.frames)
        if self.connections:
            self.connections[-1].told = None
        self.outbox.put(SetRate(frames=self.pace.frames))

    def toggle_recording(self) -> None:
        """Asks for a recording to begin or end. The server may refuse."""
        self.outbox.put(Record(on=not self.room.recording))

    def set_volume(self, peer: PeerInfo, decibels: float) -> None:
        """Makes a person louder here, or softer, by so much, now and after a lost connection."""
        self.volumes_db[peer.name] = decibels
        self.connections[-1].receiver.set_gain(peer.id, 10 ** (decibels / 20))

    # The course of it

    async def run(self) -> None:
        """Runs the call until it is over. Raises CallError if the server refuses, with the server's
        sentence, or if there is no server. Raises AudioError if a sound device fails."""
        await asyncio.to_thread(self._prepare)
        self.speech.start()
        tasks = {asyncio.create_task(self._stay_connected()), asyncio.create_task(self._watch())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self.ended_us = monotonic_us()
            await asyncio.to_thread(self.source.stop)
            await asyncio.to_thread(self.talker.stop)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self.sink.stop)
            self.models.close()
            for each in self.connections:
                each.close()
            self.state = "left"

    def _prepare(self) -> None:
        """Warms the models up, and decides who encodes. It runs on a thread."""
        self.models.warm_up()
        if self.settings.uplink == "auto" and self.sends == "codes" and not self.models.spoken:
            self.uplink = "codes" if self.models.encodes_easily() else "pcm"

    async def _watch(self) -> None:
        """Returns when the call is over, and raises what went wrong on a thread."""
        source_ended_us: int | None = None
        while not self._left.is_set():
            for worker in (self.source, self.talker, self.sink):
                if worker.error is not None:
                    raise worker.error
            if self.models.error is not None:
                raise self.models.error
            now = monotonic_us()
            if source_ended_us is None and self.source.ended.is_set():
                await asyncio.to_thread(self.talker.flush, LAST_WINDOWS_S if self.models.spoken else 1.0)
                self.outbox.put(Mute(muted=True))  # or the end of the file sounds like a stall to the others
                source_ended_us = now
            if source_ended_us is not None and now - source_ended_us >= self.settings.linger_s * 1e6:
                return
            if self.settings.seconds is not None and self.seconds >= self.settings.seconds:
                return
            try:
                await asyncio.wait_for(self._left.wait(), 0.05)
            except TimeoutError:
                continue

    async def _stay_connected(self) -> None:
        lost_us = monotonic_us()
        while True:
            joined = False
            try:
                connection = await open_connection(self.servers.url, self.settings.tls, self.servers.alone)
                try:
                    await self._join(connection)
                    joined = True
                    await self._talk(connection)
                except Lost as lost:
                    if lost.code != CloseCode.SHUTTING_DOWN:
                        connection.transport.abort()  # a polite close that comes late would end the seat
                    raise
                finally:
                    await connection.close()
                    for each in self.connections:
                        each.close()
            except Lost as lost:
                self.speech.lost(goes_on=bool(self.room.welcome and self.room.welcome.resume))
                self.servers.lost(joined, ends=lost.code == CloseCode.SHUTTING_DOWN)
                if (self.room.welcome is None and self.servers.none) or lost.final:
                    raise CallError(str(lost), lost.code) from lost
                now = monotonic_us()
                if joined:
                    lost_us = now
                if now - lost_us > self.settings.give_up_s * 1e6:
                    raise CallError(f"{lost}, and no connection for {self.settings.give_up_s:g} s", lost.code) from lost
                self.state, self.detail = "reconnecting", f"{lost}; trying again"
            # Jitter, so that the clients of a server that restarts do not all come at once.
            await asyncio.sleep(random.uniform(self.servers.wait_s / 2, self.servers.wait_s))

    async def _join(self, connection: ClientConnection) -> None:
        if any(each.coder and each.coder.failed for each in self.connections):
            self.coding = None
        listens, entropy = not isinstance(self.sink, NoSink), self.coding.digest if self.coding else None
        secret = (self.room.welcome.resume if self.room.welcome else None) or ""
        hello = make_hello(
            self.settings, self.models, self.sends, self.kbps, self.max_kbps, self.pace, listens, entropy, secret
        )
        welcome = await join(connection, hello)
        if self.room.welcome is not None:
            self.reconnects += 1
        self.room.begin(welcome)
        self.servers.tell(welcome.servers)
        agreed = self.coding if self.coding and welcome.entropy == self.coding.digest else None
        coder = agreed.make_coder() if agreed else None
        if welcome.resumed and self.connections:
            self._go_on(welcome, coder)
        else:
            self._begin_anew(welcome, coder)
        for peer in welcome.peers:
            self._meet(peer)

    def _begin_anew(self, welcome: Welcome, coder: PacketCoder | None) -> None:
        self.speech.begin_anew()
        self.clock = ServerClock()
        here = Connection(*self.models.receiver(self.clock), coder)
        here.agree(welcome)
        self.connections = [*self.connections[1 - MAX_CONNECTIONS :], here]
        here.receiver.arrivals = self.arrivals
        if self.arrivals is not None:
            self.arrivals.reconnected()

    def _go_on(self, welcome: Welcome, coder: PacketCoder | None) -> None:
        """Takes the seat that this client had before, and sends what the server has missed."""
        self.resumes += 1
        here = self.connections[-1]
        here.resume(welcome, coder)
        if here.sender is not None:
            self.outbox.put(Mute(muted=self.muted))
        self.speech.go_on(welcome.next_sequence)

    async def _talk(self, connection: ClientConnection) -> None:
        self.state, self.detail = "connected", ""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(connection))
                here = self.connections[-1]
                adapts = self.sends == "codes" and not self.models.spoken
                self.speech.flow(tasks, connection, here, self.clock, adapts)
                tasks.create_task(self._keep_time())
        except ExceptionGroup as group:
            raise Lost.first_of(group) from None

    async def _keep_time(self) -> None:
        """Compares the clocks, at first in quick succession. Then speech begins to flow, and the
        server gets figures every second."""
        for _ in range(FIRST_PINGS):
            self.outbox.put(self.clock.ping(monotonic_us()))
            await asyncio.sleep(FIRST_PING_EVERY_S)
        await self.connections[-1].clock_known.wait()
        self.speech.begin(self.connections[-1], self.clock, self.sends, self._quiet, self.muted)
        if self._sound is None:  # opening a device takes too long for the event loop
            self._sound = asyncio.create_task(asyncio.to_thread(self._begin_sound))
        await asyncio.shield(self._sound)
        reported, report_us = None, 0
        while True:
            now = monotonic_us()
            self.outbox.put(self.clock.ping(now))
            report = make_report(self.connections[-1].receiver)
            if report != reported and now - report_us >= self.pace.stats_every_s * 1e6:
                self.outbox.put(report)
                reported, report_us = report, now
            if (frames := self.connections[-1].ask(self.pace, now)) is not None:
                self.outbox.put(SetRate(frames=frames))
            await asyncio.sleep(self.pace.ping_every_s)
            if (news := self.room.draining) is not None and news.servers:
                self.servers.tell(news.servers)
                raise Lost("this server ends", CloseCode.SHUTTING_DOWN)

    def _begin_sound(self) -> None:
        """Starts sink and source. It runs on a thread, once in a call."""
        self.sink.start(self._pull)
        self.began_us = monotonic_us()  # on a busy machine, the source speaks long before its `start` returns
        self.source.start(self.talker.on_block)

    def _pull(self, n: int, now_us: int, heard_us: int) -> Pcm:
        """Returns what is heard. It runs on the sink's thread."""
        return self.connections[-1].mix.pull(n, now_us, heard_us)

    async def _read(self, connection: ClientConnection) -> None:
        here = self.connections[-1]
        while True:
            try:
                async with asyncio.timeout(SILENT_S):
                    message = await connection.recv()
            except TimeoutError as error:
                raise Lost(f"nothing came from the server for {SILENT_S:g} s") from error
            now = monotonic_us()
            here.heard.add(now, len(message))
            try:
                if isinstance(message, str):
                    self._hear(message, now)
                else:
                    audible = self.sink.started_us is not None
                    self.unheard += not audible
                    await here.put(message, now, audible)
            except ProtocolError:
                self.malformed += 1

    def _hear(self, text: str, now_us: int) -> None:
        match parse_server(text):
            case Pong() as pong:
                if self.clock.pong(pong, now_us):
                    self.connections[-1].clock_known.set()
            case PeerJoined(peer=peer) | PeerChanged(peer=peer):
                self._meet(peer)
            case PeerLeft(id=gone):
                self.room.peers.pop(gone, None)
                self.connections[-1].leave(gone)
            case Recording() | Moderated() | Draining() | Stats() as told:
                self.room.hear(told)
                if self.room.silenced_by and not self.muted:
                    self.toggle_mute()
            case Error() as error:
                raise Lost(error.message, error.code)

    def _meet(self, peer: PeerInfo) -> None:
        self.room.peers[peer.id] = peer
        if self.arrivals is not None:
            self.arrivals.told(peer.id, peer.muted, monotonic_us())
        self.connections[-1].meet(peer)
        if peer.name in self.volumes_db:
            self.set_volume(peer, self.volumes_db[peer.name])
