"""This server as one of several nodes: carries what its rooms say to the others, and what comes of
them to its rooms (server/core/shared_room.py, presence.py)."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import socket
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

from earshot.codec.errors import UsageError
from earshot.protocol import messages
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.messages import MAX_SERVERS, Moderate
from earshot.protocol.packet import Packet
from earshot.protocol.sequence import CLOCK_MODULUS
from earshot.protocol.silence import Silence
from earshot.server.clock import clock_us
from earshot.server.core.bus_messages import (
    MAX_ADDRESS,
    NODE_PATTERN,
    AskModeration,
    AskState,
    Beat,
    Body,
    BusError,
    Bye,
    Change,
    Control,
    Find,
    Found,
    Left,
    Media,
    Moderated,
    Removed,
    RoomState,
    Versions,
    is_media,
    read_control,
    read_media,
)
from earshot.server.core.grants import Grants
from earshot.server.core.guests import Guest
from earshot.server.core.presence import Node, Presence
from earshot.server.core.room import Room
from earshot.server.core.shared_room import NODE_GONE, SharedRoom
from earshot.server.hub import Hub
from earshot.server.live_room import LiveRoom
from earshot.server.nodes.bus import Bus
from earshot.server.nodes.part import Part
from earshot.server.settings import Settings

log = logging.getLogger(__name__)

BEATS = 5
"""Beats in the time after which a node that is not heard of is gone."""
FIND_S = 0.25
"""How long the other nodes have to say who is in a room."""
MAX_FINDS = 256


class _Asked:
    """A question to all nodes, and their answers."""

    def __init__(self, nodes: set[str]) -> None:
        self.missing, self.states, self.done = nodes, dict[str, RoomState](), asyncio.Event()


class Cluster:
    """The nodes that serve the same rooms as this one."""

    def __init__(self, hub: Hub, settings: Settings) -> None:
        """Raises UsageError for names and addresses that cannot be."""
        self.me = settings.node or default_name()
        if not re.fullmatch(NODE_PATTERN, self.me):
            raise UsageError(f"{self.me!r} is no name of a node: it may have 1 to 32 of A-Z a-z 0-9 _ - (--node)")
        address = settings.public_url
        if address and (len(address) > MAX_ADDRESS or not re.fullmatch(r"wss?://[!-~]+", address)):
            raise UsageError("a node's public address is ws://HOST:PORT or wss://HOST (EARSHOT_PUBLIC_URL)")
        self._hub, self._address = hub, address
        self._timeout_us = int(settings.bus_timeout_s * 1e6)
        self._boot = secrets.randbits(32)
        self.presence = Presence(self.me, self._boot, hub.digest, self._timeout_us)
        url, tick_s = settings.bus.get_secret_value(), settings.bus_tick_ms / 1000
        self.bus = Bus(url, self.me, self._boot, tick_s, self._take, self._back)
        self._shared: dict[str, SharedRoom] = {}
        self._rooms_of: dict[tuple[str, int], SharedRoom] = {}
        """By node, and the number that the room has there."""
        self._found: dict[str, dict[str, RoomState]] = {}
        """What `find` found, until the room is open."""
        self._fresh: SharedRoom | None = None
        """The room that was furnished last."""
        self._asked: dict[int, _Asked] = {}
        self._numbers, self._asks = count(1), count(1)
        self._beating: asyncio.Task[None] | None = None
        self.counts: Counter[str] = Counter(bad=0, strange=0)
        """Messages that nobody sends who keeps to the rules, and what came of people not known."""

    async def start(self) -> None:
        await self.bus.start()
        self._beating = asyncio.create_task(self._beat_on())

    async def stop(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        self.tell(None, Bye())
        await self.bus.stop()

    def tell(self, node: str | None, body: Body) -> None:
        """Sends a control message to a node, or to all."""
        message = Control(node=self.me, boot=self._boot, body=body)
        self.bus.tell(node, message.model_dump_json(exclude_defaults=False).encode())

    # Who is there

    async def _beat_on(self) -> None:
        interval_us = self._timeout_us // BEATS
        due_us = clock_us()
        while True:
            late_us = clock_us() - due_us
            try:
                self._beat()
                if late_us < interval_us:  # else this node stood still, and what the others said waits to be read
                    for node in self.presence.overdue(clock_us()):
                        log.warning("node %s is gone", node)
                        self._drop(node, NODE_GONE)
            except Exception:
                log.exception("a beat of this node failed")
            due_us = clock_us() + interval_us
            await asyncio.sleep(interval_us / 1e6)

    def _beat(self) -> None:
        takes = not self._hub.shutting_down and not self._hub.drain.on
        beat = Beat(
            digest=self._hub.digest,
            clock_us=clock_us(),
            takes_calls=takes,
            address=self._address,
            echoes=self.presence.echoes(),
        )
        self.tell(None, beat)
        for node in self.presence.nodes:
            rooms = {name: shared.version for name, shared in self._shared.items() if node in shared.parts}
            if rooms:
                self.tell(node, Versions(rooms=rooms))

    def _back(self) -> None:
        """The bus is there, maybe again: the others hear of this node at once."""
        self._beat()

    def _drop(self, node: str, reason: str = "") -> None:
        """Takes a node's people out of all rooms."""
        for shared in list(self._shared.values()):
            self._drop_part(node, shared, reason)
        for asked in self._asked.values():
            self._answered(asked, node)

    def _drop_part(self, node: str, shared: SharedRoom, reason: str = "") -> None:
        part = shared.parts.get(node)
        if part is not None:
            self._rooms_of.pop((node, part.number), None)
            self._hear(shared, shared.drop(node, reason))

    def servers(self) -> list[str]:
        """Returns the addresses of the other nodes that take calls."""
        beats = [node.beat for node in self.presence.nodes.values()]
        told = [beat.address for beat in beats if beat.takes_calls and re.fullmatch(r"wss?://[!-~]+", beat.address)]
        return told[:MAX_SERVERS]

    def faults(self) -> list[str]:
        """Returns why this node cannot reach the others."""
        faults = [] if self.bus.connected else [f"the bus is gone ({self.bus.why_not})"]
        return [*faults, f"another node is called {self.me}, too"] if self.presence.namesake else faults

    # Rooms

    async def find(self, room: str, admit: Callable[[], object]) -> None:
        """Asks the other nodes who is in a room, if `admit` raises no ProtocolError."""
        self._found.pop(room, None)
        if room in self._shared or not self.presence.nodes or not self.bus.connected:
            return
        if len(self._asked) >= MAX_FINDS:
            return  # it is told soon after, all the same
        try:
            admit()
        except ProtocolError:
            return  # and it is refused
        self.counts["asked"] += 1
        number = next(self._asks) % (1 << 32)
        asked = self._asked[number] = _Asked(set(self.presence.nodes))
        try:
            self.tell(None, Find(room=room, ask=number))
            async with asyncio.timeout(FIND_S):
                await asked.done.wait()
        except TimeoutError:
            self.counts["unanswered"] += 1
        finally:
            del self._asked[number]
        if asked.states and room not in self._shared:
            if len(self._found) >= MAX_FINDS:
                self._found.pop(next(iter(self._found)))
            self._found[room] = asked.states

    def furnish(self, room: Room) -> None:
        """Puts the people of other nodes into a new room."""
        shared = SharedRoom(self.me, room, self._hub.config, next(self._numbers) % (1 << 32))
        for node, state in self._found.pop(room.name, {}).items():
            if node in self.presence.nodes:
                shared.take_state(node, state)
        self._fresh = shared

    def open(self, room: Room) -> Part:
        """Returns the other nodes' part of the room that was furnished just now, and tells them of
        it."""
        shared, self._fresh = self._fresh, None
        if shared is None or shared.room is not room:
            raise RuntimeError("a room is furnished before it is opened")
        self._shared[room.name] = shared
        for node, part in shared.parts.items():
            self._rooms_of[node, part.number] = shared
        self.tell(None, shared.state())
        return Part(shared, self.tell, self.bus.say, self.closed)

    def closed(self, shared: SharedRoom) -> None:
        """Forgets a room that nobody is in any more here."""
        for node, part in shared.parts.items():
            self._rooms_of.pop((node, part.number), None)
        self._shared.pop(shared.room.name, None)

    def removed(self, room: str, token: str) -> None:
        """Tells the others that the bearer of a token was removed."""
        if token:
            self.tell(None, Removed(room=room, token=token))

    def _live(self, shared: SharedRoom) -> LiveRoom | None:
        live = self._hub.rooms.get(shared.room.name)
        return live if live is not None and live.room is shared.room else None

    def _hear(self, shared: SharedRoom, told: list[messages.ServerMessage]) -> None:
        live = self._live(shared)
        if told and live is not None:
            live.hear(told)

    # What comes

    def _take(self, data: bytes) -> None:
        """Takes in a message of the bus. Whatever it holds, it hurts nobody."""
        try:
            if is_media(data):
                self._take_media(read_media(data))
            else:
                control = read_control(data)
                self._take_control(control.node, control.boot, control.body)
        except BusError as error:
            self.counts["bad"] += 1
            log.debug("a bad message came over the bus: %s", error)
        except Exception:
            self.counts["bad"] += 1
            log.exception("a message of the bus could not be taken in")

    def _take_media(self, media: Media) -> None:
        node = self.presence.nodes.get(media.node)
        if node is None or node.boot != media.boot:
            self.counts["strange"] += len(media.heard)
            return
        for number, said in media.heard:
            shared = self._rooms_of.get((media.node, number))
            guest = shared.guest(media.node, said.source) if shared is not None else None
            live = self._live(shared) if shared is not None else None
            if guest is None or live is None:
                self.counts["strange"] += 1
            elif isinstance(said, Silence):
                live.fall_silent(guest, said)
            elif self._fits(guest, said):
                live.play(guest, _by_our_clock(said, node))
            else:
                self.counts["bad"] += 1

    def _fits(self, guest: Guest, packet: Packet) -> bool:
        """Returns whether a speaker of such a model can say that."""
        if (packet.scale is not None) != (guest.model is not None):
            return False
        return packet.n_q <= (guest.model or self._hub.config).n_codebooks

    def _take_control(self, node: str, boot: int, body: Body) -> None:
        if isinstance(body, Beat):
            self._take_beat(node, boot, body)
            return
        if not self.presence.knows(node, boot):
            self.counts["strange"] += 1
            return
        if isinstance(body, Find):
            shared = self._shared.get(body.room)
            self.tell(node, Found(ask=body.ask, state=shared.state() if shared is not None else None))
        elif isinstance(body, Found):
            self._take_found(node, body)
        elif isinstance(body, Bye):
            if self.presence.leave(node):
                log.info("node %s has ended", node)
                self._drop(node)
        elif isinstance(body, Removed):
            self._hub.removals.add(body.room, Grants(room=body.room, id=body.token))
        elif isinstance(body, Versions):
            self._compare(node, body)
        elif (shared := self._shared.get(body.room)) is not None:
            self._take_of_room(node, shared, body)

    def _take_beat(self, node: str, boot: int, beat: Beat) -> None:
        known = set(self.servers())
        gone, new = self.presence.beat(node, boot, beat, clock_us())
        if gone:
            self._drop(node)
        if new:
            log.info("node %s is there", node)
            self._beat()
            for shared in self._shared.values():
                self.tell(node, shared.state())
        if set(self.servers()) - known:
            self._hub.tell_of_drain()

    def _take_found(self, node: str, found: Found) -> None:
        asked = self._asked.get(found.ask)
        if asked is not None:
            if found.state is not None:
                asked.states[node] = found.state
            self._answered(asked, node)

    def _answered(self, asked: _Asked, node: str) -> None:
        asked.missing.discard(node)
        if not asked.missing:
            asked.done.set()

    def _compare(self, node: str, versions: Versions) -> None:
        """Asks for what was missed."""
        for name, shared in list(self._shared.items()):
            part, version = shared.parts.get(node), versions.rooms.get(name)
            if version is not None and (part is None or part.version != version):
                self.tell(node, AskState(room=name))

    def _take_of_room(
        self, node: str, shared: SharedRoom, body: RoomState | Change | Moderated | AskModeration | Left | AskState
    ) -> None:
        if isinstance(body, RoomState):
            known = shared.parts.get(node)
            if known is not None:
                self._rooms_of.pop((node, known.number), None)
            told = shared.take_state(node, body)
            self._rooms_of[node, body.number] = shared
            self._hear(shared, told)
            if known is None:
                self.tell(node, shared.state())
        elif isinstance(body, Change):
            changed = shared.take_change(node, body)
            if changed is None:
                self.tell(node, AskState(room=body.room))
            else:
                self._hear(shared, changed)
        elif isinstance(body, AskState):
            self.tell(node, shared.state())
        elif isinstance(body, Left):
            self._drop_part(node, shared)
        elif isinstance(body, Moderated):
            self._hear(shared, [shared.moderated(body)])
        else:
            self._moderate(shared, body)

    def _moderate(self, shared: SharedRoom, asked: AskModeration) -> None:
        live = self._live(shared)
        if live is None or asked.action in ("lock", "unlock"):
            return
        by = shared.guest(asked.by.node, asked.by.id) if asked.by is not None else None
        target = live.moderate(Moderate(action=asked.action, peer=asked.peer), by, asked.name)
        if target is not None and asked.action == "remove":
            self._hub.removals.add(live.room.name, target.grants)
            self.removed(live.room.name, target.grants.id)

    def stats(self) -> dict[str, Any]:
        """Returns what `/stats` shows."""
        return {"nodes": len(self.presence.nodes), "shared_rooms": len(self._shared)} | self.bus.stats() | self.counts


def _by_our_clock(packet: Packet, node: Node) -> Packet:
    if packet.trace is None:
        return packet
    capture_us = (packet.trace.capture_us - node.ahead_us) % CLOCK_MODULUS
    return packet._replace(trace=packet.trace._replace(capture_us=capture_us))


def default_name() -> str:
    """Returns a name for this node that no other on its host has."""
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:20]
    return f"{host or 'node'}-{os.getpid()}"
