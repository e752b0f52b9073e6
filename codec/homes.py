"""The user's own folder, which a machine may not have, or not for this user."""

from __future__ import annotations

from pathlib import Path

from earshot.codec.errors import UsageError


def home() -> Path:
    """Returns the user's folder. Raises UsageError where there is none."""
    try:
        return Path.home()
    except RuntimeError as error:
        raise UsageError("this user has no home folder: set HOME, XDG_CACHE_HOME and XDG_CONFIG_HOME") from error


def expanded(name: str) -> Path:
    """Returns a path without `~`. Raises UsageError for the folder of a user that there is not."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{name}: there is no such user, or this user has no home folder") from error
