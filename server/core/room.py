"""A room: who is in it, and who hears whom at what rate. No clock, no socket."""

from __future__ import annotations

from dataclasses import dataclass, field

from earshot.codec.config import ModelConfig
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import (
    PROTOCOL,
    Hello,
    Mute,
    PeerChanged,
    PeerInfo,
    PeerJoined,
    PeerLeft,
    Report,
    Send,
    SetRate,
    Stats,
    Want,
    WindowModel,
)
from earshot.protocol.packet import Packet, PcmBlock
from earshot.protocol.silence import Silence
from earshot.protocol.text import MAX_REASON, clean
from earshot.server.core import refusals
from earshot.server.core.grants import EVERYONE, Grants
from earshot.server.core.guests import Guest, Speaker
from earshot.server.core.peer_names import name_in_room
from earshot.server.core.recent_speech import RecentSpeech
from earshot.server.core.send_queue import DegradationPolicy, SendQueue
from earshot.server.core.uplink import Uplink

PEER_IDS = (1 << 16) - 1
MAX_SPEAKERS, MAX_SPEAKING_GUESTS = 200, 250
"""Those in one room who do not only listen: a message to a client has at most 255 speakers. Nodes
that let somebody in at the same moment may go over the first by a few, and over `max_peers`."""
MAX_TOGETHER = 1250
"""People of all nodes in one room, at most."""


@dataclass(eq=False)
class Peer:
    """One client in a room, as speaker and as listener."""

    id: int
    name: str
    send: Send
    want: Want
    send_kbps: float
    max_kbps: float
    trace: bool
    uplink: Uplink
    queue: SendQueue
    send_n_q: int
    """Codebooks that its PCM is encoded with."""
    listen_n_q: int
    """Codebooks of each speaker that it takes at most."""
    model: WindowModel | None = None
    """What makes its codes, None for the room's model."""
    also: frozenset[str] = frozenset()
    """Digests of other models whose windows it takes."""
    silence: bool = False
    """Whether it is told of silence that is not sent, and may tell of it."""
    stats_every_s: float = 1.0
    muted: bool = False
    silenced: bool = False
    """Muted by a moderator, so that it cannot unmute itself."""
    away: bool = False
    """Whether its connection broke and its seat is kept."""
    recent: RecentSpeech = field(default_factory=RecentSpeech)
    grants: Grants = EVERYONE
    report: Report | None = None
    lost_noted: int = 0
    """What it had missed by reading slowly when that was last written to the log."""
    media_received: int = 0
    """Bytes of messages, here and below."""
    control_received: int = 0
    media_sent: int = 0
    control_sent: int = 0

    @property
    def bytes_sent(self) -> int:
        return self.media_sent + self.control_sent

    def info(self) -> PeerInfo:
        return PeerInfo(
            id=self.id,
            name=self.name,
            send=self.send,
            want=self.want,
            send_kbps=self.send_kbps,
            max_kbps=self.max_kbps,
            muted=self.muted,
            model=self.model,
        )

    def takes(self, speaker: Speaker) -> int:
        """Codebooks that it takes of a speaker; 0 if it takes no codes, or not those of the
        speaker's model."""
        if self.want != "codes" or self.away:
            return 0
        if speaker.model is None:
            return self.listen_n_q
        return speaker.model.n_q_at_most(self.max_kbps) if speaker.model.digest in self.also else 0

    def is_as(self, hello: Hello) -> bool:
        """Returns whether a client that says this hello sends and takes the same kinds."""
        kinds = (self.send, self.want, self.model, self.also)
        return kinds == (hello.send, hello.want, hello.send_model, frozenset(hello.also))

    def stats(self, now_us: int) -> Stats:
        return Stats(
            frames_received=self.uplink.frames_received,
            frames_discarded=self.uplink.frames_discarded,
            samples_replaced=self.uplink.samples_replaced,
            frames_sent=self.queue.frames_sent,
            frames_dropped=self.queue.frames_dropped,
            codebooks_cut=self.queue.codebooks_cut,
            queue_ms=self.queue.age_us(now_us) / 1000,
        )


def check_hello(hello: Hello, config: ModelConfig, digest: str) -> None:
    """Raises ProtocolError if this server cannot talk with such a client."""
    if hello.protocol != PROTOCOL:
        raise ProtocolError(f"protocol {hello.protocol}: this server speaks {PROTOCOL}", CloseCode.UNSUPPORTED_VERSION)
    if hello.send_model is not None and hello.send != "codes":
        raise ProtocolError("this server cannot encode for a model of your own: send codes", CloseCode.MODEL_MISMATCH)
    needs_ours = hello.want == "codes" or (hello.send == "codes" and hello.send_model is None)
    if needs_ours and hello.model != digest:
        theirs = "no model" if hello.model is None else f"the model {hello.model}"
        raise ProtocolError(
            f"this server's codec is {config.name} {digest}, and you have {theirs}: codes would not fit; load that "
            "model, or send and want pcm",
            CloseCode.MODEL_MISMATCH,
        )
    _send_n_q(hello.send_kbps, hello.send_model or config)
    _listen_n_q(hello.max_kbps, config)


def _send_n_q(kbps: float, config: ModelConfig | WindowModel) -> int:
    if kbps not in config.bandwidths:
        raise ProtocolError(
            f"send_kbps {kbps:g}: {config.name} has {list(config.bandwidths)}", CloseCode.MODEL_MISMATCH
        )
    return config.n_q_at_most(kbps)


def _decoded(speaker: Speaker) -> bool:
    """Returns whether the server must decode what a speaker says for those who want PCM: it has no
    weights but the room's."""
    return speaker.send != "none" and speaker.model is None


def _listen_n_q(kbps: float, config: ModelConfig) -> int:
    n_q = config.n_q_at_most(kbps)
    if not n_q:
        raise ProtocolError(
            f"max_kbps {kbps:g} is less than one codebook ({config.kbps_per_codebook:g} kbps)", CloseCode.MODEL_MISMATCH
        )
    return n_q


class Room:
    """Peers by id. Methods return the message that all the other peers should get."""

    def __init__(
        self, name: str, config: ModelConfig, max_peers: int, degradation: DegradationPolicy, audio_burst_ms: float
    ) -> None:
        self.name = name
        self.peers: dict[int, Peer] = {}
        self.guests: dict[int, Guest] = {}
        """Who is in the room by way of another node, by the same ids."""
        self._config = config
        self._max_peers = max_peers
        self._degradation = degradation
        self._audio_burst_ms = audio_burst_ms
        self._last_id = 0
        self.locked = False
        """Whether only moderators come in."""

    def join(self, hello: Hello, now_us: int, grants: Grants = EVERYONE) -> tuple[Peer, PeerJoined]:
        """Adds a new peer, whose `hello` has been checked. Raises ProtocolError if the room is
        full or locked."""
        if self.locked and not grants.moderate:
            raise refusals.room_locked(self.name)
        if len(self.peers) + len(self.guests) >= self._max_peers:
            raise ProtocolError(f"room {self.name} is full: {self._max_peers} peers", CloseCode.ROOM_FULL)
        if hello.send != "none" and self._speaking() >= MAX_SPEAKERS:
            raise ProtocolError(f"room {self.name} is full: {MAX_SPEAKERS} speak", CloseCode.ROOM_FULL)
        peer = Peer(
            id=self._new_id(),
            name=name_in_room(hello.name, self._names()),
            send=hello.send,
            want=hello.want,
            send_kbps=hello.send_kbps,
            max_kbps=hello.max_kbps,
            trace=hello.trace,
            uplink=Uplink(hello.send_model or self._config, self._audio_burst_ms, now_us),
            queue=SendQueue(
                self._config.hop_length, int(1e6 / self._config.frame_rate), self._degradation, hello.frames
            ),
            send_n_q=_send_n_q(hello.send_kbps, hello.send_model or self._config),
            listen_n_q=_listen_n_q(hello.max_kbps, self._config),
            model=hello.send_model,
            also=frozenset(hello.also),
            silence=hello.silence,
            stats_every_s=hello.stats_every_s,
            grants=grants,
        )
        self.peers[peer.id] = peer
        return peer, PeerJoined(peer=peer.info())

    def _new_id(self) -> int:
        """Returns the id least recently given, so that late packets of a peer that left are not
        taken for another's."""
        while True:
            self._last_id = self._last_id % PEER_IDS + 1
            if self._last_id not in self.peers and self._last_id not in self.guests:
                return self._last_id

    def _speaking(self) -> int:
        together = len(self.peers) + len(self.guests)
        if together < MAX_SPEAKERS:
            return together  # or fewer: nobody needs to count
        return sum(each.send != "none" for others in (self.peers, self.guests) for each in others.values())

    def _names(self) -> list[str]:
        return [other.name for others in (self.peers, self.guests) for other in others.values()]

    def others(self, peer: Peer) -> list[PeerInfo]:
        """Describes everyone else."""
        infos = [other.info() for other in self.peers.values() if other is not peer]
        return infos + [guest.info_here() for guest in self.guests.values()]

    def receive(self, node: str, info: PeerInfo, also: frozenset[str]) -> Guest | None:
        """Adds somebody whose connection another node has; None if there is no place."""
        if len(self.peers) + len(self.guests) >= MAX_TOGETHER:
            return None
        if info.send != "none" and self._speaking() >= MAX_SPEAKING_GUESTS:
            return None
        guest = Guest(self._new_id(), node, info.id, name_in_room(info.name, self._names()), info, also)
        self.guests[guest.id] = guest
        return guest

    def dismiss(self, guest: Guest) -> None:
        """Takes a guest out."""
        del self.guests[guest.id]
        for peer in self.peers.values():
            peer.queue.forget(guest.id)

    def leave(self, peer: Peer, reason: str) -> PeerLeft:
        del self.peers[peer.id]
        for other in self.peers.values():
            other.queue.forget(peer.id)
        return PeerLeft(id=peer.id, reason=clean(reason, MAX_REASON))

    def set_rate(self, peer: Peer, message: SetRate) -> PeerChanged:
        """Raises ProtocolError, and changes nothing, for rates that the model does not have, or
        of what the peer may not do."""
        peer.grants.check_rate(message)
        send_kbps = peer.send_kbps if message.send_kbps is None else message.send_kbps
        max_kbps = peer.max_kbps if message.max_kbps is None else message.max_kbps
        send_n_q, listen_n_q = _send_n_q(send_kbps, peer.model or self._config), _listen_n_q(max_kbps, self._config)
        peer.send_n_q, peer.listen_n_q = send_n_q, listen_n_q
        peer.send_kbps, peer.max_kbps = send_kbps, max_kbps
        if message.frames is not None:
            peer.queue.set_frames(message.frames)
        return PeerChanged(peer=peer.info())

    def come_back(self, peer: Peer, hello: Hello, now_us: int) -> None:
        """Lets a peer that was away, whose `hello` has been checked, go on where it was, with the
        last second of what the others said meanwhile. Raises ProtocolError as `set_rate` does."""
        send_kbps = None if peer.send == "none" else hello.send_kbps
        self.set_rate(peer, SetRate(send_kbps=send_kbps, max_kbps=None if peer.want == "none" else hello.max_kbps))
        peer.away = False
        peer.trace, peer.silence, peer.stats_every_s = hello.trace, hello.silence, hello.stats_every_s
        peer.queue.restart(hello.frames)
        everyone: list[Speaker] = [*self.peers.values(), *self.guests.values()]
        for other in everyone:
            if other is peer or not (n_q := peer.takes(other)):
                continue
            for media in other.recent.since(now_us):
                if isinstance(media, Packet):
                    trace = media.trace if peer.trace else None
                    peer.queue.put(media.cut(n_q).of(other.id, trace), now_us)
                elif peer.silence:
                    peer.queue.put(media._replace(source=other.id), now_us)

    def mute(self, peer: Peer, message: Mute) -> PeerChanged:
        peer.muted = message.muted or peer.silenced
        return PeerChanged(peer=peer.info())

    def silence(self, peer: Peer, on: bool) -> PeerChanged:
        """Mutes a peer that may not unmute itself, or lets it do so again; it stays muted until
        it does."""
        peer.silenced = on
        peer.muted = peer.muted or on
        return PeerChanged(peer=peer.info())

    def relay(self, speaker: Speaker, packet: Packet, now_us: int) -> list[Peer]:
        """Queues a speaker's codes for everyone else who takes them, cut to what each takes.
        Returns who that is."""
        if packet.scale is None:
            speaker.recent.add(packet, now_us)
        versions: dict[tuple[int, bool], Packet] = {}
        listeners: list[Peer] = []
        for peer in self.peers.values():
            if peer is speaker or not (n_q := peer.takes(speaker)):
                continue
            key = (min(n_q, packet.n_q), peer.trace)
            if key not in versions:
                versions[key] = packet.cut(key[0]).of(speaker.id, packet.trace if peer.trace else None)
            peer.queue.put(versions[key], now_us)
            listeners.append(peer)
        return listeners

    def hush(self, speaker: Speaker, silence: Silence, now_us: int) -> list[Peer]:
        """Queues a sign of silence for everyone else who hears the speaker. Those who have not
        asked to be told get what was waiting for the speaker's next frame. Returns who that is."""
        speaker.recent.add(silence, now_us)
        listeners: list[Peer] = []
        for peer in self.peers.values():
            if peer is speaker or peer.away or not (peer.takes(speaker) or peer.want == "pcm"):
                continue
            if peer.silence:
                peer.queue.put(silence._replace(source=speaker.id), now_us)
            else:
                peer.queue.forget(speaker.id)
            listeners.append(peer)
        return listeners

    def relay_pcm(self, speaker_id: int, n_q: int, block: PcmBlock, now_us: int) -> list[Peer]:
        """Queues what was decoded of a speaker's first `n_q` codebooks for those who listen at that
        rate."""
        listeners = self.pcm_listeners(speaker_id, n_q)
        for peer in listeners:
            peer.queue.put(block if peer.trace else block._replace(trace=None), now_us)
        return listeners

    def pcm_listeners(self, speaker_id: int, n_q: int) -> list[Peer]:
        """Returns the peers that hear a speaker's first `n_q` codebooks as PCM."""
        return [
            peer
            for peer in self.peers.values()
            if peer.id != speaker_id and peer.want == "pcm" and not peer.away and peer.listen_n_q == n_q
        ]

    def decoders_for(self, hello: Hello) -> int:
        """Returns how many pairs of a speaker and a rate more must be decoded once such a client is
        in."""
        rates = {peer.listen_n_q for peer in self.peers.values() if peer.want == "pcm"}
        heard = len(rates) if hello.send != "none" and hello.send_model is None else 0
        if hello.want != "pcm" or _listen_n_q(hello.max_kbps, self._config) in rates:
            return heard
        return heard + sum(_decoded(peer) for others in (self.peers, self.guests) for peer in others.values())

    def decoders_for_rate(self, peer: Peer, message: SetRate) -> int:
        """Returns the same for a peer that is in and takes another rate: none if others have that
        too, or nobody its old one. Raises ProtocolError."""
        if peer.want != "pcm" or message.max_kbps is None:
            return 0
        others = [other for other in self.peers.values() if other is not peer]
        rates = {other.listen_n_q for other in others if other.want == "pcm"}
        if _listen_n_q(message.max_kbps, self._config) in rates or peer.listen_n_q not in rates:
            return 0
        return sum(map(_decoded, others)) + sum(map(_decoded, self.guests.values()))

    def pcm_rates(self, speaker: Speaker) -> set[int]:
        """Returns the numbers of codebooks that a speaker must be decoded at for listeners that
        cannot; none for a speaker whose model is not the room's."""
        if speaker.model is not None:
            return set()
        return {
            peer.listen_n_q
            for peer in self.peers.values()
            if peer is not speaker and peer.want == "pcm" and not peer.away
        }
