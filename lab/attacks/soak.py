"""Ten minutes of attacks in turn beside eight honest peers: what the server keeps of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from earshot.codec.errors import EarshotError, UsageError
from earshot.lab import VOICES
from earshot.lab.attacks.run import SETTLE_S, Plan, Show, attack, target
from earshot.lab.loadtest.run import ask, generators, open_rooms, stats
from earshot.lab.loadtest.tally import Tally, percentile_ms

HONEST_PAIRS = 4
WARM_S = 10.0
"""Time before the first figures and before the last ones, in which nobody attacks."""


@dataclass(frozen=True)
class Sample:
    """What the server's process holds at a moment."""

    after: str
    """The attack that has just ended, `start` or `end`."""
    minutes: float
    memory_mb: float
    files: int
    threads: int
    tasks: int | None
    """Tasks of its event loop; None where `/stats` does not say it."""
    connections: int
    rooms: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Heard:
    """What the honest peers heard of each other over the whole time."""

    frames: int
    lost: int
    added_p99_ms: float | None
    closed: list[str]


def held(pid: int, after: str, minutes: float, about: dict[str, Any]) -> Sample:
    """Reads what a process holds; `about` is its `/stats`. Raises EarshotError where the system has
    no /proc."""
    folder = Path(f"/proc/{pid}")
    try:
        status = dict(line.split(":", 1) for line in (folder / "status").read_text("utf-8").splitlines())
        files = len(os.listdir(folder / "fd"))
    except OSError as error:
        raise EarshotError(f"the server's process cannot be looked into: {error}") from error
    memory_mb = int(status["VmRSS"].split()[0]) / 1024
    connections, rooms = about["connections"], len(about["rooms"])
    return Sample(after, minutes, memory_mb, files, int(status["Threads"]), about.get("tasks"), connections, rooms)


def soak(
    plan: Plan, minutes: float, url: str | None, show: Show, found: Callable[[Sample], None], warm_s: float = WARM_S
) -> Heard:
    """Attacks in turn for so many minutes. Raises EarshotError."""
    if url is not None:
        raise UsageError("a soak looks into the server's process, so it starts a server of its own; leave --url out")
    with target(plan.model, None, show) as goal, generators(goal.call(), VOICES, 1) as honest:
        server = goal.server
        assert server is not None  # noqa: S101 -- `target` started it

        def sample(after: str, since: float) -> None:
            server.check(ended=True)
            found(held(server.pid, after, (time.monotonic() - since) / 60, stats(goal.url)))

        opened, refused = open_rooms(honest, HONEST_PAIRS, f"honest-{os.getpid()}")
        if opened < HONEST_PAIRS:
            raise EarshotError(f"the server took {opened} of {HONEST_PAIRS} honest pairs: {refused}")
        show("eight honest peers talk")
        time.sleep(warm_s)
        ask(honest, {"do": "reset"})
        began = time.monotonic()
        sample("start", began)
        turn = 0
        while time.monotonic() - began < 60 * minutes:
            name = plan.attacks[turn % len(plan.attacks)]
            show(f"attack: {name}")
            attack(goal, name, plan.seconds, plan.scale)
            time.sleep(SETTLE_S)
            sample(name, began)
            turn += 1
        time.sleep(warm_s)
        sample("end", began)
        (report,) = ask(honest, {"do": "report"})
        tally = Tally.from_json(report)
        return Heard(tally.heard, tally.lost, percentile_ms(tally.added, 0.99), report["closed"])
