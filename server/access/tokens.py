"""Tokens: JSON Web Tokens (RFC 7519) that say what their bearer may do. PyJWT makes and checks
them."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import replace
from typing import Any

import jwt

from earshot.codec.errors import UsageError
from earshot.protocol.messages import MAX_TOKEN
from earshot.server.access.keys import Key
from earshot.server.core import refusals
from earshot.server.core.grants import Grants, grants_of

ID_BYTES = 9


class Tokens:
    """Makes and reads the tokens of one key."""

    def __init__(self, key: Key) -> None:
        """Raises UsageError for a key that cannot be used."""
        self._key = key
        if key.algorithm not in jwt.algorithms.get_default_algorithms():
            raise UsageError("an Ed25519 key for tokens needs a package more: pip install 'earshot[tls]'")
        self._algorithm = jwt.get_algorithm_by_name(key.algorithm)
        try:
            self._material = self._algorithm.prepare_key(key.material)
        except (jwt.InvalidKeyError, ValueError, TypeError) as error:
            raise UsageError(f"the key for tokens is no Ed25519 key in PEM: {error}") from error

    def make(self, grants: Grants) -> str:
        """Returns a token that allows this, with an id of its own unless it has one. Raises
        UsageError for a public key."""
        if not self._key.signs:
            raise UsageError("this is a public key, which only checks tokens; name the private one with --key")
        named = grants if grants.id else replace(grants, id=secrets.token_urlsafe(ID_BYTES))
        return str(jwt.encode(named.claims(), self._material, self._key.algorithm))

    def read(self, token: str) -> Grants:
        """Returns what a token allows. Raises ProtocolError if it was not signed with this key, has
        expired or is not valid yet, or does not say which rooms it is for."""
        if len(token) > MAX_TOKEN:
            raise refusals.bad_token(f"it has more than {MAX_TOKEN} characters")
        try:
            claims = jwt.decode(
                token,
                self._verifier(),
                algorithms=[self._key.algorithm],
                options={"verify_aud": False, "verify_iss": False, "verify_sub": False, "verify_jti": False},
            )
        except jwt.ExpiredSignatureError as error:
            raise refusals.token_expired() from error
        except jwt.ImmatureSignatureError as error:
            raise refusals.bad_token("it is not valid yet") from error
        except (jwt.InvalidTokenError, ValueError, OverflowError) as error:
            raise refusals.bad_token("it was not made with this server's key") from error
        # Not a hash of the text: base64 lets one token be written in several ways.
        whole = json.dumps(claims, sort_keys=True).encode()
        return grants_of(claims, hashlib.sha256(whole).hexdigest()[:16])

    def _verifier(self) -> Any:
        if self._key.algorithm == "EdDSA" and self._key.signs:
            return self._material.public_key()
        return self._material


def expiry(seconds: float | None) -> int | None:
    """Returns the Unix time that is so many seconds from now; None for None."""
    return None if seconds is None else int(time.time() + seconds)
