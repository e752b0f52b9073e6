"""Whom a server lets in: everyone, or whoever has a token of its key."""

from __future__ import annotations

from typing import Protocol

from earshot.codec.errors import UsageError
from earshot.server.access.keys import Key, default_key_file, key_of, read_key
from earshot.server.core import refusals
from earshot.server.core.grants import EVERYONE, Grants
from earshot.server.settings import Settings


class Reader(Protocol):
    """What reads tokens."""

    def read(self, token: str) -> Grants:
        """Returns what a token allows. Raises ProtocolError."""
        ...


class Access:
    """Finds out what a client may do."""

    def __init__(self, tokens: Reader | None, everyone: bool) -> None:
        """`everyone` says whether clients without a token come in, too."""
        self._tokens = tokens
        self.everyone = everyone

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """Returns what the settings ask for. Raises UsageError for a key that cannot be used."""
        key = server_key(settings)
        if key is None:
            return cls(None, True)
        return cls(tokens_of(key), settings.open)

    @property
    def has_key(self) -> bool:
        """Whether tokens count here."""
        return self._tokens is not None

    def grants(self, token: str | None) -> Grants:
        """Returns what the bearer of this token may do. Raises ProtocolError if that is nothing.
        Where everyone comes in, a token that does not count is refused all the same: who brings one
        expects it to."""
        if token is None:
            if not self.everyone:
                raise refusals.no_token()
            return EVERYONE
        if self._tokens is None:
            return EVERYONE  # a link with a token goes on to work when its server is opened to all
        return self._tokens.read(token)


def server_key(settings: Settings) -> Key | None:
    """Returns the key for tokens, None if there are to be none. Raises UsageError."""
    if settings.token_key is not None and (secret := settings.token_key.get_secret_value()):
        return key_of(secret.encode(), "EARSHOT_TOKEN_KEY")
    if settings.token_key_file is not None:
        return read_key(settings.token_key_file)
    return read_key(default_key_file(), make=True) if settings.tokens else None


def tokens_of(key: Key) -> Reader:
    """Returns what reads the tokens of a key. Raises UsageError."""
    try:
        from earshot.server.access.tokens import Tokens
    except ImportError as error:
        raise UsageError("tokens need PyJWT: pip install pyjwt") from error
    return Tokens(key)
