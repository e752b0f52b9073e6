"""What a client may do: the grants of its token, or those that an open server gives to everyone. No
clock, no key: server/access reads tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from earshot.protocol.messages import Grant, Hello, SetRate
from earshot.protocol.text import clean
from earshot.server.core import refusals

MAX_PATTERN = 64
"""Characters of a room's name, and so of a pattern for some."""
MAX_ID = 64
MAX_NAME = 64
MAX_REMOVALS = 1 << 16
"""Removed tokens that are kept in mind."""


@dataclass(frozen=True)
class Grants:
    """What one token allows, and in which rooms."""

    room: str
    """A room's name, or a pattern as a shell's (`team-*`)."""
    name: str = ""
    """What the others see; "" lets the client choose."""
    speak: bool = True
    listen: bool = True
    record: bool = False
    """To begin and end recordings, where the server makes any on request."""
    moderate: bool = False
    """To mute and remove others, and to lock the room."""
    operate: bool = False
    """To read the server's figures, to list all rooms, and to drain it."""
    expires_s: int | None = None
    """Unix time; None is never."""
    id: str = ""
    """Names the token, for removals and for the log."""

    def allows_room(self, room: str) -> bool:
        """Returns whether they are for this room."""
        return fnmatchcase(room, self.room)

    def check(self, room: str, hello: Hello) -> None:
        """Raises ProtocolError if a client that says this may not enter the room."""
        if not self.allows_room(room):
            raise refusals.another_room(room)
        if hello.send != "none" and not self.speak:
            raise refusals.not_granted("speak", "join as a listener (--input none)")
        if hello.want != "none" and not self.listen:
            raise refusals.not_granted("listen", "join without listening (--output none)")

    def check_rate(self, message: SetRate) -> None:
        """Raises ProtocolError for a rate of what the client may not do at all."""
        if message.send_kbps is not None and not self.speak:
            raise refusals.not_granted("speak")
        if message.max_kbps is not None and not self.listen:
            raise refusals.not_granted("listen")

    def check_moderator(self) -> None:
        """Raises ProtocolError if they do not allow to moderate."""
        if not self.moderate:
            raise refusals.not_granted("moderate")

    def named(self, hello: Hello) -> Hello:
        """Returns the hello with the name that the token gives, if it gives one."""
        return hello.model_copy(update={"name": self.name}) if self.name else hello

    @property
    def may(self) -> list[Grant]:
        """Returns what they allow in a room, as `welcome` says it."""
        held: dict[Grant, bool] = {
            "speak": self.speak,
            "listen": self.listen,
            "record": self.record,
            "moderate": self.moderate,
        }
        return [grant for grant, has in held.items() if has]

    def claims(self) -> dict[str, Any]:
        """Returns the claims of a token that allows this."""
        claims: dict[str, Any] = {"room": self.room, "speak": self.speak, "listen": self.listen, "jti": self.id}
        claims |= {"name": self.name} if self.name else {}
        claims |= {grant: True for grant in ("record", "moderate", "operate") if getattr(self, grant)}
        return claims if self.expires_s is None else claims | {"exp": self.expires_s}


EVERYONE = Grants(room="*", record=True)
"""What an open server allows. Whether it records on request is a setting of its own."""


def grants_of(claims: Mapping[str, Any], token_id: str) -> Grants:
    """Returns what the claims of a token allow, whose signature and expiry were checked. `token_id`
    stands for a missing `jti`. Claims of other makers are ignored. Raises ProtocolError for claims
    that are not of their type: nothing is guessed."""
    return Grants(
        room=_text(claims, "room", MAX_PATTERN),
        name=clean(_text(claims, "name", MAX_NAME, ""), MAX_NAME),
        speak=_flag(claims, "speak", True),
        listen=_flag(claims, "listen", True),
        record=_flag(claims, "record"),
        moderate=_flag(claims, "moderate"),
        operate=_flag(claims, "operate"),
        expires_s=int(claims["exp"]) if "exp" in claims else None,
        id=clean(_text(claims, "jti", MAX_ID, token_id), MAX_ID),
    )


def _text(claims: Mapping[str, Any], claim: str, most: int, missing: str | None = None) -> str:
    value = claims.get(claim, missing)
    if not isinstance(value, str) or len(value) > most:
        raise refusals.bad_token(f"its {claim!r} is no text of at most {most} characters")
    return value


def _flag(claims: Mapping[str, Any], claim: str, missing: bool = False) -> bool:
    value = claims.get(claim, missing)
    if not isinstance(value, bool):
        raise refusals.bad_token(f"its {claim!r} is neither true nor false")
    return value


class Removals:
    """Tokens whose bearers a moderator removed from a room: they do not come in there again."""

    def __init__(self, most: int = MAX_REMOVALS) -> None:
        self._most = most
        self._removed: dict[tuple[str, str], None] = {}

    def add(self, room: str, grants: Grants) -> None:
        """Notes that the bearer of a token was removed from a room. Beyond the bound the oldest is
        forgotten."""
        if grants.id:
            self._removed[room, grants.id] = None
            if len(self._removed) > self._most:
                del self._removed[next(iter(self._removed))]

    def check(self, room: str, grants: Grants) -> None:
        """Raises ProtocolError if the bearer was removed from this room."""
        if (room, grants.id) in self._removed:
            raise refusals.was_removed()
