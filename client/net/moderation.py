"""What a moderator does to a room from outside, over HTTP."""

from __future__ import annotations

import re
import ssl
from typing import Any

import httpx
from pydantic import BaseModel, ValidationError

from earshot.client.net.link import web_address
from earshot.codec.errors import CallError, UsageError
from earshot.codec.proxies import proxy_for, shown_as
from earshot.protocol.text import MAX_SHOWN, clean

TIMEOUT_S = 10.0


class Present(BaseModel):
    """Somebody in a room."""

    id: int
    name: str
    send: str
    muted: bool


class _Room(BaseModel):
    who: list[Present] | None = None


def who_is_in(server: str, room: str, token: str | None, tls: ssl.SSLContext | None = None) -> list[Present]:
    """Returns who is in a room. Raises CallError if the server does not say so to this token. `tls`
    checks the server's certificate in another way than browsers do."""
    try:
        found = _Room.model_validate(_ask("GET", server, room, token, tls=tls))
    except ValidationError as error:
        raise CallError(f"{server} does not answer as an Earshot server") from error
    if found.who is None:
        raise CallError("this token does not allow to moderate")
    people = found.who
    return [each.model_copy(update={"name": clean(each.name, 64), "send": clean(each.send, 16)}) for each in people]


def act(
    server: str, room: str, token: str | None, action: str, person: str = "", tls: ssl.SSLContext | None = None
) -> None:
    """Mutes, unmutes or removes a person, by name or number, or locks or unlocks the room. Raises
    CallError, and UsageError for a person that is not there."""
    peer = None
    if action not in ("lock", "unlock"):
        people = who_is_in(server, room, token, tls)
        peer = next((each.id for each in people if person in (each.name, str(each.id))), None)
        if peer is None:
            names = ", ".join(each.name or str(each.id) for each in people) or "nobody"
            raise UsageError(f"{clean(person, 64)!r} is not in the room {room}; there is: {names}")
    _ask("POST", server, room, token, {"action": action, "peer": peer}, tls)


def _ask(
    method: str,
    server: str,
    room: str,
    token: str | None,
    body: dict[str, Any] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Any:
    base = web_address(server)
    url = f"{base}/v1/rooms/{room}" + ("/moderate" if method == "POST" else "")
    proxy = proxy_for(url, "socksio")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with httpx.Client(transport=httpx.HTTPTransport(verify=tls or True, proxy=proxy)) as client:
            answer = client.request(method, url, json=body, headers=headers, timeout=TIMEOUT_S)
        said = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        through = f" through the proxy {shown_as(proxy)}" if proxy else ""
        cause = re.sub(r"\[Errno -?\d+\] ", "", clean(str(error), MAX_SHOWN))
        raise CallError(f"{base} cannot be asked{through}: {cause}") from error
    if answer.is_success:
        return said
    detail = said.get("detail") if isinstance(said, dict) else None
    why = detail.get("message") if isinstance(detail, dict) else None
    raise CallError(clean(str(why or f"the server answered {answer.status_code}"), MAX_SHOWN))
