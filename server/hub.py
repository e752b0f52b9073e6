"""The server's rooms with the connections in them: what one connection does is passed on to the
others here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from earshot.codec.bitstream import unpack
from earshot.codec.config import ModelConfig
from earshot.codec.errors import EngineFull
from earshot.codec.pcm import to_s16
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import (
    PROTOCOL,
    Hello,
    Limits,
    ModelInfo,
    PeerLeft,
    Record,
    ServerMessage,
    SetRate,
    Welcome,
)
from earshot.protocol.packet import Packet, PcmBlock
from earshot.protocol.sequence import SEQUENCE_MODULUS, TIMESTAMP_MODULUS
from earshot.server.core.address_shares import AddressShares
from earshot.server.core.jobs import Job, Result
from earshot.server.core.packet_coding import EntropyCoding
from earshot.server.core.room import Peer, Room
from earshot.server.core.send_queue import DegradationPolicy
from earshot.server.encoding.pool import WorkerPool
from earshot.server.encoding.queue import CodecSession
from earshot.server.recording.recorder import Recorder, RoomRecorder
from earshot.server.settings import Settings

if TYPE_CHECKING:
    from earshot.server.net.connection import Connection

log = logging.getLogger(__name__)


def clock_us() -> int:
    """The server's clock."""
    return time.monotonic_ns() // 1000


class LiveRoom:
    """A room, its connections, and the decoders for those of them that cannot decode."""

    def __init__(self, room: Room, hub: Hub) -> None:
        self.room = room
        self._hub = hub
        self.connections: dict[int, Connection] = {}
        self._decoders: dict[tuple[int, int], CodecSession] = {}
        self.frames_not_decoded = 0
        self.recorder = RoomRecorder(hub.recorder, room.name, self.broadcast)

    def broadcast(self, message: ServerMessage, but: int | None = None) -> None:
        """Sends a control message to everyone, or everyone else."""
        for peer_id, connection in list(self.connections.items()):
            if peer_id != but:
                connection.tell(message)

    def relay(self, speaker: Peer, packet: Packet) -> None:
        """Passes a speaker's codes on, to a recording too, and on to decoders where someone wants
        PCM."""
        now = clock_us()
        self._wake(self.room.relay(speaker, packet, now))
        self.recorder.spoke(speaker, packet, now)
        for n_q in self.room.pcm_rates(speaker):
            self._decode(speaker, n_q, packet.cut(n_q), now)

    def record(self, peer: Peer, message: Record) -> None:
        """Begins or ends a recording if this peer may; if not, it is told why."""
        answer = self.recorder.ask(message, peer, self.room.peers.values())
        if answer is not None:
            self.connections[peer.id].tell(answer)

    def _decode(self, speaker: Peer, n_q: int, packet: Packet, now_us: int) -> None:
        key = (speaker.id, n_q)
        decoder = self._decoders.get(key)
        if decoder is None:
            try:
                decoder = self._hub.pool.open("decoder", partial(self._decoded, key))
            except EngineFull:
                self.frames_not_decoded += packet.frames
                self._fail_pcm_listeners(speaker, n_q)
                return
            self._decoders[key] = decoder
        codes = unpack(packet.payload, packet.n_q, packet.frames)
        hop = self._hub.config.hop_length
        for index in range(packet.frames):
            block = PcmBlock(
                speaker.id,
                (packet.sequence + index) % SEQUENCE_MODULUS,
                (packet.timestamp + index * hop) % TIMESTAMP_MODULUS,
                b"",
                None if index else packet.trace,
            )
            self.frames_not_decoded += decoder.push(Job(np.ascontiguousarray(codes[:, index]), now_us, tag=block))

    def _fail_pcm_listeners(self, speaker: Peer, n_q: int) -> None:
        """Better told than left in silence."""
        for peer in self.room.pcm_listeners(speaker.id, n_q):
            connection = self.connections.get(peer.id)
            if connection is not None:
                connection.fail(
                    ProtocolError("this server cannot decode another speaker for you", CloseCode.OVERLOADED)
                )

    def _decoded(self, key: tuple[int, int], result: Result) -> None:
        if result.value is None:
            self._decoders.pop(key).close()
            return
        block = result.tag._replace(data=to_s16(result.value))
        self._wake(self.room.relay_pcm(*key, block, clock_us()))

    def _wake(self, peers: list[Peer]) -> None:
        for peer in peers:
            connection = self.connections.get(peer.id)
            if connection is not None:
                connection.wake()

    def prune(self) -> None:
        """Ends decoders that nobody listens to any more."""
        wanted = {(peer.id, n_q) for peer in self.room.peers.values() for n_q in self.room.pcm_rates(peer)}
        for key in set(self._decoders) - wanted:
            self._decoders.pop(key).close()


class Hub:
    """Everything that the connections of one server share."""

    def __init__(
        self, config: ModelConfig, digest: str, settings: Settings, pool: WorkerPool, entropy: EntropyCoding
    ) -> None:
        self.config, self.digest, self.settings, self.pool = config, digest, settings, pool
        self.entropy = entropy
        self.recorder = Recorder(config, digest, settings, clock_us)
        self.rooms: dict[str, LiveRoom] = {}
        self.connections: set[Connection] = set()
        self.addresses = AddressShares()
        """Connections, by address."""
        self.speakers = AddressShares()
        """Clients whose PCM is encoded here, by address."""
        self.closed: Counter[int] = Counter()
        self.started_us = clock_us()
        self.shutting_down = False
        self._degradation = DegradationPolicy(
            join_us=int(settings.join_after_ms * 1000),
            cut_to_4_us=int(settings.cut_to_4_after_ms * 1000),
            cut_to_2_us=int(settings.cut_to_2_after_ms * 1000),
            drop_us=int(settings.drop_after_ms * 1000),
            recover_us=int(settings.recover_ms * 1000),
        )

    def enter(self, connection: Connection) -> None:
        """Counts a connection in; `exit` must follow, also after an error. Raises ProtocolError."""
        self.connections.add(connection)
        self.addresses.take(connection.address)
        if self.shutting_down:
            raise ProtocolError("this server shuts down", CloseCode.SHUTTING_DOWN)
        if len(self.connections) > self.settings.max_connections:
            raise ProtocolError("this server has too many connections", CloseCode.TOO_MANY_CONNECTIONS)
        if self.addresses.held(connection.address) > self.settings.max_connections_per_address:
            raise ProtocolError("too many connections from your address", CloseCode.TOO_MANY_CONNECTIONS)

    def exit(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.addresses.give_back(connection.address)

    def join(self, name: str, hello: Hello, connection: Connection) -> tuple[LiveRoom, Peer]:
        """Puts a client into a room, and tells the others. Raises ProtocolError."""
        live = self.rooms.get(name)
        if live is None:
            if len(self.rooms) >= self.settings.max_rooms:
                raise ProtocolError("this server has too many rooms", CloseCode.TOO_MANY_ROOMS)
            limits = (self.settings.max_peers_per_room, self._degradation, self.settings.audio_burst_ms)
            live = LiveRoom(Room(name, self.config, *limits), self)
        peer, joined = live.room.join(hello, clock_us())
        self.rooms[name] = live
        live.recorder.entered(peer, live.room.peers.values())
        live.broadcast(joined, but=peer.id)
        live.connections[peer.id] = connection
        return live, peer

    def welcome(self, live: LiveRoom, peer: Peer, entropy: str | None) -> Welcome:
        """What a client that has joined is told."""
        settings = self.settings
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
            peers=[other.info() for other in live.room.peers.values() if other is not peer],
            windows=True,
            recording=live.recorder.on,
            entropy=entropy,
        )

    def check_capacity(self, name: str, hello: Hello, address: str) -> None:
        """Raises ProtocolError if what such a client brings would make others late, or if its
        address has its share of all speakers already."""
        live = self.rooms.get(name)
        encoders, decoders = int(hello.send == "pcm"), live.room.decoders_for(hello) if live else 0
        if not encoders and not decoders:
            return
        if not self.pool.fits(encoders, decoders):
            raise ProtocolError(
                "this server is busy: one more would make those who talk late; try again later, or send and take "
                "codes (--uplink codes)",
                CloseCode.OVERLOADED,
            )
        if not encoders:
            return
        capacity, held = self.pool.encoders + self.pool.more_speakers(), self.speakers.held(address)
        if not self.speakers.may_take(address, capacity, self.settings.max_address_share):
            raise ProtocolError(
                f"{held} speakers from your address are its share of this server; send codes (--uplink codes)",
                CloseCode.OVERLOADED,
            )

    def check_rate(self, live: LiveRoom, peer: Peer, message: SetRate) -> None:
        """Raises ProtocolError if what a peer wants to hear at another rate would make others
        late."""
        decoders = live.room.decoders_for_rate(peer, message)
        if decoders and not self.pool.fits(0, decoders):
            raise ProtocolError(
                f"this server is busy: to decode at {message.max_kbps:g} kbps for you too would make others late; come "
                "back at the rate you had, or take codes",
                CloseCode.OVERLOADED,
            )

    def leave(self, live: LiveRoom, peer: Peer, reason: str) -> None:
        """Takes a client out of its room, tells the others, and ends a room that is empty."""
        live.connections.pop(peer.id, None)
        left: PeerLeft = live.room.leave(peer, reason)
        live.prune()
        live.broadcast(left, but=peer.id)
        live.recorder.left(peer)
        if not live.room.peers:
            live.recorder.end("everyone had left")
            self.rooms.pop(live.room.name, None)

    async def shut_down(self) -> None:
        """Tells every client; returns when all are gone or the deadline has passed."""
        self.shutting_down = True
        for connection in list(self.connections):
            connection.fail(ProtocolError("this server shuts down", CloseCode.SHUTTING_DOWN))
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.shutdown_timeout_s):
                while self.connections:  # noqa: ASYNC110 -- once in a server's life; an event for it would outlive its use
                    await asyncio.sleep(0.02)

    def stats(self) -> dict[str, Any]:
        """What `/stats` shows to anyone: no names of peers, and none of rooms, which are the only
        key to them."""
        now = clock_us()
        return {
            "uptime_s": round((now - self.started_us) / 1e6, 1),
            "cpu_s": round(time.process_time(), 3),
            "model": {"name": self.config.name, "digest": self.digest},
            "frame": {"sample_rate": self.config.sample_rate, "samples": self.config.hop_length},
            "connections": len(self.connections),
            "addresses": len(self.addresses),
            "closed": {str(code): count for code, count in sorted(self.closed.items())},
            "rooms": [_room_stats(live, now) for live in self.rooms.values()],
            "more_speakers": self.pool.more_speakers(),
            "workers": self.pool.stats(),
            "entropy": self.entropy.stats(),
            "recordings": self.recorder.stats(),
        }


def _room_stats(live: LiveRoom, now_us: int) -> dict[str, Any]:
    peers = [
        peer.info().model_dump(exclude={"name", "model"})
        | peer.stats(now_us).model_dump(exclude={"type"})
        | {
            "bytes_sent": peer.bytes_sent,
            "largest_queue_ms": peer.queue.largest_age_us / 1000,
            "report": peer.report.model_dump(exclude={"type"}) if peer.report else None,
        }
        for peer in live.room.peers.values()
    ]
    return {"peers": peers, "frames_not_decoded": live.frames_not_decoded}
