"""What the connections of one server share: its rooms, and who may come into them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from itertools import count

from earshot.codec.config import ModelConfig
from earshot.codec.errors import EngineFull
from earshot.protocol.close_codes import CloseCode
from earshot.protocol.messages import PROTOCOL, Draining, Hello, Limits, ModelInfo, Moderate, PeerLeft, Welcome
from earshot.server.access.access import Access
from earshot.server.audit import Audit
from earshot.server.clock import clock_us
from earshot.server.core import refusals
from earshot.server.core.address_shares import AddressShares
from earshot.server.core.elsewhere import ALONE, Nodes
from earshot.server.core.fanout import ChangedPeers
from earshot.server.core.grants import Grants, Removals
from earshot.server.core.jobs import Deliver, Job
from earshot.server.core.lag import Lag
from earshot.server.core.packet_coding import EntropyCoding
from earshot.server.core.pauses import PauseWatch
from earshot.server.core.rate_limit import AddressBuckets, TokenBucket
from earshot.server.core.recipient import Recipient
from earshot.server.core.room import Peer, Room, check_hello
from earshot.server.core.send_queue import DegradationPolicy
from earshot.server.core.session import SessionLimits
from earshot.server.core.tally import Tally
from earshot.server.core.totals import Totals
from earshot.server.drain import Drain
from earshot.server.encoding.pool import NOT_WORKING, WorkerPool
from earshot.server.live_room import LiveRoom
from earshot.server.recording.recorder import Recorder
from earshot.server.seats import Seat, Seats
from earshot.server.settings import Settings
from earshot.server.watchdog import Watchdog

KNOWN_CLOSE_CODES = frozenset({*range(1000, 1004), *range(1005, 1016), *CloseCode})
"""Close codes of RFC 6455 and of docs/protocol.md."""


PAUSE_US = 500_000
"""The event loop stood still if it did not turn for so long."""
QUEUE_TURNS, SLOW_TURNS = 8, 80
"""Once a second, and every 10 s, in turns of `tend`."""
AGES_S = (0.001, 0.0025, 0.005, 0.01, 0.0133, 0.02, 0.04, 0.12, 0.19, 0.25, 1.0)
"""Classes of ages in `/metrics`, those of docs/protocol.md, "Slow listeners", among them."""


class Hub:
    """Everything that the connections of one server share."""

    def __init__(
        self, config: ModelConfig, digest: str, settings: Settings, pool: WorkerPool, entropy: EntropyCoding
    ) -> None:
        self.config, self.digest, self.settings, self.pool = config, digest, settings, pool
        self.entropy = entropy
        self.nodes: Nodes = ALONE
        self.access = Access.of(settings)
        self.removals = Removals()
        self.audit = Audit(settings.audit_lines_per_second)
        self.recorder = Recorder(config, digest, settings, clock_us, self.audit)
        self.watchdog = Watchdog(settings.stuck_after_s, self.faults)
        self.rooms: dict[str, LiveRoom] = {}
        self.connections: set[Recipient] = set()
        self.addresses = AddressShares()
        """Connections, by address."""
        self.speakers = AddressShares()
        """Clients whose PCM is encoded here, by address."""
        self.room_owners = AddressShares()
        """Rooms, by the address of the client that opened them."""
        self.decoders = AddressShares()
        """Decoders, by the address of a listener that needs them."""
        self.closed: Counter[int | str] = Counter()
        """How many connections ended, by close code; clients may choose theirs, and those that the
        protocols do not know count as `other`."""
        self.seats = Seats(
            settings.resume_s, settings.max_connections, settings.max_connections_per_address, self._vacate
        )
        self._changes = AddressBuckets(settings.address_changes_per_second, settings.changes_burst)
        """Copies of what peers change, by address."""
        self._joins = AddressBuckets(settings.joins_per_second, settings.join_burst)
        self.change_counts: Counter[str] = Counter(told=0, replaced=0)
        self.started_us = clock_us()
        self._pauses = PauseWatch(PAUSE_US, self.started_us)
        self.lag = Lag(settings.ready_max_lag)
        self.lag_s, self.queue_age_s = Tally(AGES_S), Tally(AGES_S)
        """How late the event loop was, and how old what waits for listeners, looked at again and
        again."""
        self.totals = Totals()
        self.shutting_down = False
        self.drain = Drain()
        self._degradation = DegradationPolicy(
            join_us=int(settings.join_after_ms * 1000),
            cut_to_4_us=int(settings.cut_to_4_after_ms * 1000),
            cut_to_2_us=int(settings.cut_to_2_after_ms * 1000),
            drop_us=int(settings.drop_after_ms * 1000),
            recover_us=int(settings.recover_ms * 1000),
        )
        self.session_limits = SessionLimits(
            messages_per_second=settings.messages_per_second,
            message_burst=settings.message_burst,
            control_per_second=settings.control_per_second,
            control_burst=settings.control_burst,
            max_message_bytes=settings.max_message_bytes,
            max_waiting_control=settings.max_waiting_control,
            hello_timeout_s=settings.hello_timeout_s,
            stats_interval_s=settings.stats_interval_s,
        )

    def enter(self, connection: Recipient) -> None:
        """Counts a connection in; `exit` must follow, also after an error. Raises ProtocolError."""
        self.connections.add(connection)
        self.addresses.take(connection.address)
        if self.shutting_down:
            raise refusals.shutting_down()
        if len(self.connections) > self.settings.max_connections:
            raise refusals.too_many_connections()
        if self.addresses.held(connection.address) > self.settings.max_connections_per_address:
            raise refusals.too_many_of_address()

    def exit(self, connection: Recipient) -> None:
        """Counts a connection out."""
        self.connections.discard(connection)
        self.addresses.give_back(connection.address)

    def join(self, name: str, hello: Hello, connection: Recipient, encoded: Deliver) -> tuple[Seat, Welcome]:
        """Puts a client into a room with all that it needs there, and tells the others. Returns
        its seat, and what it is told. `encoded` gets what its encoder makes. Raises ProtocolError;
        then the client holds nothing."""
        grants = self.admit(name, hello)
        if not self._joins.take(connection.address, 1, clock_us()):
            raise refusals.too_many_joins()
        hello = grants.named(hello)
        check_hello(hello, self.config, self.digest)
        self._check_capacity(name, hello, connection.address)
        with ExitStack() as held:
            encode = self._encoder(connection.address, encoded, held) if hello.send == "pcm" else _no_encoder
            coding = self.entropy.open(hello, connection.address)
            held.callback(coding.close)
            had = self.seats.take(name, hello, connection)
            live, peer = had or self._sit(name, hello, connection, grants)
            seat = Seat(live, peer, coding, partial(live.relay, peer), encode, held.pop_all(), had is not None)
            return seat, self._welcome(seat, hello)

    def admit(self, name: str, hello: Hello) -> Grants:
        """Returns what a client may do in a room. Raises ProtocolError if that is not to enter."""
        grants = self.access.grants(hello.token)
        grants.check(name, hello)
        self.removals.check(name, grants)
        return grants

    def _encoder(self, address: str, encoded: Deliver, held: ExitStack) -> Callable[[Job], int]:
        try:
            encoder = self.pool.open("encoder", encoded)
        except EngineFull as error:
            raise refusals.no_memory(str(error)) from error
        self.speakers.take(address)
        held.callback(partial(self.speakers.give_back, address))
        held.callback(encoder.close)
        return encoder.push

    def _sit(self, name: str, hello: Hello, connection: Recipient, grants: Grants) -> tuple[LiveRoom, Peer]:
        live = self.rooms.get(name)
        if live is None:
            self.drain.check_new_room()
            if len(self.rooms) >= self.settings.max_rooms:
                raise refusals.too_many_rooms()
            if self.room_owners.held(connection.address) >= self.settings.max_rooms_per_address:
                raise refusals.too_many_rooms_of_address()
            limits = (self.settings.max_peers_per_room, self._degradation, self.settings.audio_burst_ms)
            room = Room(name, self.config, *limits)
            live = LiveRoom(
                room,
                self.config.hop_length,
                self.pool,
                self.recorder,
                connection.address,
                self.decoders,
                self.settings.max_address_share,
                self._changed_peers(),
                self.settings.change_interval_s,
            )
            self.nodes.furnish(room)
        peer, joined = live.room.join(hello, clock_us(), grants)
        if name not in self.rooms:
            self.rooms[name] = live
            live.elsewhere = self.nodes.open(live.room)
            self.room_owners.take(live.owner)
        live.recorder.entered(peer, live.room.peers.values(), live.room.guests.values())
        live.broadcast(joined, but=peer.id)
        live.elsewhere.changed(peer)
        live.connections[peer.id] = connection
        return live, peer

    def _changed_peers(self) -> ChangedPeers:
        rate, burst = self.settings.changes_per_second, self.settings.changes_burst
        return ChangedPeers(TokenBucket(rate, burst, clock_us()), self._changes, self.change_counts)

    def _welcome(self, seat: Seat, hello: Hello) -> Welcome:
        settings, live, peer = self.settings, seat.live, seat.peer
        kept = hello.resume is not None and settings.resume_s > 0
        return Welcome(
            protocol=PROTOCOL,
            peer=peer.id,
            room=live.room.name,
            model=ModelInfo.of(self.config, self.digest),
            limits=Limits(
                max_message_bytes=settings.max_message_bytes,
                messages_per_second=settings.messages_per_second,
                audio_burst_ms=settings.audio_burst_ms,
            ),
            clock_us=clock_us(),
            peers=live.room.others(peer),
            windows=True,
            recording=live.recorded,
            entropy=seat.coding.digest,
            may=peer.grants.may,
            locked=live.room.locked,
            short_headers=hello.short_headers,
            silence=peer.silence,
            resume=self.seats.secret(live, peer) if kept else None,
            resume_within_s=settings.resume_s if kept else 0.0,
            resumed=seat.resumed,
            next_sequence=peer.uplink.next_sequence if seat.resumed else None,
            servers=self.nodes.servers(),
        )

    def _check_capacity(self, name: str, hello: Hello, address: str) -> None:
        """Raises ProtocolError if what such a client brings would make others late, or if its
        address has its share of all speakers already."""
        live = self.rooms.get(name)
        encoders, decoders = int(hello.send == "pcm"), live.room.decoders_for(hello) if live else 0
        if not encoders and not decoders:
            return
        if not self.pool.works:
            raise refusals.no_memory(NOT_WORKING)
        if not self.pool.fits(encoders, decoders):
            raise refusals.no_time_for_another()
        if not encoders:
            return
        capacity = self.pool.encoders + self.pool.more_speakers()
        if not self.speakers.may_take(address, capacity, self.settings.max_address_share):
            raise refusals.share_is_taken(self.speakers.held(address))

    def leave(self, seat: Seat, connection: Recipient, reason: str, broken: bool = False) -> bool:
        """Takes a client out of its room, tells the others, and ends a room that is empty. Returns
        False, and does not, where the client has come back by another connection, or where this
        one is `broken` and the seat is kept."""
        seat.held.close()
        live, peer = seat.live, seat.peer
        if live.connections.get(peer.id) is not connection:
            return False
        if broken and self.seats.keep(live, peer, connection.address):
            return False
        self._vacate(live, peer, reason)
        return True

    def _vacate(self, live: LiveRoom, peer: Peer, reason: str) -> None:
        self.seats.forget(peer)
        live.connections.pop(peer.id, None)
        self.totals.left(peer)
        left: PeerLeft = live.room.leave(peer, reason)
        live.prune()
        live.changed.forget(peer.id)
        live.broadcast(left, but=peer.id)
        live.elsewhere.left(peer, left.reason)
        live.recorder.left(peer)
        if not live.room.peers:
            live.recorder.end("everyone had left")
            live.elsewhere.close()
            if self.rooms.pop(live.room.name, None) is not None:
                self.room_owners.give_back(live.owner)

    def moderate(self, live: LiveRoom, message: Moderate, grants: Grants, by: Peer | None = None) -> None:
        """Mutes or removes a peer, or locks a room, for a moderator, who need not be in it. Raises
        ProtocolError for who is none."""
        grants.check_moderator()
        who = by.name if by else grants.name
        target = live.moderate(message, by, who)
        if target is not None and message.action == "remove":
            self.removals.add(live.room.name, target.grants)
            self.nodes.removed(live.room.name, target.grants.id)
        self.audit.note("moderated", what=message.action, room=live.room.name, by=who, peer=message.peer)

    def paused_us(self) -> int:
        """Returns how long this server has stood still, in all."""
        return self._pauses.total(clock_us())

    async def tend(self) -> None:
        """Closes decoders that stand idle, and watches for pauses and for what waits, until it is
        cancelled."""
        idle_us = int(self.settings.decoder_idle_s * 1e6)
        for turn in count():
            await asyncio.sleep(PAUSE_US / 4e6)
            self.paused_us()
            if self.drain.look(not self.rooms):
                self.audit.note("drain", what="ended", rooms=len(self.rooms))
            for live in list(self.rooms.values()):
                live.close_idle(clock_us() - idle_us)
                if turn % QUEUE_TURNS == 0:
                    if turn % SLOW_TURNS == 0:
                        live.note_slow(self.audit)
                    for peer in live.room.peers.values():
                        self.queue_age_s.add(peer.queue.age_us(clock_us()) / 1e6)

    def begin_drain(self, within_s: float) -> None:
        """Takes no new rooms from now on, tells everyone, and ends the server (`Drain.end`) when
        all have left or the time is over."""
        self.drain.begin(within_s)
        self.audit.note("drain", what="begun", rooms=len(self.rooms), within_s=int(within_s))
        self.tell_of_drain()

    def tell_of_drain(self) -> None:
        """Tells everyone that this server is drained, if it is, and which others take calls now."""
        if (news := self.drain_news()) is not None:
            for live in self.rooms.values():
                live.broadcast(news)

    def drain_news(self) -> Draining | None:
        """Returns what those in a room are told of this server's end; None while there is none."""
        news = self.drain.news
        return news and news.model_copy(update={"servers": self.nodes.servers()})

    async def shut_down(self) -> None:
        """Tells every client; returns when all are gone or the deadline has passed."""
        self.shutting_down = True
        self.seats.close()
        for connection in list(self.connections):
            connection.fail(refusals.shutting_down())
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.shutdown_timeout_s):
                while self.connections:  # noqa: ASYNC110 -- once in a server's life; an event for it would outlive its use
                    await asyncio.sleep(0.02)

    def faults(self) -> list[str]:
        """Returns why this server is not healthy, the event loop aside; nothing while it is. May be
        called on any thread."""
        return self.pool.worker_faults() + self.recorder.faults()

    def not_ready(self) -> list[str]:
        """Returns why this server should get no more calls; nothing while it takes them."""
        reasons = self.watchdog.faults() + self.nodes.faults()
        if self.shutting_down:
            reasons.append("this server shuts down")
        elif self.drain.on:
            reasons.append("this server is drained")
        if self.pool.behind:
            reasons.append("frames are coded late")
        if self.lag.behind(clock_us()):
            reasons.append("the event loop is late")
        return reasons

    def count_closed(self, code: int) -> None:
        """Counts a connection that ended with this close code."""
        self.closed[code if code in KNOWN_CLOSE_CODES else "other"] += 1


def _no_encoder(job: Job) -> int:
    raise RuntimeError("a client that sends no PCM has no encoder")
