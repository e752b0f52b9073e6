"""What the commands of the lab need beyond what calls and servers need."""

from __future__ import annotations

from importlib.util import find_spec

from earshot.codec.errors import UsageError

LAB_PACKAGES = ("matplotlib", "scipy")
"""Modules of the extra `lab` in pyproject.toml."""


def require(extra: str, *modules: str) -> None:
    """Raises UsageError, which says how to install them, if modules of an extra are missing."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise UsageError(f"this command needs {' and '.join(missing)}: pip install 'earshot[{extra}]'")


def require_lab() -> None:
    """Raises UsageError, which says how to install them, if packages of the lab are missing.

    Commands ask before they begin, because some need the packages only at their end.
    """
    require("lab", *LAB_PACKAGES)
