"""A room with what is alive in it: connections, decoders, a recording."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from earshot.codec.bitstream import unpack
from earshot.codec.errors import EngineFull
from earshot.codec.pcm import to_s16
from earshot.protocol.messages import (
    Hello,
    Moderate,
    Moderated,
    PeerChanged,
    PeerJoined,
    PeerLeft,
    Record,
    Recording,
    ServerMessage,
    SetRate,
)
from earshot.protocol.packet import Packet, PcmBlock
from earshot.protocol.sequence import SEQUENCE_MODULUS, TIMESTAMP_MODULUS
from earshot.protocol.silence import Silence
from earshot.server.audit import Audit
from earshot.server.clock import clock_us
from earshot.server.core import refusals
from earshot.server.core.address_shares import AddressShares
from earshot.server.core.elsewhere import NOWHERE_ELSE, Elsewhere
from earshot.server.core.fanout import ChangedPeers
from earshot.server.core.guests import Speaker
from earshot.server.core.jobs import Job, Result
from earshot.server.core.recipient import Recipient
from earshot.server.core.room import Peer, Room
from earshot.server.encoding.pool import WorkerPool
from earshot.server.encoding.queue import CodecSession
from earshot.server.recording.recorder import Recorder, RoomRecorder


@dataclass
class _Decoder:
    """The decoder of one speaker at one rate, and the listener that it counts for."""

    session: CodecSession
    listener: int
    address: str
    used_us: int
    """When the speaker's last packet came."""


class LiveRoom:
    """A room, the connections of its peers, and the decoders for those of them that cannot
    decode."""

    def __init__(
        self,
        room: Room,
        hop: int,
        pool: WorkerPool,
        recorder: Recorder,
        owner: str,
        shares: AddressShares,
        share: float,
        changed: ChangedPeers,
        change_interval_s: float,
    ) -> None:
        """`hop` is the number of samples in a frame, and `owner` the address of the client that
        opened the room. `shares` counts the decoders of the whole server by the address of a
        listener; none may have more than `share` of them."""
        self.owner = owner
        self.changed = changed
        self._change_interval_s = change_interval_s
        self._change_timer: asyncio.TimerHandle | None = None
        self._shares, self._share = shares, share
        self.room = room
        self._hop, self._pool = hop, pool
        self.connections: dict[int, Recipient] = {}
        """By the id of their peer."""
        self._decoders: dict[tuple[int, int], _Decoder] = {}
        """By speaker and number of codebooks."""
        self.frames_not_decoded = 0
        self.elsewhere: Elsewhere = NOWHERE_ELSE
        self.recorder = RoomRecorder(recorder, room.name, self._tell_recording)

    @property
    def recorded(self) -> bool:
        """Whether what is said in the room is recorded, here or on another node."""
        return self.recorder.on or self.elsewhere.recorded

    def _tell_recording(self, message: Recording) -> None:
        self.elsewhere.recording(message.on)
        self.broadcast(message.model_copy(update={"on": message.on or self.elsewhere.recorded}))

    def broadcast(self, message: ServerMessage, but: int | None = None) -> None:
        """Sends a control message to everyone, or everyone else."""
        for peer_id, connection in list(self.connections.items()):
            if peer_id != but:
                connection.tell(message)

    def announce(self, message: PeerChanged) -> None:
        """Tells everyone else what a peer is like now: soon, and only what is newest then."""
        peer_id = message.peer.id
        self.changed.add(peer_id, self.connections[peer_id].address)
        self._set_change_timer()

    def _set_change_timer(self) -> None:
        if self._change_timer is None:
            self._change_timer = asyncio.get_running_loop().call_later(self._change_interval_s, self._tell_changes)

    def _tell_changes(self) -> None:
        self._change_timer = None
        for peer_id in self.changed.due(max(1, len(self.connections) - 1), clock_us()):
            peer = self.room.peers[peer_id]
            self.broadcast(PeerChanged(peer=peer.info()), but=peer_id)
            self.elsewhere.changed(peer)
        if len(self.changed):
            self._set_change_timer()

    def hear(self, told: Sequence[ServerMessage]) -> None:
        """Tells everyone here what happens on other nodes, and a recording too."""
        for message in told:
            if isinstance(message, PeerJoined):
                self.recorder.met(self.room.guests[message.peer.id])
            elif isinstance(message, PeerLeft):
                self.recorder.gone(message.id)
            elif isinstance(message, PeerChanged):
                self.recorder.muted(self.room.guests[message.peer.id])
            self.broadcast(message)
        self.prune()

    def relay(self, speaker: Peer, packet: Packet) -> None:
        """Passes on what a peer says, to other nodes too."""
        self.elsewhere.spoke(speaker, packet)
        self.play(speaker, packet)

    def play(self, speaker: Speaker, packet: Packet) -> None:
        """Passes a speaker's codes on to those who are connected here, to a recording too, and to
        decoders where someone wants PCM."""
        now = clock_us()
        self._wake(self.room.relay(speaker, packet, now))
        self.recorder.spoke(speaker, packet, now)
        for n_q in self.room.pcm_rates(speaker):
            self._decode(speaker, n_q, packet.cut(n_q), now)

    def hush(self, speaker: Peer, silence: Silence) -> None:
        """Passes on that a peer says nothing for now, to other nodes too."""
        self.elsewhere.hushed(speaker, silence)
        self.fall_silent(speaker, silence)

    def fall_silent(self, speaker: Speaker, silence: Silence) -> None:
        """Passes the same on to those who are connected here."""
        self._wake(self.room.hush(speaker, silence, clock_us()))

    def set_away(self, peer: Peer) -> None:
        """Notes that a peer's connection broke and its seat is kept: nothing is sent to it."""
        peer.away = True
        self.prune()

    def come_back(self, peer: Peer, hello: Hello) -> None:
        """Lets a peer whose seat was kept go on where it was."""
        rates = peer.send_kbps, peer.max_kbps
        self.room.come_back(peer, hello, clock_us())
        if rates != (peer.send_kbps, peer.max_kbps):
            self.announce(PeerChanged(peer=peer.info()))
        self.prune()

    def record(self, peer: Peer, message: Record) -> None:
        """Begins or ends a recording if this peer may; if not, it is told why."""
        answer = self.recorder.ask(message, peer, self.room.peers.values())
        if answer is not None:
            self.connections[peer.id].tell(answer)

    def explain_recording(self, peer: Peer) -> None:
        """Tells a peer that just came in why the room is not recorded, if it always should be."""
        if (reason := self.recorder.missing) is not None:
            self.connections[peer.id].tell(Recording(on=False, reason=reason))

    def change_rate(self, peer: Peer, message: SetRate) -> None:
        """Lets a peer send and hear at other rates, and tells the others. Raises ProtocolError if
        what it wants to hear would make others late."""
        decoders = self.room.decoders_for_rate(peer, message)
        if decoders and message.max_kbps is not None and not self._pool.fits(0, decoders):
            raise refusals.no_time_for_rate(message.max_kbps)
        changed = self.room.set_rate(peer, message)
        if message.send_kbps is not None or message.max_kbps is not None:
            self.announce(changed)
            self.prune()

    def moderate(self, message: Moderate, by: Speaker | None, name: str) -> Peer | None:
        """Mutes or removes a peer, or locks the room, and tells everyone. Returns the peer, if it
        is still there. `name` is the moderator's. For a guest its node is asked to do it."""
        target = self.room.peers.get(message.peer or 0)
        guest = self.room.guests.get(message.peer or 0)
        if message.action in ("lock", "unlock"):
            self.room.locked = message.action == "lock"
        elif target is None:
            if guest is not None:
                self.elsewhere.ask(guest, message, by, name)
            return None
        elif message.action == "remove":
            self.connections[target.id].fail(refusals.removed_by(name))
            return target
        else:
            self.announce(self.room.silence(target, message.action == "mute"))
            self.recorder.muted(target)
        done = Moderated(action=message.action, by=by.id if by else None, peer=target.id if target else None)
        self.broadcast(done)
        self.elsewhere.moderated(done)
        return target

    def stats(self, now_us: int) -> dict[str, Any]:
        """Returns what `/stats` shows of the room: no names."""
        peers = [
            peer.info().model_dump(exclude={"name", "model"})
            | peer.stats(now_us).model_dump(exclude={"type"})
            | {
                "bytes_sent": peer.bytes_sent,
                "largest_queue_ms": peer.queue.largest_age_us / 1000,
                "report": peer.report.model_dump(exclude={"type"}) if peer.report else None,
            }
            for peer in self.room.peers.values()
        ]
        return {"peers": peers, "guests": len(self.room.guests), "frames_not_decoded": self.frames_not_decoded}

    def _decode(self, speaker: Speaker, n_q: int, packet: Packet, now_us: int) -> None:
        key = (speaker.id, n_q)
        decoder = self._decoders.get(key)
        if decoder is None:
            decoder = self._open_decoder(speaker, n_q)
            if decoder is None:
                self.frames_not_decoded += packet.frames
                self._fail_pcm_listeners(speaker, n_q)
                return
            self._decoders[key] = decoder
        decoder.used_us = now_us
        codes = unpack(packet.payload, packet.n_q, packet.frames)
        for index in range(packet.frames):
            block = PcmBlock(
                speaker.id,
                (packet.sequence + index) % SEQUENCE_MODULUS,
                (packet.timestamp + index * self._hop) % TIMESTAMP_MODULUS,
                b"",
                None if index else packet.trace,
            )
            self.frames_not_decoded += decoder.session.push(
                Job(np.ascontiguousarray(codes[:, index]), now_us, tag=block)
            )

    def _open_decoder(self, speaker: Speaker, n_q: int) -> _Decoder | None:
        """Returns a new decoder, counted for a listener whose address may have one more; None if
        there is no such listener, or no place. An address may have one in any case: its listeners
        were let in while there was time for them."""
        capacity = max(self._pool.decoder_capacity(), 1)
        for peer in self.room.pcm_listeners(speaker.id, n_q):
            connection = self.connections.get(peer.id)
            if connection is not None and self._shares.may_take(connection.address, capacity, self._share):
                try:
                    session = self._pool.open("decoder", partial(self._decoded, (speaker.id, n_q)))
                except EngineFull:
                    return None
                self._shares.take(connection.address)
                return _Decoder(session, peer.id, connection.address, 0)
        return None

    def _close_decoder(self, key: tuple[int, int]) -> None:
        decoder = self._decoders.pop(key)
        decoder.session.close()
        self._shares.give_back(decoder.address)

    def close_idle(self, before_us: int) -> None:
        """Closes the decoders of speakers that said nothing since then. Their next packets open new
        ones."""
        for key in [key for key, decoder in self._decoders.items() if decoder.used_us < before_us]:
            self._close_decoder(key)

    def note_slow(self, audit: Audit) -> None:
        """Writes to the log whoever has missed something since the last time by reading slowly."""
        for peer in self.room.peers.values():
            dropped, cut = peer.queue.frames_dropped, peer.queue.codebooks_cut
            lost, address = dropped + cut, self.connections[peer.id].address
            if lost > peer.lost_noted:
                who, room = peer.name or None, self.room.name
                audit.note("slow", address=address, room=room, peer=peer.id, name=who, dropped=dropped, cut=cut)
            peer.lost_noted = lost

    def _fail_pcm_listeners(self, speaker: Speaker, n_q: int) -> None:
        """Sends away those who would otherwise be left in silence."""
        for peer in self.room.pcm_listeners(speaker.id, n_q):
            connection = self.connections.get(peer.id)
            if connection is not None:
                connection.fail(refusals.no_decoder())

    def _decoded(self, key: tuple[int, int], result: Result) -> None:
        if result.value is None:
            self._close_decoder(key)
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
        speakers: list[Speaker] = [*self.room.peers.values(), *self.room.guests.values()]
        wanted = {(each.id, n_q) for each in speakers for n_q in self.room.pcm_rates(each)}
        for key in set(self._decoders) - wanted:
            self._close_decoder(key)
        for (speaker_id, n_q), decoder in self._decoders.items():
            self._charge(decoder, [peer.id for peer in self.room.pcm_listeners(speaker_id, n_q)])

    def _charge(self, decoder: _Decoder, listeners: list[int]) -> None:
        """Counts a decoder for another of its listeners where the one that it counted for is
        gone."""
        present = [peer_id for peer_id in listeners if peer_id in self.connections]
        if decoder.listener in present or not present:
            return
        self._shares.give_back(decoder.address)
        decoder.listener, decoder.address = present[0], self.connections[present[0]].address
        self._shares.take(decoder.address)
