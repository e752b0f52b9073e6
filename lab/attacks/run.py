"""Runs attacks beside two real calls: the server, the talkers, a pair that measures, and the
attacker are processes of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from earshot.codec.errors import EarshotError
from earshot.lab import VOICES
from earshot.lab.attacks.attacker import GRACE_S
from earshot.lab.attacks.probes import Probe, health, newcomer
from earshot.lab.attacks.results import Row, counted
from earshot.lab.children import START_S, WATCH_S, Child, ChildError, start_server
from earshot.lab.loadtest.generator import Call
from earshot.lab.loadtest.run import ask, call_of, child_environment, generators, on_loopback, open_rooms, stats
from earshot.lab.loadtest.tally import Tally, percentile_ms

ATTACKER = "127.0.0.2"
NEWCOMERS = [f"127.0.0.{last}" for last in range(11, 17)]
OBSERVER = "127.0.0.9"
SETTLE_S = 3.0
"""Time between two attacks, in which the server forgets the last one."""
END_S = 10.0

Show = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """Which attacks, how long and how strong."""

    attacks: Sequence[str]
    seconds: float = 20.0
    scale: float = 1.0
    model: str = "default"


@dataclass(frozen=True)
class Target:
    """The server that is attacked."""

    url: str
    host: str
    port: int
    about: dict[str, Any]
    """What its `/stats` said at the start."""
    server: Child | None = None

    def call(self) -> dict[str, Any]:
        """Returns what a load generator must know."""
        return call_of(self.url, self.about, 6.0)


@contextmanager
def target(model: str, url: str | None, show: Show) -> Iterator[Target]:
    """Yields the server at `url`, which must be of this machine, or one that is started. Raises
    UsageError, ChildError or EarshotError."""
    with tempfile.TemporaryDirectory(prefix="earshot-") as folder, ExitStack() as stack:
        server = None
        if url is None:
            show("starting a server")
            server, url = start_server(stack, Path(folder), model, child_environment())
        url = on_loopback(url)
        parts = urlparse(url)
        host = socket.gethostbyname(parts.hostname or "")
        yield Target(url, host, parts.port or 80, stats(url), server)


class Talkers:
    """Two calls from file to file in one room, which talk until the context ends."""

    def __init__(self, goal: Target, model: str, stack: ExitStack, folder: Path) -> None:
        self._goal, self._model, self._stack, self._folder = goal, model, stack, folder
        self._calls: list[Child] = []

    def start(self) -> None:
        """Starts the calls that do not run; returns once both hear each other."""
        room = f"talkers-{os.getpid()}-{time.monotonic_ns()}"
        if all(call.running for call in self._calls) and self._calls:
            return
        for call in self._calls:
            call.stop()
        self._calls = []
        for voice in ("ada", "ben"):
            arguments = ["call", room, "--server", self._goal.url, "--model", self._model, "--name", voice, "--loop"]
            arguments += ["--input", str(VOICES / f"{voice}.flac"), "--output", str(self._folder / f"{voice}.wav")]
            call = Child(f"the call of {voice}", [*arguments, "--status-json"], child_environment())
            self._calls.append(self._stack.enter_context(call))
        deadline = time.monotonic() + START_S
        while not all(self._hears(call) for call in self._calls):
            for call in self._calls:
                call.check(ended=True)
            if time.monotonic() > deadline:
                raise ChildError("the two calls did not hear each other")
            time.sleep(WATCH_S)

    @staticmethod
    def _hears(call: Child) -> bool:
        return any(speaker["mouth_to_ear_ms"] is not None for speaker in call.status.get("speakers", []))

    def figures(self) -> list[dict[str, int]]:
        """Returns underruns, missing frames and reconnects of each talker so far."""
        found = []
        for call in self._calls:
            status = call.status
            speakers = status.get("speakers", [])
            figures = {name: sum(speaker[name] for speaker in speakers) for name in ("underruns", "missing")}
            gone = int(not call.running or status.get("state") != "connected")
            found.append(figures | {"reconnects": status.get("reconnects", 0) + gone})
        return found


def run(plan: Plan, url: str | None, show: Show, found: Callable[[Row], None]) -> list[Row]:
    """Runs all attacks, one after the other, and shows each by `found`. Raises EarshotError."""
    rows = []
    with (
        target(plan.model, url, show) as goal,
        tempfile.TemporaryDirectory(prefix="earshot-") as folder,
        ExitStack() as stack,
        generators(goal.call(), VOICES, 1) as pair,
    ):
        show("two calls begin")
        talkers = Talkers(goal, plan.model, stack, Path(folder))
        opened, refused = open_rooms(pair, 1, f"pair-{os.getpid()}")
        if not opened:
            raise EarshotError(f"the server did not take the pair that measures: {refused}")
        for name in plan.attacks:
            talkers.start()
            time.sleep(SETTLE_S)
            show(f"attack: {name}")
            row = _measure(plan, goal, talkers, pair, name)
            rows.append(row)
            found(row)
    return rows


def _measure(plan: Plan, goal: Target, talkers: Talkers, pair: Sequence[subprocess.Popen[str]], name: str) -> Row:
    before, figures = stats(goal.url), talkers.figures()
    come = newcomer(Call(**goal.call()), NEWCOMERS, f"new-{os.getpid()}-{name}")
    joining = Probe("newcomer", come)
    healthy = Probe("health", health(goal.host, goal.port, OBSERVER))
    with ExitStack() as probes:

        def begin() -> None:
            ask(pair, {"do": "reset"})
            figures[:] = talkers.figures()
            probes.enter_context(joining)
            probes.enter_context(healthy)

        outcome = attack(goal, name, plan.seconds, plan.scale, begin)
    (report,) = ask(pair, {"do": "report"})
    tally = Tally.from_json(report)
    now = talkers.figures()
    fault = f"the pair that measures was closed: {report['closed'][0]}" if report["closed"] else ""
    try:
        after = stats(goal.url)
    except EarshotError as error:
        after, fault = before, str(error)

    def more(what: str) -> tuple[int, ...]:
        return tuple(max(new[what] - old[what], 0) for new, old in zip(now, figures, strict=True))

    return Row(
        name,
        more("underruns"),
        more("missing"),
        sum(more("reconnects")),
        percentile_ms(tally.added, 0.99),
        tally.lost,
        joining.tries.worst,
        tuple(joining.tries.failures),
        healthy.tries.worst,
        tuple(healthy.tries.failures),
        outcome,
        counted(before, after, joining.tries.codes),
        fault,
    )


def attack(
    goal: Target,
    name: str,
    seconds: float,
    scale: float,
    begin: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Runs one attack in a process of its own and returns its `Outcome`. `begin` is called when the
    process is ready, right before it attacks. The process is killed where it does not end by
    itself."""
    told = {"attack": name, "host": goal.host, "port": goal.port, "source": ATTACKER, "seconds": seconds}
    told |= {"scale": scale, "digest": goal.about["model"]["digest"]}
    command = [sys.executable, "-m", "earshot.lab.attacks.attacker"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=child_environment()) as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 -- for the types only
        try:
            process.stdin.write(json.dumps(told) + "\n")
            process.stdin.flush()
            process.stdout.readline()
            begin()
            said, _ = process.communicate("go\n", timeout=seconds + GRACE_S + END_S)
        except subprocess.TimeoutExpired:
            return {"ended": {"killed": 1}}
        finally:
            if process.poll() is None:
                process.kill()
    if process.returncode:
        raise ChildError(f"the attacker of {name} ended with status {process.returncode}; what it said is above")
    outcome: dict[str, Any] = json.loads(said)
    return outcome
