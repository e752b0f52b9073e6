"""Makes text of others fit to be shown and passed on."""

from __future__ import annotations

from unicodedata import category

MAX_REASON = 360
"""Characters of a reason that goes on to other peers: the longest error of the server's own, in
which at most 300 characters of a malformed message are quoted, fits."""
MAX_SHOWN = 500
"""Characters of a sentence of a server's that a client shows."""
_SEPARATORS = ("Zl", "Zp")
_CUT = "…"


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


def _harmless(character: str) -> bool:
    kind = category(character)
    return not kind.startswith("C") and kind not in _SEPARATORS
