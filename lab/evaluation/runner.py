"""Runs every clip through every system, in worker processes. Their number does not change the
result."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from earshot.codec.audio_files import read_audio
from earshot.codec.errors import AudioError, EarshotError
from earshot.codec.pcm import Pcm
from earshot.lab.evaluation.bands import BAND_KEYS, band_values
from earshot.lab.evaluation.clips import Clip
from earshot.lab.evaluation.measures import BY_KEY, WER, WORD_CHANGES, Measure, Value
from earshot.lab.evaluation.recogniser import recogniser
from earshot.lab.evaluation.results import ORIGINAL, Evaluation, Judged, ModelInfo, Score, SystemInfo
from earshot.lab.evaluation.systems import System, system_name
from earshot.lab.evaluation.words import is_known, word_errors, words_of

MAX_SECONDS = 60
"""Longer clips are judged by so much of their beginning."""
AUDIO, REFERENCE = "audio", "reference"

Progress = Callable[[int, int], None]
"""(done, all), a step for each clip by each system."""


@dataclass(frozen=True)
class Task:
    """What a worker does: one clip by one of the systems (None: the original)."""

    clip: Clip
    system: int | None
    keys: tuple[str, ...]
    bands: bool
    listen: bool
    sample_rate: int
    audio: Path | None


@dataclass(frozen=True)
class Outcome:
    values: dict[str, Value]
    words: list[str] | None
    seconds: float
    cut: bool = False
    fault: str | None = None


def evaluate(
    clips: Sequence[Clip],
    systems: Sequence[System],
    measures: Sequence[Measure],
    sample_rate: int,
    models: Sequence[ModelInfo] = (),
    jobs: int = 0,
    audio: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Judges `clips` at `sample_rate`. `jobs` worker processes, one for each core if 0, none if 1.

    `audio`: a folder in which decoded files are left as CLIP/SYSTEM.wav beside CLIP/reference.wav.
    A clip that cannot be read, and a system that fails on a clip, are left out and named in the
    notes. Raises AudioError if no clip could be judged."""
    installed = [measure for measure in measures if measure.installed]
    recognise = any(measure.key in (WER, WORD_CHANGES) for measure in installed)
    listened = _listened(clips) if recognise else {}
    keys = tuple(measure.key for measure in installed if measure.compute)
    bands = not {measure.key for measure in installed}.isdisjoint(BAND_KEYS)
    alone = tuple(measure.key for measure in installed if measure.compute and measure.alone)
    tasks = [
        Task(
            clip,
            index,
            alone if index is None else keys,
            bands and index is not None,
            clip.name in listened,
            sample_rate,
            audio,
        )
        for clip in clips
        for index in (None, *range(len(systems)))
    ]
    outcomes = []
    for outcome in _outcomes(tasks, systems, min(jobs or _cores(), len(tasks))):
        outcomes.append(outcome)
        if progress:
            progress(len(outcomes), len(tasks))
    return _gather(clips, systems, installed, sample_rate, list(models), listened, outcomes)


def _listened(clips: Iterable[Clip]) -> dict[str, list[str] | None]:
    """Returns the transcript of each clip whose words count; None stands for the words that are
    recognised in the original."""
    found: dict[str, list[str] | None] = {}
    for clip in clips:
        words = words_of(clip.transcript or "")
        if words and is_known(words, recogniser()):
            found[clip.name] = words
        elif not words and clip.english:
            found[clip.name] = None
    return found


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _outcomes(tasks: Sequence[Task], systems: Sequence[System], jobs: int) -> Iterator[Outcome]:
    """Yields the outcomes in the order of the tasks."""
    if jobs <= 1:
        with _one_thread():
            for task in tasks:
                yield judge(task, systems)
        return
    shared = pickle.dumps(list(systems))  # sent once to each worker and not with each task: they hold the weights
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    pool = ProcessPoolExecutor(jobs, context, _start_worker, (shared,))
    try:
        yield from pool.map(_judge_in_worker, tasks)
    except BrokenProcessPool as error:
        raise EarshotError(
            "a worker process was ended from outside, for want of memory perhaps; try --jobs 1"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_systems: list[System] = []
"""The systems of this worker process."""


def _start_worker(shared: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker without a traceback; the parent tells the user
    torch.set_num_threads(1)
    _systems[:] = pickle.loads(shared)  # noqa: S301 -- written by our own parent process


def _judge_in_worker(task: Task) -> Outcome:
    return judge(task, _systems)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of several threads may differ in the last bit from those of one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def judge(task: Task, systems: Sequence[System]) -> Outcome:
    """Judges one clip by one system."""
    rate, system = task.sample_rate, None if task.system is None else systems[task.system]
    try:
        original = read_audio(task.clip.file, rate, MAX_SECONDS + 1)
        cut, original = original.size > MAX_SECONDS * rate, original[: MAX_SECONDS * rate]
        if not original.size or not np.isfinite(original).all():
            raise AudioError(f"{task.clip.file} holds no sound")
        decoded = system.process(original, rate) if system else original
        if decoded.shape != original.shape or not np.isfinite(decoded).all():
            raise AudioError("what was decoded is not finite, or of another length")
    except AudioError as error:
        return Outcome({}, None, 0.0, fault=str(error))
    if task.audio:
        name = system_name(system) if system else REFERENCE
        _save(task.audio / task.clip.name / f"{name}.wav", decoded, rate)
    values = {key: compute(original, decoded, rate) for key in task.keys if (compute := BY_KEY[key].compute)}
    if task.bands:
        values |= band_values(original, decoded, rate)
    words = recogniser().words(decoded, rate) if task.listen else None
    return Outcome(values, words, original.size / rate, cut)


def _save(file: Path, pcm: Pcm, sample_rate: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, np.clip(pcm, -1, 1), sample_rate, subtype="PCM_16")


def _gather(
    clips: Sequence[Clip],
    systems: Sequence[System],
    measures: list[Measure],
    sample_rate: int,
    models: list[ModelInfo],
    listened: dict[str, list[str] | None],
    outcomes: Sequence[Outcome],
) -> Evaluation:
    columns = 1 + len(systems)
    judged, scores, notes = [], [], []
    cut = without_words = 0
    for row, clip in enumerate(clips):
        first, *others = outcomes[row * columns : (row + 1) * columns]
        if first.fault:
            notes.append(f"clip left out: {first.fault}")
            continue
        reference, key = listened.get(clip.name), WER
        if reference is None:
            reference, key = first.words or None, WORD_CHANGES
        source = None if reference is None else "transcript" if key == WER else "original"
        judged.append(Judged(clip.name, str(clip.file), first.seconds, " ".join(reference or ()) or None, source))
        cut += first.cut
        without_words += reference is None
        for system, outcome in zip((None, *systems), (first, *others), strict=True):
            name = system_name(system) if system else ORIGINAL
            if outcome.fault:
                notes.append(f"{name} left out of {clip.name}: {outcome.fault}")
                continue
            values, heard = dict(outcome.values), outcome.words
            if reference is not None and heard is not None and (system or key == WER):
                values[key] = 100 * word_errors(reference, heard) / len(reference)
            recognised = None if heard is None else " ".join(heard)
            scores.append(Score(clip.name, name, values, recognised, len(reference or ())))
    if not judged:
        raise AudioError("no clip could be judged: " + "; ".join(notes[:3]))
    if cut:
        notes.append(f"of {cut} clips only the first {MAX_SECONDS} s were judged")
    if without_words and any(measure.key == WER for measure in measures):
        notes.append(f"words were counted in {len(judged) - without_words} of {len(judged)} clips: the others are not "
                     "known to be English, or nothing was recognised")  # fmt: skip
    infos = [SystemInfo(ORIGINAL, ORIGINAL, None)]
    infos += [SystemInfo(system_name(system), system.family, system.kbps) for system in systems]
    return Evaluation(sample_rate, models, measures, infos, judged, scores, notes)
