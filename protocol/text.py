"""How much text of others is passed on and shown. What makes it clean is in codec/text.py, because
file names must be clean too."""

from __future__ import annotations

from earshot.codec.text import clean

__all__ = ["MAX_REASON", "MAX_SHOWN", "clean"]

MAX_REASON = 360
"""Characters of a reason that goes on to other peers: the longest error of the server's own, in
which at most 300 characters of a malformed message are quoted, fits."""
MAX_SHOWN = 500
"""Characters of a sentence of a server's that a client shows."""
