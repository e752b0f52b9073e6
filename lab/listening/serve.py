"""Runs a listening test until Ctrl-C, then shows the results."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from earshot.codec.errors import UsageError
from earshot.codec.terminal import Terminal
from earshot.lab.listening.app import create_app
from earshot.lab.listening.clips import find_clips
from earshot.lab.listening.plan import Plan, choose
from earshot.lab.listening.record import RATER_COLUMNS, ScoreFile, Table, read_ratings
from earshot.lab.listening.report import draw, table
from earshot.lab.listening.scores import result
from earshot.lab.listening.session import Session
from earshot.lab.listening.transport import rater_door, rater_http
from earshot.server.net.transport.server import StoppableServer

SCORES, RATERS, PICTURE = "scores.csv", ".raters.csv", "scores.png"
MAX_RATERS = 500


def make_server(app: FastAPI, ready: Callable[[int], None] = lambda port: None) -> uvicorn.Server:
    """Returns a server that calls `ready` with its port once it answers."""
    door = rater_door()
    config = uvicorn.Config(
        app,
        http=rater_http(door),
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    return StoppableServer(config, door, ready)


def listen(
    console: Terminal,
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 8766,
    systems: tuple[str, ...] = (),
    trials: int | None = None,
    seed: int = 1,
    max_raters: int = MAX_RATERS,
) -> None:
    """Serves the test of `folder` until Ctrl-C or SIGTERM, then shows the results if anybody has
    rated.

    Ratings are kept in the folder, and a test that was stopped goes on. Raises UsageError and
    AudioError for a folder that is no test, and UsageError for an address that cannot be had."""
    clips = find_clips(folder, systems)
    plan = Plan(choose(tuple(clips), trials, seed), next(iter(clips.values())).systems, seed)
    with contextlib.ExitStack() as stack:
        scores = ScoreFile(folder / SCORES)
        stack.callback(scores.close)
        raters = stack.enter_context(Table(folder / RATERS, RATER_COLUMNS))
        session = Session(plan, secrets.token_bytes(32), max_raters)
        session.restore(scores.ratings, _keys(folder / RATERS, raters))
        try:
            listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            why = (error.strerror or str(error)).partition(" (while")[0]  # Python repeats the address
            raise UsageError(f"cannot listen on {host} port {port}: {why}") from error
        stack.callback(listener.close)

        def ready(port: int) -> None:
            shown = f"[{host}]" if ":" in host else host
            for line in (
                f"listening test at http://{shown}:{port}/",
                f"clips: {len(plan.clips)}; systems: {', '.join(plan.systems)}",
                "Ctrl-C ends the test and shows the results.",
            ):
                console.say(line)

        make_server(create_app(session, clips, scores, raters), ready).run(sockets=[listener])
    if scores.ratings:
        show_results(console, folder)
    else:
        console.print("Nobody has rated.")


def _keys(path: Path, raters: Table) -> dict[str, bytes]:
    """Returns the digest of each rater's key."""
    try:
        return {name: bytes.fromhex(key) for name, key in raters.rows}
    except ValueError as error:
        raise UsageError(f"{path} is damaged; without it, raters who are not done must begin again") from error


def show_results(console: Terminal, folder: Path) -> None:
    """Shows table and picture of all ratings so far. Raises UsageError where there are none."""
    ratings = read_ratings(folder / SCORES)
    if not ratings:
        raise UsageError(f"nobody has rated yet: {folder / SCORES} is empty")
    found = result(ratings)
    console.print(table(found))
    for rater, why in found.thrown_out.items():
        console.say(f"thrown out: {rater} ({why})")
    draw(found, folder / PICTURE)
    console.say(f"picture: {folder / PICTURE}")
