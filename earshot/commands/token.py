"""The command `earshot token`; imports the rest when it runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from earshot.codec.terminal import Terminal

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(text: str) -> float | None:
    """Returns the seconds of `30m`, `1h`, `7d` or `ever` (None). Raises typer.BadParameter."""
    if text == "ever":
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None or not float(match[1]):
        raise typer.BadParameter(f"{text!r} is no time: a number and s, m, h or d, as 30m, 1h or 7d, or: ever")
    return float(match[1]) * UNITS[match[2]]


def _told(room: str, seconds: float | None, server: str) -> Iterator[str]:
    """Yields what was printed, in words, for whoever sees it on a terminal."""
    from earshot.server.net.tls import own_fingerprint

    until = "for ever" if seconds is None else f"until {datetime.now() + timedelta(seconds=seconds):%Y-%m-%d %H:%M}"
    if re.fullmatch(r"[A-Za-z0-9_-]+", room):
        yield f"Above: a token, and a link with it. They are good {until}."
    else:
        yield f"Above: a token, good {until}. Use: earshot call ROOM --token TOKEN"
    if re.match("(wss|https)://", server) and (fingerprint := own_fingerprint()):
        yield "If that server was started with --tls self-signed here, callers in a terminal add:"
        yield f"--tls-fingerprint {fingerprint}"


def token(
    room: Annotated[str, typer.Argument(help="A room, or a pattern as a shell's for several: 'team-*'.")],
    name: Annotated[str, typer.Option(help="What the others see; the client chooses if not given.")] = "",
    for_: Annotated[str, typer.Option("--for", help="How long it counts: 30m, 1h, 7d, or ever.")] = "1h",
    speak: Annotated[bool, typer.Option("--speak/--no-speak", help="May speak.")] = True,
    listen: Annotated[bool, typer.Option("--listen/--no-listen", help="May listen.")] = True,
    record: Annotated[bool, typer.Option("--record", help="May begin and end recordings.")] = False,
    moderate: Annotated[
        bool, typer.Option("--moderate", help="May mute and remove others, lock the room, and record.")
    ] = False,
    operate: Annotated[
        bool, typer.Option("--operate", help="May read /stats and /metrics, list all rooms, and drain the server.")
    ] = False,
    server: Annotated[
        str, typer.Option(envvar="EARSHOT_SERVER", help="What the link leads to; wss://HOST behind TLS.")
    ] = "ws://127.0.0.1:8765",
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The server's --token-key; the user's own if not given, made if need be."),
    ] = None,
) -> None:
    """Invite somebody: print a token for a room, and a link with it.

    The server must have the same key: `earshot serve --tokens` on this machine
    and by this user has it. Whoever has the link can enter, so make one for each
    person: only then can a moderator remove one of them for good. A token
    decides who comes in; when it ends, those who are in stay.

    \b
    earshot token kitchen --name Ada --for 1h
    earshot token 'team-*' --for 7d --moderate
    earshot token stage --no-speak --for 2h       for those who only listen
    earshot token '*' --operate --for ever        for Prometheus
    """
    from earshot.client.net.link import make_link
    from earshot.codec.errors import UsageError
    from earshot.server.access.access import server_key
    from earshot.server.access.keys import default_key_file, read_key
    from earshot.server.access.tokens import Tokens, expiry
    from earshot.server.core.grants import MAX_NAME, MAX_PATTERN, Grants
    from earshot.server.settings import Settings

    seconds = seconds_of(for_)
    if not re.fullmatch(r"[A-Za-z0-9_*?\[\]!-]+", room) or len(room) > MAX_PATTERN:
        raise UsageError(f"{room!r} is no room and no pattern: a room has 1 to 64 of A-Z a-z 0-9 _ -")
    if len(name) > MAX_NAME or not name.isprintable():
        raise UsageError(f"a name has at most {MAX_NAME} characters, all of them visible")
    known = read_key(key) if key else server_key(Settings()) or read_key(default_key_file(), make=True)
    grants = Grants(room, name, speak, listen, record or moderate, moderate, operate, expiry(seconds))
    made = Tokens(known).make(grants)
    print(made)
    if re.fullmatch(r"[A-Za-z0-9_-]+", room):
        print(make_link(server, room, made))
    if sys.stdout.isatty():
        for line in _told(room, seconds, server):
            Terminal(stderr=True).say(line)
