"""The rules of a listening test, without files, sockets, chance or a clock."""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from earshot.codec.errors import EarshotError, UsageError
from earshot.lab.listening.plan import MAX_CONDITIONS, REFERENCE, Plan
from earshot.lab.listening.scores import HIGHEST, LOWEST, Rating

MAX_NAME = 40
TOKEN_DIGITS = 32
FULL = "This test has all the raters that it takes. Thank you all the same."
UNKNOWN = "This test does not know you any more. Please begin again."


class Fault(Enum):
    """What is wrong with a request."""

    MALFORMED = auto()
    UNKNOWN_RATER = auto()
    UNKNOWN_SOUND = auto()
    NAME_TAKEN = auto()
    FULL = auto()
    NOT_THIS_TRIAL = auto()


class Refused(EarshotError):  # noqa: N818 -- an answer, as earshot.codec.errors.EngineFull is a condition
    """A request that a rater's browser should not have made. The message is for the rater."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Join(_Body):
    """A rater begins; an empty name is anonymous."""

    name: Annotated[str, Field(max_length=4 * MAX_NAME)]


_Token = Annotated[str, Field(max_length=2 * TOKEN_DIGITS)]


class Answer(_Body):
    """The scores of one trial: token of a condition -> 0 to 100."""

    trial: _Token
    scores: Annotated[
        dict[_Token, Annotated[int, Field(ge=LOWEST, le=HIGHEST)]], Field(min_length=1, max_length=MAX_CONDITIONS)
    ]


@dataclass
class Rater:
    """`key` is the secret that this rater's browser shows with each request, as a digest."""

    name: str
    key: bytes
    saved: bool = False
    """Whether the rater has rated something, so that name and place stay taken."""
    rated: set[str] = field(default_factory=set)
    began_us: dict[str, int] = field(default_factory=dict)
    """When the rater first saw a trial."""


@dataclass(frozen=True)
class Trial:
    """What a browser may know of a trial. All strings are tokens, in the order of the page."""

    number: int
    total: int
    token: str
    reference: str
    conditions: tuple[str, ...]


class Session:
    """A running test. `secret` makes the tokens: without it nobody can tell which sound a token
    stands for."""

    def __init__(self, plan: Plan, secret: bytes, max_raters: int) -> None:
        self.plan = plan
        self._secret = secret
        self._max = max_raters
        self._raters: dict[bytes, Rater] = {}  # by the digest of the key; those who joined first come first

    def restore(self, ratings: Iterable[Rating], keys: Mapping[str, bytes]) -> None:
        """Takes up what was saved: ratings, and rater -> digest of the key. Without a key a rater
        can only be counted.

        Raises UsageError for ratings of a test with other clips or systems."""
        by_name: dict[str, Rater] = {}
        seen: dict[tuple[str, str], set[str]] = {}
        for rating in ratings:
            if rating.trial not in self.plan.clips:
                raise UsageError(f"there are ratings of a clip {rating.trial} that this test does not have")
            seen.setdefault((rating.rater, rating.trial), set()).add(rating.system)
            if rating.rater not in by_name:
                key = keys.get(rating.rater) or hmac.digest(self._secret, rating.rater.encode(), "sha256")
                by_name[rating.rater] = Rater(rating.rater, key, saved=True)
            by_name[rating.rater].rated.add(rating.trial)
        for (rater, trial), systems in seen.items():
            if systems != set(self.plan.conditions):
                raise UsageError(f"{rater} rated other systems of {trial} than this test has")
        self._raters = {rater.key: rater for rater in by_name.values()}

    def join(self, name: str, key: str, anonymous: str) -> Rater:
        """Returns a new rater, who will show `key`; without a name the rater is called
        `anonymous`."""
        name = " ".join(unicodedata.normalize("NFKC", name).split()) or anonymous
        # Spreadsheets take a cell that begins with other signs for a formula.
        if len(name) > MAX_NAME or not name[0].isalnum() or not all(c.isalnum() or c in " .-_'" for c in name):
            raise Refused(
                Fault.MALFORMED,
                f"A name begins with a letter or digit and has up to {MAX_NAME} letters, digits, spaces, dots, -.",
            )
        if any(rater.name.casefold() == name.casefold() for rater in self._raters.values()):
            raise Refused(Fault.NAME_TAKEN, "Somebody rates under this name already. Please choose another one.")
        waiting = [rater for rater in self._raters.values() if not rater.saved]
        if len(self._raters) - len(waiting) >= self._max:
            raise Refused(Fault.FULL, FULL)
        if len(waiting) >= self._max:  # joining costs nothing: the first who has rated nothing gives way
            del self._raters[waiting[0].key]
        rater = Rater(name, digest(key))
        self._raters[rater.key] = rater
        return rater

    def rater(self, key: str) -> Rater:
        found = self._raters.get(digest(key))
        if found is None:
            raise Refused(Fault.UNKNOWN_RATER, UNKNOWN)
        return found

    def trial(self, rater: Rater, now_us: int) -> Trial | None:
        """Returns what the rater has to rate next; None at the end."""
        clip = self._next(rater)
        if clip is None:
            return None
        rater.began_us.setdefault(clip, now_us)
        return Trial(
            len(rater.rated) + 1,
            len(self.plan.clips),
            self._token(rater, clip, "trial"),
            self._token(rater, clip, "open", REFERENCE),
            tuple(self._token(rater, clip, "rated", name) for name in self.plan.conditions_for(rater.name, clip)),
        )

    def sound(self, rater: Rater, token: str) -> tuple[str, str]:
        """Returns clip and condition of a token of the rater's current trial."""
        clip = self._next(rater)
        if clip is not None:
            if token == self._token(rater, clip, "open", REFERENCE):
                return clip, REFERENCE
            if (condition := self._conditions(rater, clip).get(token)) is not None:
                return clip, condition
        raise Refused(Fault.UNKNOWN_SOUND, "There is no such sound in this trial.")

    def ratings(self, rater: Rater, answer: Answer, now_us: int, time: str) -> list[Rating]:
        """Returns an answer as ratings, which count once `rated` is called."""
        clip = self._next(rater)
        if clip is None or answer.trial != self._token(rater, clip, "trial"):
            raise Refused(Fault.NOT_THIS_TRIAL, "This trial is not the one to be rated now.")
        conditions = self._conditions(rater, clip)
        if answer.scores.keys() != conditions.keys():
            raise Refused(Fault.MALFORMED, "Each sound of the trial needs one score, and nothing else has one.")
        seconds = (now_us - rater.began_us.get(clip, now_us)) / 1e6
        return [
            Rating(rater.name, clip, conditions[token], score, seconds, time) for token, score in answer.scores.items()
        ]

    def keep(self, rater: Rater) -> None:
        """Keeps the place of a rater who has rated something from now on.

        Raises Refused if others have taken all places since this one joined."""
        if rater.saved:
            return
        if self._raters.get(rater.key) is not rater:
            raise Refused(Fault.UNKNOWN_RATER, UNKNOWN)
        if sum(each.saved for each in self._raters.values()) >= self._max:
            raise Refused(Fault.FULL, FULL)
        rater.saved = True

    def rated(self, rater: Rater, clip: str) -> None:
        """Counts the rater's ratings of a clip, once they are on the disk."""
        rater.rated.add(clip)

    def _next(self, rater: Rater) -> str | None:
        return next((clip for clip in self.plan.clips_for(rater.name) if clip not in rater.rated), None)

    def _conditions(self, rater: Rater, clip: str) -> dict[str, str]:
        return {self._token(rater, clip, "rated", name): name for name in self.plan.conditions}

    def _token(self, rater: Rater, *what: str) -> str:
        message = "\0".join((rater.name, *what)).encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()[:TOKEN_DIGITS]


Shape = TypeVar("Shape", bound=_Body)


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def parse(shape: type[Shape], body: bytes) -> Shape:
    """Reads JSON from a browser. Raises Refused for anything but this shape."""
    try:
        return shape.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise Refused(Fault.MALFORMED, f"{where[:80]}: {first['msg']}") from error
