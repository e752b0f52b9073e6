"""What a crowd takes that no machine here could serve: nodes, bus messages, bandwidth and money, on
paper, and how late the last listener hears, by a simulation (docs/capacity.md).

    python -m earshot.lab.scale --listeners 1000000

Each node has one event loop, which sends to its listeners one after the other, and to other nodes
one message each. What that costs was measured; everything else is arithmetic."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Costs:
    """What was measured on two cores of this project's machine, 2026-11-29, and what is assumed."""

    idle_cores: float = 0.05
    """What a node takes that serves nobody."""
    deliver_us: float = 9.0
    """Time of the event loop for a message to one listener."""
    frame_us: float = 15.0
    """The same for a frame for one, whatever message it goes in."""
    publish_us: float = 60.0
    """Assumed time of the event loop for a message to one other node."""
    hop_ms: tuple[float, float] = (0.6, 2.9)
    """Median and p99 of what a way over the bus adds."""
    busy: float = 0.6
    """Part of its core that an event loop may take before it is late."""
    node_hour: float = 0.04
    """Assumed price of one core and its memory for an hour."""
    gigabyte: float = 0.01
    """Assumed price of a gigabyte that leaves."""
    line_mbit: float = 1000.0
    """Assumed line of a node."""


@dataclass(frozen=True)
class Stream:
    """What every listener gets of one speaker."""

    kbps: float = 6.0
    frames: int = 3
    """Frames in a message."""
    frame_rate: float = 75.0
    overhead_bytes: int = 2 + 40 + 4
    """Headers of WebSocket, TCP/IP and the packet around a message's codes."""

    @property
    def messages(self) -> float:
        """Messages a second to one listener."""
        return self.frame_rate / self.frames

    @property
    def wire_kbps(self) -> float:
        """What one listener's line carries."""
        return self.kbps + self.messages * self.overhead_bytes * 8 / 1000


def node_cores(listeners: int, stream: Stream, costs: Costs) -> float:
    """Returns the part of a core that the event loop of a node with so many listeners takes."""
    each_us = stream.messages * costs.deliver_us + stream.frame_rate * costs.frame_us
    return costs.idle_cores + listeners * each_us / 1e6


def listeners_of_node(stream: Stream, costs: Costs) -> int:
    """Returns how many listeners a node carries."""
    each_us = stream.messages * costs.deliver_us + stream.frame_rate * costs.frame_us
    by_core = int((costs.busy - costs.idle_cores) * 1e6 / each_us)
    by_line = int(costs.line_mbit * 1000 * 0.8 / stream.wire_kbps)
    return min(by_core, by_line)


def branches(stream: Stream, costs: Costs) -> int:
    """Returns to how many nodes one node can pass a stream on beside nothing else: above it the
    tree of relays must have another level."""
    return int((costs.busy - costs.idle_cores) * 1e6 / (stream.frame_rate * costs.publish_us))


def levels(nodes: int, most: int) -> int:
    """Returns how many ways over the bus lead from the speaker's node to the last of so many
    nodes."""
    reached, width, depth = 1, 1, 0
    while reached < nodes:
        width *= most
        reached += width
        depth += 1
    return depth


def simulate(nodes: int, most: int, costs: Costs, seconds: float, seed: int = 0) -> dict[str, float]:
    """Passes frames down a tree of nodes, each of which sends to `most` others one after the other,
    and returns how late (ms) they reach the last level: over all its nodes, and at its slowest."""
    random = np.random.default_rng(seed)
    median, p99 = costs.hop_ms
    spread = math.log(p99 / median) / 2.326  # of a log-normal distribution with these two
    frames = max(1, int(seconds * 75))
    late = np.zeros((frames, 1))
    left, width = nodes - 1, 1
    while left > 0:
        width = min(width * most, left)
        left -= width
        parents = late[:, np.arange(width) % late.shape[1]]
        turns = (np.arange(width) // late.shape[1] + 1) * costs.publish_us / 1000
        late = parents + turns + median * np.exp(spread * random.standard_normal((frames, width)))
    return {
        "p50_ms": round(float(np.percentile(late, 50)), 2),
        "p99_ms": round(float(np.percentile(late, 99)), 2),
        "slowest_node_p50_ms": round(float(np.median(late.max(axis=1))), 2),
    }


def plan(listeners: int, stream: Stream, costs: Costs) -> dict[str, Any]:
    """Returns what so many listeners to one speaker take."""
    each = listeners_of_node(stream, costs)
    nodes = math.ceil(listeners / each)
    most = branches(stream, costs)
    gbit = listeners * stream.wire_kbps / 1e6
    by_tree = {f"tree of {width}": simulate(nodes, width, costs, 2.0) for width in (8, most) if nodes > 1}
    return {
        "listeners": listeners,
        "listeners_of_a_node": each,
        "nodes": nodes,
        "branches_at_most": most,
        "levels": levels(nodes, most),
        "bus_messages_a_second": int((nodes - 1) * stream.frame_rate),
        "wire_gbit_s": round(gbit, 2),
        "cost_an_hour": {
            "nodes": round(nodes * costs.node_hour, 2),
            "bandwidth": round(gbit / 8 * 3600 * costs.gigabyte, 2),
        },
        "how_late": by_tree,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m earshot.lab.scale", description=__doc__)
    parser.add_argument("--listeners", type=int, nargs="*", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--kbps", type=float, default=6.0)
    given = parser.parse_args()
    costs, stream = Costs(), Stream(given.kbps, given.frames)
    found = [plan(count, stream, costs) for count in given.listeners]
    print(json.dumps({"costs": asdict(costs), "plans": found}, indent=1))


if __name__ == "__main__":
    main()
