"""Which other nodes are there: who was heard of lately, and how their clocks differ from this
one's. No clock, no bus."""

from __future__ import annotations

from dataclasses import dataclass

from earshot.server.core.bus_messages import MAX_NODES, Beat, Echo


@dataclass
class Node:
    """Another node, as its beats tell."""

    name: str
    boot: int
    heard_us: int
    beat: Beat
    ahead_us: int = 0
    """How far its clock is ahead of this one's."""
    round_trip_us: int | None = None
    """The shortest of the round trips that tell so."""


class Presence:
    """The nodes that are there."""

    def __init__(self, me: str, boot: int, digest: str, timeout_us: int) -> None:
        """`digest` is that of the model served here: nodes with another are strangers."""
        self._me, self._boot, self._digest, self._timeout_us = me, boot, digest, timeout_us
        self.nodes: dict[str, Node] = {}
        self.namesake = False
        """Whether another node has this one's name."""
        self.strangers: dict[str, str] = {}
        """Digests of the models of nodes that serve another."""

    def beat(self, name: str, boot: int, beat: Beat, now_us: int) -> tuple[bool, bool]:
        """Takes in a node's beat. Returns whether the node that had the name is gone, and whether
        it is a new one."""
        if name == self._me:
            self.namesake = self.namesake or boot != self._boot
            return False, False
        if beat.digest != self._digest:
            if len(self.strangers) < MAX_NODES:
                self.strangers[name] = beat.digest
            return False, False
        known = self.nodes.get(name)
        if known is None and len(self.nodes) >= MAX_NODES - 1:
            return False, False
        if known is not None and known.boot == boot:
            known.heard_us, known.beat = now_us, beat
            self._compare_clocks(known, now_us)
            return False, False
        self.nodes[name] = node = Node(name, boot, now_us, beat)
        self._compare_clocks(node, now_us)
        return known is not None, True

    def _compare_clocks(self, node: Node, now_us: int) -> None:
        """As NTP does, with this node's last beat, its echo in the other's, and the latter."""
        echo = node.beat.echoes.get(self._me)
        if echo is None:
            return
        trip_us = (now_us - echo.sent_us) - (node.beat.clock_us - echo.came_us)
        if trip_us < 0 or (node.round_trip_us is not None and trip_us > node.round_trip_us):
            return
        node.round_trip_us = trip_us
        node.ahead_us = ((echo.came_us - echo.sent_us) + (node.beat.clock_us - now_us)) // 2

    def echoes(self) -> dict[str, Echo]:
        """Returns what this node's next beat says of the others'."""
        return {node.name: Echo(sent_us=node.beat.clock_us, came_us=node.heard_us) for node in self.nodes.values()}

    def knows(self, name: str, boot: int) -> bool:
        """Returns whether a message of such a node counts."""
        node = self.nodes.get(name)
        return node is not None and node.boot == boot

    def leave(self, name: str) -> bool:
        """Takes in that a node ends. Returns whether it was there."""
        return self.nodes.pop(name, None) is not None

    def overdue(self, now_us: int) -> list[str]:
        """Returns the nodes of which nothing was heard for too long, and forgets them."""
        gone = [node.name for node in self.nodes.values() if now_us - node.heard_us > self._timeout_us]
        for name in gone:
            del self.nodes[name]
        return gone
