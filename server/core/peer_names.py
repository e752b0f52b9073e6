"""What a peer is called in its room: no name that looks empty, like another's or like the reader's
own."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

MAX_NAME = 64
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U00013441\U00013442\U00016fe4\U0001d159\U000e0100-\U000e01ef]"
)
"""Characters that are letters, marks or symbols to Unicode and show nothing."""
_YOU = re.compile(r"\s*\(\s*you\s*\)\s*$", re.IGNORECASE)
"""What clients put after the reader's own name."""
_NUMBER = re.compile(r"peer\s*\d+")
"""What clients call a peer without a name, folded."""


def name_in_room(name: str, taken: Collection[str]) -> str:
    """Returns the name without what shows nothing and without "(you)" at its end; with a number
    after it where another peer is called the same, or a peer without a name may be. An empty name
    stays empty, as clients then show the peer's number."""
    visible = " ".join(_BLANK.sub("", name).split())
    while _YOU.search(alike := unicodedata.normalize("NFKC", visible)):
        visible = _YOU.sub("", alike)[:MAX_NAME].rstrip()
    if not any(unicodedata.category(character)[0] in "LNPS" for character in visible):
        return ""
    folded = {_folded(other) for other in taken}
    unique, number = visible, 1
    while _folded(unique) in folded or _NUMBER.fullmatch(_folded(unique)):
        number += 1
        suffix = f" ({number})"
        unique = visible[: MAX_NAME - len(suffix)] + suffix
    return unique


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
