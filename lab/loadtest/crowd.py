"""A load test of fan-out in the terminal: servers that are started for it, or that run already; a
crowd that grows; a line for each size of it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from earshot.codec.errors import UsageError
from earshot.codec.terminal import Terminal
from earshot.lab.children import start_server
from earshot.lab.loadtest.fanout import Crowd, Row, sizes
from earshot.lab.loadtest.generator import Call
from earshot.lab.loadtest.nodes import Bus, Node
from earshot.lab.loadtest.run import ONE_ADDRESS_LIMITS, call_of, child_environment, on_loopback, stats

CROWD = {"EARSHOT_MAX_PEERS_PER_ROOM": "1200", "EARSHOT_MAX_CONNECTIONS": "4096"}


def start(stack: ExitStack, folder: Path, count: int, model: str) -> list[str]:
    """Starts servers with the same rooms, which end with the stack. Returns their addresses."""
    limits = ONE_ADDRESS_LIMITS | CROWD
    if count == 1:
        return [start_server(stack, folder, model, child_environment() | limits)[1]]
    bus = stack.enter_context(Bus())
    nodes = [stack.enter_context(Node(folder, bus, f"n{number}", model, limits)) for number in range(count)]
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait()
    return [node.url for node in nodes]


def run(
    console: Terminal,
    urls: Sequence[str],
    nodes: int,
    model: str,
    speakers: int,
    listeners: int,
    rooms: int,
    frames: int,
    kbps: float,
    seconds: float,
) -> dict[str, Any]:
    """Measures crowds up to so many listeners, and shows each. Without `urls` servers are started.
    Returns the figures. Raises EarshotError."""
    if rooms > speakers:
        raise UsageError("there are more rooms than speakers: in some nothing would be heard")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        places = [on_loopback(url) for url in urls] or start(stack, Path(name), nodes, model)
        about = stats(places[0])
        call = Call(**call_of(places[0], about, kbps))
        crowd = stack.enter_context(closing(Crowd(call, places, rooms, frames)))
        crowd.add_speakers(speakers)
        rows: list[Row] = []
        for size in sizes(listeners):
            crowd.add_listeners(size)
            rows.append(crowd.measure(seconds, lambda: [float(stats(url)["cpu_s"]) for url in places]))
            console.say(line(rows[-1]))
        console.print(table(rows, len(places), speakers, rooms, frames))
        setting = {"servers": len(places), "speakers": speakers, "rooms": rooms, "frames": frames, "kbps": kbps}
        return setting | {"rows": [asdict(row) for row in rows]}


def line(row: Row) -> str:
    """Says what a crowd heard."""
    return f"{row.listeners} listeners: {row.heard} frames heard, {row.lost} lost, p99 {row.added_p99} ms"


def table(rows: Sequence[Row], servers: int, speakers: int, rooms: int, frames: int) -> Table:
    """Returns what all crowds heard."""
    shown = Table(title=f"{servers} servers, {speakers} speakers, {rooms} rooms, {frames} frames in a message")
    for column in ("listeners", "added p50, ms", "p99", "heard", "lost", "closed", "late p99", "servers, cores"):
        shown.add_column(column, justify="right")
    for row in rows:
        cells = (row.listeners, row.added_p50, row.added_p99, row.heard, row.lost, row.closed, row.late_p99)
        shown.add_row(*map(str, cells), " + ".join(map(str, row.servers_cpu)))
    return shown
