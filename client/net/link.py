"""Links that invite into a room: `https://HOST/?room=ROOM#TOKEN`.

A browser that opens one gets the server's page. The token stands behind the `#`, because browsers
send that part to nobody: it is in no log of a server or proxy, and in no Referer. Page and
terminal give it to the server in `hello`, which is in no log either."""

from __future__ import annotations

import base64
import json
import re
from typing import NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from earshot.codec.errors import UsageError
from earshot.codec.text import clean

MAX_NAME = 64
"""Characters of a name, as in `hello`."""
_TO_WEB = {"ws": "http", "wss": "https"}
_FROM_WEB = {"http": "ws", "https": "wss"}


class Link(NamedTuple):
    """Where a link leads."""

    server: str
    """A ws:// or wss:// address."""
    room: str
    token: str | None


def web_address(server: str) -> str:
    """Returns the http(s):// address of a server, without a slash at its end."""
    return re.sub(r"^ws(s?)://", r"http\1://", server if "://" in server else f"ws://{server}").rstrip("/")


def make_link(server: str, room: str, token: str) -> str:
    """Returns the link that lets its reader into a room. `server` is ws(s):// or http(s)://."""
    parts = urlsplit(server if "://" in server else f"ws://{server}")
    scheme = _TO_WEB.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/", urlencode({"room": room}), token))


def name_in(token: str | None) -> str:
    """Returns the name that the others see of whoever shows this token, or "" where that is the
    client's to choose, or the token is of a kind that nobody here can read."""
    try:
        part = (token or "").split(".")[1]
        said = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return clean(str(said.get("name") or ""), MAX_NAME)
    except (ValueError, IndexError, AttributeError, RecursionError):
        return ""


def parse_link(text: str) -> Link | None:
    """Returns where a link leads; None for what is none, as the name of a room. Raises UsageError
    for a link that names no room."""
    if not re.match(r"(https?|wss?)://", text):
        return None
    try:
        parts = urlsplit(text)
    except ValueError:  # brackets that are no address
        parts = urlsplit("")
    rooms = parse_qs(parts.query).get("room", [])
    if len(rooms) != 1 or not parts.netloc:
        raise UsageError("this link names no room; it looks like https://HOST/?room=ROOM#TOKEN")
    scheme = _FROM_WEB.get(parts.scheme, parts.scheme)
    return Link(urlunsplit((scheme, parts.netloc, parts.path.rstrip("/"), "", "")), rooms[0], parts.fragment or None)
