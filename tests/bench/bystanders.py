"""What two people who talk notice of others who misbehave: a peer of their room that stops reading,
and 200 connections that send nothing.

    python -m tests.bench.bystanders [--seconds 30] [--model default]

Server and talkers are processes of their own with default settings. The figures are the talkers'
own, counted by their playout in each phase."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earshot.lab import VOICES
from earshot.protocol.messages import Hello
from tests.end_to_end.earshot_process import EarshotCall, EarshotServer, hears
from tests.peers import quiet_socket

ROOM = "bystanders"
TALKERS = ("ada", "ben")
STOP_S = 10.0
"""For how long a peer reads nothing."""
SILENT = 200
SETTLE_S = 2.0


@dataclass(frozen=True)
class Count:
    """What a listener has counted of the one it hears."""

    underruns: int = 0
    missing: int = 0

    def __sub__(self, other: Count) -> Count:
        return Count(self.underruns - other.underruns, self.missing - other.missing)


def count(call: EarshotCall, speaker: str) -> Count:
    figures = next(row for row in call.status["speakers"] if row["name"] == speaker)
    return Count(figures["underruns"], figures["missing"])


def stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url.replace("ws", "http", 1) + "/stats", timeout=30) as answer:  # noqa: S310
        figures: dict[str, Any] = json.load(answer)
        return figures


async def closed(url: str) -> Counter[int]:
    """Returns how many connections the server has closed with which code of its own
    (docs/protocol.md)."""
    told = (await asyncio.to_thread(stats, url))["closed"]
    return Counter({int(code): total for code, total in told.items() if int(code) >= 4000})


async def nobody(url: str, seconds: float) -> None:
    await asyncio.sleep(seconds)


async def one_that_stops_reading(url: str, seconds: float) -> None:
    """Joins, wants everything at the highest rate and reads nothing for STOP_S; then another peer
    does so."""
    digest = (await asyncio.to_thread(stats, url))["model"]["digest"]
    hello = Hello(protocol=1, name="idle", model=digest, send="none", want="codes", max_kbps=12.0).model_dump_json()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        raw = await quiet_socket(url, ROOM, hello)
        await asyncio.sleep(min(STOP_S, max(0.0, end - time.monotonic())))
        raw.close()


async def many_that_say_nothing(url: str, seconds: float) -> None:
    """Opens SILENT connections, and as many again whenever the server has closed them all.

    In real life they come from elsewhere. So this process gets a low priority, and what the talkers
    notice is the server's work, not that of opening connections."""
    os.nice(19)
    loop = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                silent = await asyncio.gather(*(quiet_socket(url, ROOM) for _ in range(SILENT)))
                try:
                    for raw in silent:
                        with contextlib.suppress(ConnectionError):
                            while await loop.sock_recv(raw, 4096):
                                pass
                finally:
                    for raw in silent:
                        raw.close()


PHASES: dict[str, Callable[[str, float], Awaitable[None]]] = {
    "nobody else": nobody,
    f"a peer that stops reading for {STOP_S:g} s": one_that_stops_reading,
    f"{SILENT} connections that say nothing": many_that_say_nothing,
}


async def measure(url: str, calls: dict[str, EarshotCall], seconds: float) -> None:
    hearing = [(calls[who], who, other) for who, other in (TALKERS, TALKERS[::-1])]
    for call, _, other in hearing:
        await asyncio.to_thread(call.wait_for, hears(other))
    await asyncio.sleep(5 * SETTLE_S)
    print(f"{'with':36}{'listener':>10}{'underruns':>11}{'missing':>9}   closed by the server")
    for name, phase in PHASES.items():
        before, codes = [count(call, other) for call, _, other in hearing], await closed(url)
        await phase(url, seconds)
        await asyncio.sleep(SETTLE_S)
        said = ", ".join(f"{total} with {code}" for code, total in (await closed(url) - codes).items()) or "-"
        for (call, who, other), earlier in zip(hearing, before, strict=True):
            change = count(call, other) - earlier
            print(f"{name:36}{who:>10}{change.underruns:11}{change.missing:9}   {said}", flush=True)
            name = said = ""


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.bench.bystanders", description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each of the three phases")
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(EarshotServer(folder, arguments.model, env={})).url
        calls = {
            who: stack.enter_context(
                EarshotCall(
                    *(ROOM, "--server", url, "--name", who, "--uplink", uplink, "--model", arguments.model, "--loop"),
                    *("--input", VOICES / f"{who}.flac", "--output", folder / f"{who}.wav"),
                    report=folder / f"{who}.json",
                )
            )
            for who, uplink in zip(TALKERS, ("pcm", "codes"), strict=True)
        }
        asyncio.run(measure(url, calls, arguments.seconds))
        for call in calls.values():
            call.leave()


if __name__ == "__main__":
    main()
