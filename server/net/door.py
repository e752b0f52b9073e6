"""The door of a server: how many connections are open, how many have brought no whole request yet,
who waits to be let in, and what was refused.

Each connection is let in after it was accepted: the addresses that have connections waiting take
turns, so that one that connects all the time keeps only itself waiting."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from earshot.server.audit import Audit
from earshot.server.core.address_shares import AddressShares, address_key
from earshot.server.settings import Settings

MAX_WAITING = 512
"""Connections that are accepted and wait to be let in, of all addresses."""


class Proxies:
    """The addresses of proxies that speak for others, as uvicorn reads them: addresses and networks
    with commas between, or `*`."""

    def __init__(self, allowed: str) -> None:
        self._all = allowed.strip() == "*"
        self._networks = []
        for part in allowed.split(","):
            try:
                self._networks.append(ipaddress.ip_network(part.strip()))
            except ValueError:
                continue  # uvicorn takes it for a name, which no peer of a socket has

    def __contains__(self, host: str) -> bool:
        if self._all:
            return True
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self._networks)


@dataclass(frozen=True)
class DoorLimits:
    """What a door holds its visitors to. A proxy that is trusted is bound by the limits for all
    addresses only, because everybody behind it has its address."""

    connections: int
    """Open connections at most."""
    per_address: int
    half_made_per_address: int
    """Connections of one address that have not brought a whole request."""
    waiting_per_address: int
    interval_s: float
    """Time between two connections that are let in."""
    head_s: float
    """How long a connection has for the head of its request, and then for its handshake."""
    body_s: float
    answer_s: float
    """How long it may take to answer a request, and the client to read the answer."""

    @staticmethod
    def of(settings: Settings) -> DoorLimits:
        """Returns the limits of a server of rooms. Of the connections above `max_connections` as
        many again are let in, and are told why they cannot stay."""
        return DoorLimits(
            connections=2 * settings.max_connections,
            per_address=2 * settings.max_connections_per_address,
            half_made_per_address=settings.max_half_made_per_address,
            waiting_per_address=settings.max_waiting_per_address,
            interval_s=settings.accept_interval_ms / 1000,
            head_s=settings.hello_timeout_s,
            body_s=settings.hello_timeout_s,
            answer_s=2 * settings.hello_timeout_s,
        )


class Visit:
    """One connection, from when it is let in until it is gone."""

    def __init__(self, door: Door, network: str) -> None:
        self._door, self._network = door, network
        self._half_made = False
        door.open.take(network)
        self.begin()

    def begin(self) -> None:
        """Takes in that it has to bring a request."""
        if not self._half_made:
            self._half_made = True
            self._door.half_made.take(self._network)

    def brought(self) -> None:
        """Takes in that the application has its request."""
        if self._half_made:
            self._half_made = False
            self._door.half_made.give_back(self._network)

    def leave(self) -> None:
        """Takes in that the connection is gone."""
        self.brought()
        self._door.open.give_back(self._network)


class Door:
    """Counts the connections of a server, by address, and decides who comes in next."""

    def __init__(
        self, limits: DoorLimits, proxies: Proxies, note: Callable[[str, str], None] = lambda host, reason: None
    ) -> None:
        """`note` is told of each refusal, by host and reason."""
        self.limits = limits
        self._note = note
        self._proxies = proxies
        self.open = AddressShares()
        self.half_made = AddressShares()
        self.refused: Counter[str] = Counter()
        """Connections and requests that were refused or cut, by reason."""
        self._waiting: OrderedDict[str, deque[tuple[str, socket.socket]]] = OrderedDict()
        self._somebody = asyncio.Event()

    def stats(self) -> dict[str, object]:
        """Returns what `/stats` shows."""
        return {
            "open": self.open.total(),
            "half_made": self.half_made.total(),
            "waiting": self._count_waiting(),
            "refused": dict(sorted(self.refused.items())),
        }

    def _count_waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def knock(self, host: str, connection: socket.socket) -> None:
        """Lets a connection wait for its turn. Where too many wait already, one of the address that
        has most of them is closed."""
        network = address_key(host)
        queue = self._waiting.setdefault(network, deque())
        queue.append((host, connection))
        self._somebody.set()
        if host not in self._proxies and len(queue) > self.limits.waiting_per_address:
            self._send_away(queue, "too_many_waiting")
        elif self._count_waiting() > MAX_WAITING:
            self._send_away(max(self._waiting.values(), key=len), "too_many_waiting")

    def _send_away(self, queue: deque[tuple[str, socket.socket]], reason: str) -> None:
        host, connection = queue.pop()
        self.refuse(host, reason)
        connection.close()

    def refuse(self, host: str, reason: str) -> None:
        """Counts a connection or a request that is refused or cut."""
        self.refused[reason] += 1
        self._note(host, reason)

    async def next(self) -> socket.socket:
        """Waits for the next connection that may come in; the addresses take turns."""
        while True:
            while not self._waiting:
                self._somebody.clear()
                await self._somebody.wait()
            network, queue = self._waiting.popitem(last=False)
            if not queue:
                continue
            host, connection = queue.popleft()
            if queue:
                self._waiting[network] = queue
            reason = self._reason_against(host, network)
            if reason is None:
                return connection
            self.refuse(host, reason)
            connection.close()

    def _reason_against(self, host: str, network: str) -> str | None:
        if self.open.total() >= self.limits.connections:
            return "too_many"
        if host in self._proxies:
            return None
        if self.half_made.held(network) >= self.limits.half_made_per_address:
            return "too_many_half_made"
        return "too_many_of_address" if self.open.held(network) >= self.limits.per_address else None

    def visit(self, host: str) -> Visit:
        """Counts a connection that was let in."""
        return Visit(self, address_key(host))

    def close(self) -> None:
        """Closes the connections that wait."""
        for queue in self._waiting.values():
            for _, connection in queue:
                connection.close()
        self._waiting.clear()


def new_door(settings: Settings, audit: Audit) -> Door:
    """Returns the door of a server of rooms, which notes refusals in the audit log."""

    def note(host: str, reason: str) -> None:
        audit.note("turned_away", address=host, reason=reason)

    return Door(DoorLimits.of(settings), Proxies(settings.forwarded_allow_ips), note)
