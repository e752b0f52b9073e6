"""Runs a load test: a server that is a process of its own, generators beside it, one step after the
other."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from earshot.codec.errors import EarshotError, UsageError
from earshot.lab.children import start_server
from earshot.lab.loadtest.plan import Findings, Plan, row_of
from earshot.lab.loadtest.tally import Tally
from earshot.server.settings import IDLE_NICE

STOP_S = 15.0
SETTLE_S = 1.0
"""Time between the arrival of new speakers and the first frame that counts."""
SPEAKERS_A_GENERATOR = 240
"""One process took 0.12 of a core for 60 speakers and 0.18 for 120, where two took 0.16 and
0.23."""
ONE_ADDRESS_LIMITS = {
    "EARSHOT_MAX_CONNECTIONS_PER_ADDRESS": "1024",
    "EARSHOT_JOIN_BURST": "1024",
    "EARSHOT_MAX_ADDRESS_SHARE": "1",
}
"""Limits of an address are lifted, because all load comes from this machine."""
DEDICATED_MACHINE = {"EARSHOT_WORKER_NICE": str(IDLE_NICE)}
"""The niceness of a server that has its machine to itself; the environment can override it."""

Show = Callable[[str], None]


def run(
    plan: Plan, model: str, voices: Path, url: str | None, show: Show, found: Callable[[Findings], None]
) -> Findings:
    """Takes all steps until one is too many, and shows each by `found`.

    `voices` is a folder of FLAC files, `url` a server that runs on this machine already; without it
    one is started. Raises EarshotError."""
    if url is not None:
        return _measure(plan, on_loopback(url), voices, show, found)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        show("starting a server")
        environment = DEDICATED_MACHINE | child_environment() | ONE_ADDRESS_LIMITS
        _, own = start_server(stack, Path(folder), _model_file(model, Path(folder)), environment)
        return _measure(plan, own, voices, show, found)


def _measure(plan: Plan, url: str, voices: Path, show: Show, found: Callable[[Findings], None]) -> Findings:
    about = stats(url)
    model, frame = about["model"], about["frame"]
    findings = Findings(
        model["name"],
        model["digest"],
        plan.kbps,
        1000 * frame["samples"] / frame["sample_rate"],
        os.cpu_count() or 1,
    )
    call = call_of(url, about, plan.kbps)
    gc.freeze()  # a collection that walks over all that is loaded takes a core from the server for 0.2 s
    with generators(call, voices, -(-plan.last // SPEAKERS_A_GENERATOR)) as children:
        speaking = 0
        for wanted in plan.steps():
            show(f"{wanted} speakers")
            opened, refused = open_rooms(children, (wanted - speaking) // 2, f"load-{os.getpid()}-{wanted}")
            speaking += 2 * opened
            if not speaking:
                raise EarshotError(f"the server took nobody: {refused}")
            time.sleep(SETTLE_S)
            before = stats(url)
            time.sleep(SETTLE_S)  # `/stats` itself takes a moment of the server
            ask(children, {"do": "reset"})
            time.sleep(plan.seconds)
            reports = ask(children, {"do": "report"})
            tally = Tally()
            for report in reports:
                tally.add(Tally.from_json(report))
            findings.rows.append(row_of(speaking, tally, reports, before, stats(url), refused))
            found(findings)
            if findings.over:
                break
    return findings


def call_of(url: str, about: dict[str, Any], kbps: float) -> dict[str, Any]:
    """Returns what generators must know of a server whose `/stats` said `about`."""
    frame = about["frame"]
    call = {"url": url, "digest": about["model"]["digest"], "kbps": kbps}
    return call | {"hop": frame["samples"], "sample_rate": frame["sample_rate"]}


def open_rooms(children: Sequence[subprocess.Popen[str]], pairs: int, prefix: str) -> tuple[int, str]:
    """Returns how many rooms of two were opened, and why not more."""
    rooms = [f"{prefix}-{index}" for index in range(pairs)]
    shares = [rooms[index :: len(children)] for index in range(len(children))]
    answers = ask(children, *({"do": "open", "rooms": share} for share in shares))
    refusals = [answer["refused"] for answer in answers if answer["refused"] is not None]
    said = f"{refusals[0]['code']}: {refusals[0]['message']}" if refusals else ""
    return sum(answer["opened"] for answer in answers), said


def ask(children: Sequence[subprocess.Popen[str]], *commands: dict[str, Any]) -> list[dict[str, Any]]:
    """Gives each generator its command (or all the only one), then takes the answers."""
    for index, generator in enumerate(children):
        _tell(generator, commands[index % len(commands)])
    return [_answer(generator) for generator in children]


def _tell(generator: subprocess.Popen[str], command: dict[str, Any]) -> None:
    if generator.stdin is not None:
        generator.stdin.write(json.dumps(command) + "\n")
        generator.stdin.flush()


def _answer(generator: subprocess.Popen[str]) -> dict[str, Any]:
    line = generator.stdout.readline() if generator.stdout is not None else ""
    if not line:
        raise EarshotError("a load generator has ended; what it said is above")
    answer: dict[str, Any] = json.loads(line)
    return answer


@contextmanager
def generators(call: dict[str, Any], voices: Path, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Yields processes of `earshot.lab.loadtest.generator` that are ready, and ends them
    afterwards. `call` holds the fields of its `Call`."""
    command = [sys.executable, "-m", "earshot.lab.loadtest.generator"]
    children: list[subprocess.Popen[str]] = []
    try:
        for seed in range(count):
            pipe = subprocess.PIPE
            generator = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=child_environment())
            children.append(generator)
            _tell(generator, {"call": call, "voices": str(voices), "seed": seed})
        for generator in children:
            _answer(generator)
        yield children
    finally:
        for generator in children:
            _end(generator)


def _end(process: subprocess.Popen[Any]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def child_environment() -> dict[str, str]:
    """Returns the environment of processes that share the cores with a server."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _model_file(model: str, folder: Path) -> str:
    """Returns the model; `full` becomes a file of the official shape with random weights, which
    cost as much time as trained ones."""
    if model != "full":
        return model
    import torch

    from earshot.codec.config import ENCODEC_24KHZ
    from earshot.codec.model.network import Encodec
    from earshot.codec.weights.load import save_native

    torch.manual_seed(0)
    network = Encodec(ENCODEC_24KHZ)
    with torch.no_grad():
        network.quantizer.codebooks.normal_(std=0.05)
    save_native(network, folder / "full.safetensors")
    return str(folder / "full.safetensors")


def on_loopback(url: str) -> str:
    """Returns the URL. Raises UsageError for another machine's: the test would be an attack on
    it."""
    parts = urlparse(url)
    host = parts.hostname or ""
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if parts.scheme != "ws" or not loopback:
        raise UsageError(f"{url}: a load test is for a server of this machine, as ws://127.0.0.1:8765")
    return url.rstrip("/")


NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Asks servers of this machine, whatever proxy there is for others."""


def stats(url: str) -> dict[str, Any]:
    """Returns what the server's `/stats` says. Raises EarshotError."""
    try:
        with NO_PROXY.open(url.replace("ws", "http", 1) + "/stats", timeout=30) as answer:
            figures: dict[str, Any] = json.load(answer)
            return figures
    except OSError as error:
        raise EarshotError(f"{url}: {error}; is a server running there?") from error
