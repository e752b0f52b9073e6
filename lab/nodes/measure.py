"""Measures two nodes: calls that go on while a node dies, the bus dies, and both nodes are upgraded
one after the other."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from earshot.lab import VOICES
from earshot.lab.children import Child
from earshot.lab.loadtest.nodes import Bus, Node
from earshot.lab.loadtest.run import NO_PROXY
from earshot.lab.nodes.peers import FRAME_S, Peer

Show = Callable[[str], None]


@dataclass
class Cluster:
    """Two nodes and their bus."""

    bus: Bus
    a: Node
    b: Node

    async def together(self) -> None:
        """Returns when each node knows the other."""
        for node in (self.a, self.b):
            while not await asyncio.to_thread(_knows_another, node):  # noqa: ASYNC110 -- another process
                await asyncio.sleep(0.05)


def _knows_another(node: Node) -> bool:
    try:
        with NO_PROXY.open(node.url.replace("ws", "http", 1) + "/stats", timeout=5) as answer:
            return bool(json.load(answer)["nodes"].get("nodes"))
    except OSError:
        return False


def start(stack: ExitStack, folder: Path, model: str, environment: dict[str, str] | None = None) -> Cluster:
    """Starts a bus and two nodes, which end with the stack."""
    bus = stack.enter_context(Bus())
    nodes = [stack.enter_context(Node(folder, bus, name, model, environment)) for name in ("a", "b")]
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait()
    return Cluster(bus, *nodes)


async def added_by_the_bus(cluster: Cluster, rooms: int, seconds: float) -> np.ndarray:
    """Returns what the bus adds to each frame, in ms: how much later the other node passes it on
    than the speaker's own. In each room one speaks, alone, so that nobody's frame waits for
    another's; the speakers take turns between the nodes, and one listens at either."""
    async with AsyncExitStack() as stack:

        async def enter(node: Node, room: str, send: str) -> Peer:
            peer = await Peer.enter(node.url, room, send, node.digest, send)
            stack.push_async_callback(peer.leave)
            return peer

        listeners, speakers = [], []
        for number in range(rooms):
            room, nodes = f"bus-{number}", [cluster.a, cluster.b]
            near, far = nodes if number % 2 == 0 else nodes[::-1]
            listeners.append([await enter(node, room, "none") for node in (near, far)])
            speakers.append(await enter(near, room, "codes"))
        for number, speaker in enumerate(speakers):
            speaker.talk(number)
            await asyncio.sleep(FRAME_S / rooms)
        await asyncio.sleep(seconds)
        added: list[float] = []
        for pair in listeners:
            own, other = (each.lines["codes"].relayed_us for each in pair)
            added += [(other[number] - own[number]) / 1000 for number in own.keys() & other.keys()]
        return np.array(added)


def call(stack: ExitStack, folder: Path, name: str, voice: str, room: str, *servers: Node) -> Child:
    """Starts a real call that speaks without a pause."""
    urls = ",".join(node.url for node in servers)
    arguments = ["call", room, "--server", urls, "--name", name, "--input", str(VOICES / f"{voice}.flac"), "--loop"]
    arguments += ["--output", str(folder / f"{name}.wav"), "--uplink", "codes", "--no-dtx", "--status-json", "--force"]
    arguments += ["--report", str(folder / f"{name}.json"), "--latency", "low"]
    return stack.enter_context(Child(name, arguments))


def underruns(child: Child) -> int:
    """Returns how often somebody was not heard in time in a call, so far."""
    return sum(int(speaker["underruns"]) for speaker in child.status.get("speakers", []))


async def until(what: Callable[[], bool], within_s: float = 60.0) -> None:
    """Waits until something is so. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not what():  # noqa: ASYNC110 -- another process
            await asyncio.sleep(0.02)


async def survive(cluster: Cluster, folder: Path, show: Show) -> dict[str, object]:
    """Kills and upgrades, and returns what calls felt of it."""
    found: dict[str, object] = {}
    with ExitStack() as stack:
        ear = await Peer.enter(cluster.a.url, "shared", "ear", cluster.a.digest, "codes")
        ear.talk()
        local = [call(stack, folder, name, voice, "local", cluster.a) for name, voice in (("l1", "ada"), ("l2", "ben"))]
        mover = call(stack, folder, "mover", "ada", "shared", cluster.b, cluster.a)
        await until(
            lambda: ear.lines["mover"].frames > 100 and all(len(c.status.get("speakers", [])) == 1 for c in local)
        )
        await until(lambda: all(c.status["speakers"][0]["mouth_to_ear_ms"] is not None for c in local))
        await asyncio.sleep(3)

        async def watch(name: str, act: Callable[[], None], seconds: float) -> None:
            show(name)
            before = [underruns(child) for child in local]
            reconnects = int(mover.status.get("reconnects", 0))
            since = time.monotonic()
            await asyncio.to_thread(act)
            await asyncio.sleep(seconds)
            now = time.monotonic()
            arrived = [at for who, line in ear.lines.items() if who.startswith("mover") for at in line.arrived_s]
            times = [since, *sorted(at for at in arrived if since <= at <= now), now]
            gap = max(later - earlier for earlier, later in pairwise(times))
            found[name] = {
                "gap_s": round(gap, 3),
                "local_underruns": [underruns(child) - was for child, was in zip(local, before, strict=True)],
                "reconnects": int(mover.status.get("reconnects", 0)) - reconnects,
            }

        await watch("nothing happens", lambda: None, 5)
        await watch("a node is killed", cluster.b.kill, 6)
        cluster.b.start()
        await asyncio.to_thread(cluster.b.wait)
        await cluster.together()
        # Back to the other node, as that is where the next two begin.
        mover.stop()
        mover = call(stack, folder, "mover2", "ada", "shared", cluster.b, cluster.a)
        await until(lambda: ear.lines["mover2"].frames > 400)

        def restart_bus() -> None:
            cluster.bus.kill()
            time.sleep(3)
            cluster.bus.start()

        await watch("the bus is killed and back after 3 s", restart_bus, 4)
        await until(lambda: ear.lines["mover2"].arrived_s[-1] > time.monotonic() - 0.5)
        await watch("the mover's node is drained", cluster.b.terminate, 5)
        await asyncio.to_thread(cluster.b.wait_for_end)
        for child in (*local, mover):
            child.check()
        await ear.leave()
    return found


def measure(model: str, seconds: float, show: Show) -> dict[str, object]:
    """Starts two nodes and measures everything. Raises EarshotError."""
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        cluster = start(stack, folder, model)

        async def run() -> None:
            await cluster.together()
            for rooms in (2, 16):
                show(f"what the bus adds, {rooms} rooms")
                added = await added_by_the_bus(cluster, rooms, seconds)
                cuts = {f"p{share:g}": round(float(np.percentile(added, share)), 2) for share in (50, 95, 99, 99.9)}
                found[f"the bus adds, ms, {rooms} rooms"] = cuts | {"frames": len(added)}
            found.update(await survive(cluster, folder, show))

        asyncio.run(run())
    return found
