"""Makes text of others (names, file names, errors of servers) fit to be shown and passed on."""

from __future__ import annotations

import re
from unicodedata import category

_SEPARATORS = ("Zl", "Zp")
_CUT = "…"
_SURROGATES = re.compile("[\ud800-\udfff]")
UNKNOWN = "\ufffd"
"""Stands for a byte of a file name that is no text."""


def clean(text: str, limit: int) -> str:
    """Returns at most `limit` characters of a text without those that a terminal would obey.

    These are all control, format, private, unassigned and surrogate characters (Unicode categories
    C*), to which the bidirectional controls belong, and the separators of lines and paragraphs.
    Line breaks and tabs become spaces. A text that is cut ends in an ellipsis."""
    # A character may be dropped, so that more than `limit` are looked at, but not without end.
    looked_at = text[: 4 * limit]
    kept = "".join(" " if c in "\t\n\r" else c for c in looked_at if c in "\t\n\r" or _harmless(c))
    if len(kept) <= limit and len(looked_at) == len(text):
        return kept
    return kept[: limit - 1] + _CUT


def clean_lines(text: str) -> str:
    """Returns a text of several lines, each of them clean. A surrogate, which stands for a byte of
    a file name that is no text, becomes a replacement character."""
    if text.isprintable():  # nearly all text is; this is fast
        return text
    return "\n".join(clean(line, len(line)) for line in _SURROGATES.sub(UNKNOWN, text).split("\n"))


def _harmless(character: str) -> bool:
    kind = category(character)
    return not kind.startswith("C") and kind not in _SEPARATORS
