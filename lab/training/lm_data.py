"""What a language model learns from: the codes that a codec makes of audio, made anew for each pass
over it."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from earshot.lab.training.sources import UNREADABLE, Source, read_channels, resample

SPEED, GAIN_DB = (0.85, 1.18), (-14.0, 2.0)
"""How much slower or faster (and lower or higher: other voices) and how loud a file is played in
all passes but the first: codes are other ones then, so that a pass is more than a repetition."""

JUDGED_SECONDS = 30.0

Codes = NDArray[np.int16]
Progress = Callable[[int, int], None]


def one_pass(
    model: Model,
    sources: Sequence[Source],
    exclude: Sequence[str],
    kbps: float,
    number: int,
    seed: int,
    progress: Progress,
) -> list[Codes]:
    """The codes of all files in one pass: arrays [n_q, F], one for all that streams, one for each
    window of a model that codes in windows. A source's weight is how often its files come in a
    pass. Raises UsageError if nothing can be read."""
    rng = np.random.default_rng([seed, number])
    files: list[Path] = []
    for source in sources:
        for file in source.files(exclude):
            files += [file] * int(source.weight + rng.random())
    order = rng.permutation(len(files))

    def played() -> Iterator[Pcm]:
        for done, index in enumerate(order):
            pcm = _read(model, files[index])
            if number and pcm is not None:
                pcm = _vary(pcm, rng)
            if pcm is not None:
                yield pcm
            progress(done + 1, len(files))

    return code(model, played(), kbps)


def excluded(model: Model, sources: Sequence[Source], exclude: Sequence[str], kbps: float) -> list[Codes]:
    """The codes of the files that are left out, as they are: what to judge by. One array for each
    pattern and stream, up to 30 s."""
    files = sorted({file for source in sources for file in source.files()})
    found: list[Codes] = []
    for pattern in exclude:
        sounds = [
            pcm for file in files if fnmatch.fnmatch(file.name, pattern) if (pcm := _read(model, file)) is not None
        ]
        if sounds:
            found += code(model, iter(sounds), kbps)
    return [codes[:, : round(JUDGED_SECONDS * model.frame_rate)] for codes in found if codes.shape[1]]


def code(model: Model, sounds: Iterator[Pcm], kbps: float) -> list[Codes]:
    """Sounds [channels, n] -> codes, as `passes` gives them. Raises UsageError if there is nothing
    in them."""
    found: list[Codes] = []
    if model.config.window_seconds is None:
        session = model.frame_encoder(kbps, model.config.padding)
        pushed = [session.push(pcm[0]) for pcm in sounds]
        found = [np.concatenate([*pushed, session.flush()], axis=1)]
    else:
        for pcm in sounds:
            found += [window.codes for window in model.encode_windows(pcm, kbps)]
    if not sum(codes.shape[1] for codes in found):
        raise UsageError("there is no audio that can be read; give other folders, files or patterns")
    return found


def _read(model: Model, file: Path) -> Pcm | None:
    """[channels, n], None for what is no audio."""
    try:
        pcm = read_channels(file, model.sample_rate, model.config.channels).T
    except UNREADABLE:
        return None
    return np.repeat(pcm, 2, axis=0) if pcm.shape[0] < model.config.channels else pcm


def _vary(pcm: Pcm, rng: np.random.Generator) -> Pcm:
    speed, gain = rng.uniform(*SPEED), 10 ** (rng.uniform(*GAIN_DB) / 20)
    other = resample(np.ascontiguousarray(pcm.T), 1000, round(1000 / speed)).T * np.float32(gain)
    return np.asarray(np.clip(other[:, rng.integers(0, 640) :], -1, 1), np.float32)


class Crops:
    """Batches out of the codes of all passes. Step by step they are a function of the seed."""

    def __init__(self, codes: Sequence[Codes], frames: int, batch: int, seed: int) -> None:
        self._codes = [array for array in codes if array.shape[1] >= frames]
        if not self._codes:
            raise UsageError(f"there is less audio than one crop of {frames} frames; give more")
        self._ends = np.cumsum([array.shape[1] - frames + 1 for array in self._codes])
        self._frames, self._batch, self._seed = frames, batch, seed

    def batch(self, step: int) -> torch.Tensor:
        """int64 [batch, n_q, frames]."""
        rng = np.random.default_rng([self._seed, step])
        crops = []
        for at in rng.integers(0, self._ends[-1], self._batch):
            index = int(np.searchsorted(self._ends, at, side="right"))
            start = int(at - (self._ends[index - 1] if index else 0))
            crops.append(self._codes[index][:, start : start + self._frames])
        return torch.from_numpy(np.stack(crops).astype(np.int64))
