"""The key that tokens are signed with: a secret (HS256), or a PEM file with an Ed25519 key (EdDSA),
of which a server needs the public half only."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from earshot.codec.errors import UsageError
from earshot.codec.homes import home

SECRET_BYTES = 32
"""Least length of a secret, and that of new ones (RFC 7518, section 3.2)."""


@dataclass(frozen=True)
class Key:
    """Material that PyJWT takes, and the one algorithm that it is for: a token says which algorithm
    it has, and must not choose."""

    algorithm: str
    material: bytes

    def __repr__(self) -> str:
        return f"Key({self.algorithm})"  # never the material: it would end up in logs

    @property
    def signs(self) -> bool:
        """Whether it makes tokens, too."""
        return b"PUBLIC KEY" not in self.material


def default_key_file() -> Path:
    """Returns where the key is if nothing else is said (XDG Base Directory Specification)."""
    root = os.environ.get("XDG_CONFIG_HOME")
    return (Path(root) if root else home() / ".config") / "earshot" / "token.key"


def key_of(material: bytes, where: str) -> Key:
    """Returns the key that these bytes are. Raises UsageError for a secret that is too short."""
    material = material.strip()
    if material.startswith(b"-----BEGIN"):
        return Key("EdDSA", material)
    if len(material) < SECRET_BYTES:
        raise UsageError(f"{where}: a secret for tokens has at least {SECRET_BYTES} characters")
    return Key("HS256", material)


def read_key(path: Path, make: bool = False) -> Key:
    """Returns the key in a file; with `make` a new secret is written where there is no file, for
    its owner alone to read. Raises UsageError."""
    try:
        if make and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(secrets.token_urlsafe(SECRET_BYTES) + "\n")
        return key_of(path.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(
            f"the key for tokens {path} cannot be read: {error.strerror or error}; name another with --token-key"
        ) from error
