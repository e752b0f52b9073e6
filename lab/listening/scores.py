"""Evaluates ratings: which raters are left out, and the mean of each system with its confidence
interval."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from earshot.lab.confidence import weighted_mean
from earshot.lab.listening.plan import ANCHOR, REFERENCE

LOWEST, HIGHEST = 0, 100
REFERENCE_BELOW, ANCHOR_ABOVE = 90, 80
REFERENCE_SHARE, ANCHOR_SHARE = 20, 50
"""Percent of the trials. Section 4.3 of the paper: raters are removed who score "the reference
recordings less then 90 in at least 20% of the cases, or rate the low-anchor recording above 80 more
than 50% of the time"."""


@dataclass(frozen=True)
class Rating:
    """One score. `seconds` were spent on the whole trial; `time` is its end in UTC, ISO 8601."""

    rater: str
    trial: str
    """The name of the clip."""
    system: str
    score: int
    seconds: float
    time: str


@dataclass(frozen=True)
class Mean:
    """`half_width`: the mean plus and minus this is the 95 % interval of Student's t; None for a
    single rating."""

    system: str
    scores: tuple[int, ...]
    mean: float
    half_width: float | None


@dataclass(frozen=True)
class Result:
    """`thrown_out`: rater -> why. The means are of the others, best first."""

    kept: tuple[str, ...]
    thrown_out: Mapping[str, str]
    trials: int
    means: tuple[Mean, ...]


def result(ratings: Sequence[Rating]) -> Result:
    """Screens the raters and takes the means of those who are left."""
    out = screen(ratings)
    left = [rating for rating in ratings if rating.rater not in out]
    of_system: defaultdict[str, list[int]] = defaultdict(list)
    for rating in left:
        of_system[rating.system].append(rating.score)
    means = [mean(system, scores) for system, scores in of_system.items()]
    return Result(
        tuple(sorted({rating.rater for rating in left})),
        out,
        len({rating.trial for rating in left}),
        tuple(sorted(means, key=lambda each: (-each.mean, each.system))),
    )


def screen(ratings: Iterable[Rating]) -> dict[str, str]:
    """Returns why raters are left out, who did not hear the hidden reference or liked the anchor
    too well: rater -> reason."""
    low_reference: Counter[str] = Counter()
    high_anchor: Counter[str] = Counter()
    trials: Counter[str] = Counter()
    for rating in ratings:
        if rating.system == REFERENCE:
            trials[rating.rater] += 1
            low_reference[rating.rater] += rating.score < REFERENCE_BELOW
        elif rating.system == ANCHOR:
            high_anchor[rating.rater] += rating.score > ANCHOR_ABOVE
    out = {}
    for rater, count in sorted(trials.items()):
        low, high = low_reference[rater], high_anchor[rater]
        reasons = []
        if 100 * low >= REFERENCE_SHARE * count:
            reasons.append(f"reference under {REFERENCE_BELOW} in {low} of {count}")
        if 100 * high > ANCHOR_SHARE * count:
            reasons.append(f"anchor over {ANCHOR_ABOVE} in {high} of {count}")
        if reasons:
            out[rater] = ", ".join(reasons)
    return out


def mean(system: str, scores: Sequence[int]) -> Mean:
    """Returns the mean of at least one score."""
    found = weighted_mean(scores)
    return Mean(system, tuple(scores), found.mean, found.half_width)
