"""Plays clips with gaps through the play-out of a client, in fake time, and lets measures judge
what is heard."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from earshot.client.core.playout import Playout
from earshot.codec.audio_files import read_audio
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from earshot.lab.confidence import Mean, weighted_mean
from earshot.lab.evaluation.listeners import SAMPLE_RATE as LISTENED_RATE
from earshot.lab.evaluation.listeners import predicted_by_plcmos
from earshot.lab.evaluation.measures import pesq, stoi

MEASURES = "PESQ-WB", "STOI", "PLCMOS"
SETTLE_FRAMES = 30
"""Frames of silence before a clip, in which play-out begins."""
FIRST_FRAME = 20
"""No gap begins before this frame of the clip."""


@dataclass(frozen=True)
class Gaps:
    """Which frames never come."""

    share: float = 0.05
    least: int = 2
    most: int = 5
    """Frames of a gap."""

    def of(self, frames: int, chance: random.Random) -> set[int]:
        """Returns the numbers of the missing frames of a clip of so many."""
        missing: set[int] = set()
        wanted = round(self.share * frames)
        for _ in range(100 * frames):
            if len(missing) >= wanted:
                break
            length = min(chance.randint(self.least, self.most), max(wanted - len(missing), self.least))
            first = chance.randrange(FIRST_FRAME, frames - length)
            gap = set(range(first, first + length))
            if not missing & {number + beside for number in gap for beside in (-1, 0, 1)}:
                missing |= gap
        return missing


def heard(model: Model, codes: NDArray[np.int16], missing: set[int], conceals: bool) -> Pcm:
    """Returns what is heard of [n_q, frames] codes, of which some never come, sample for sample
    where it was spoken."""
    hop, rate = model.config.hop_length, model.sample_rate
    frame_us, frames = hop * 1e6 / rate, codes.shape[1]
    playout = Playout(model.frame_decoder, hop, rate)
    playout.conceals = conceals
    pcm, places = list[Pcm](), list[NDArray[np.float64]]()
    for turn in range(frames + SETTLE_FRAMES):
        now = round((turn + 1) * frame_us)
        if turn < frames and turn not in missing:
            playout.jitter.put(turn, turn * hop, [(codes[:, turn], hop)], now, None)
        if turn >= frames:
            playout.announce_silence(True)
        block = playout.pull(hop, now)
        pcm.append(block.pcm)
        places.append(block.positions)
    sound, at = np.concatenate(pcm), np.concatenate(places)
    known = np.flatnonzero(~np.isnan(at))
    lag = int(np.median(known - at[known]))
    return sound[lag : lag + frames * hop]


def judged(original: Pcm, sound: Pcm, rate: int) -> tuple[float, ...] | None:
    """Returns what the `MEASURES` say of a sound; None where one of them says nothing."""
    mos = predicted_by_plcmos(soxr.resample(sound, rate, LISTENED_RATE))
    values = pesq(original, sound, rate), stoi(original, sound, rate), mos
    return None if values[0] is None or values[1] is None else (values[0], values[1], mos)


@dataclass(frozen=True)
class Result:
    """Means over clips, by measure."""

    faded: list[Mean]
    """Where each gap fades into silence."""
    concealed: list[Mean]
    gain: list[Mean]
    clips: int


def compare(
    model: Model,
    files: Sequence[Path],
    kbps: float,
    seconds: float,
    gaps: Gaps,
    draws: int,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Result:
    """Compares both ways on clips; each is played with `draws` patterns of gaps, whose mean counts
    as one value. Raises AudioError for files that cannot be read."""
    rows = list[NDArray[np.float64]]()
    for index, file in enumerate(files):
        pcm = read_audio(file, model.sample_rate, seconds)
        values = list(_of_clip(model, pcm, kbps, gaps, draws, index))
        if values:
            rows.append(np.mean(values, axis=0))
        progress(index + 1, len(files))
    table = np.array(rows)  # [clips, 2, measures]

    def means(values: NDArray[np.float64]) -> list[Mean]:
        return [weighted_mean(values[:, measure].tolist()) for measure in range(len(MEASURES))]

    return Result(means(table[:, 0]), means(table[:, 1]), means(table[:, 1] - table[:, 0]), len(rows))


def _of_clip(
    model: Model, pcm: Pcm, kbps: float, gaps: Gaps, draws: int, seed: int
) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
    hop = model.config.hop_length
    frames = pcm.size // hop
    codes = model.frame_encoder(kbps).push(pcm[: frames * hop])
    for draw in range(draws):
        missing = gaps.of(frames, random.Random(1000 * seed + draw))
        both = [
            judged(pcm[: frames * hop], heard(model, codes, missing, way), model.sample_rate) for way in (False, True)
        ]
        if both[0] is not None and both[1] is not None:
            yield both[0], both[1]
