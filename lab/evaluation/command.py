"""What `earshot evaluate` does, without its terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from earshot.codec.audio_files import audio_files
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.weights.load import load_model
from earshot.lab.evaluation import lyra, opus
from earshot.lab.evaluation.bands import BANDS
from earshot.lab.evaluation.clips import find_clips, unique_names
from earshot.lab.evaluation.measures import MEASURES, WER, WORD_CHANGES, what_is_missing
from earshot.lab.evaluation.pictures import rate_quality
from earshot.lab.evaluation.results import Evaluation, ModelInfo
from earshot.lab.evaluation.runner import AUDIO, Progress, evaluate
from earshot.lab.evaluation.stress import StressResult, stress
from earshot.lab.evaluation.systems import Streamed, System

SCORES, PICTURE = "scores.json", "rate-quality.png"


@dataclass(frozen=True)
class EvaluationOptions:
    """The options of the command."""

    models: Sequence[str] = ("default",)
    kbps: Sequence[float] = ()
    """All of each model's rates if empty."""
    opus_kbps: Sequence[float] = (6.0, 12.0, 24.0)
    lyra: Path | None = None
    """The folder with Lyra's runner and models; without it, Lyra is not judged."""
    words: bool = True
    mos: bool = True
    """Whether listeners' opinions are predicted, which takes most of the time."""
    visqol: bool = False
    all_english: bool = False
    jobs: int = 0
    out: Path | None = None
    save_audio: bool = False


def run(
    patterns: Sequence[str], options: EvaluationOptions, command: str = "", progress: Progress | None = None
) -> Evaluation:
    """Judges the clips and writes the files that `options.out` asks for.

    Raises UsageError for options that cannot be, ModelError for models that cannot be loaded,
    AudioError where no clip could be judged. Packages that are not installed cost only their
    measures; the notes say which."""
    if not patterns:
        raise UsageError("name clips to judge by: a folder, files or glob patterns of speech")
    if options.save_audio and not options.out:
        raise UsageError("saving the decoded files needs a folder: --out FOLDER")
    clips = find_clips(patterns, options.all_english)
    families = unique_names([family_name(given, len(options.models)) for given in options.models])
    loaded = list(zip(families, options.models, map(load_model, options.models), strict=True))
    rate = one_sample_rate([model for _, _, model in loaded])
    systems: list[System] = [
        Streamed(model, kbps, family)
        for family, _, model in loaded
        for kbps in dict.fromkeys(options.kbps or model.bandwidths)
    ]
    for system in systems:
        if isinstance(system, Streamed):
            system.model.encoder(system.kbps)  # a rate that the model lacks is told before the work begins
    if opus.installed():
        systems += [opus.Opus(kbps) for kbps in dict.fromkeys(options.opus_kbps)]
    if options.lyra:
        lyra.check(options.lyra)
        systems += [lyra.Lyra(options.lyra, kbps) for kbps in lyra.RATES_KBPS if lyra.installed()]
    left_out = {WER, WORD_CHANGES} if not options.words else set()
    left_out |= {"distillmos", "dnsmos"} if not options.mos else set()
    left_out |= set() if options.visqol else {"visqol"}
    of_bands = [measure for each in BANDS.values() for measure in each]
    measures = [*(measure for measure in MEASURES if measure.key not in left_out), *of_bands]
    others = {"Opus": "evaluate"} if options.opus_kbps and not opus.installed() else {}
    others |= {"Lyra": "lyra"} if options.lyra and not lyra.installed() else {}
    missing = what_is_missing(measures, others)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    audio = options.out / AUDIO if options.out and options.save_audio else None
    infos = [ModelInfo(family, model.name, model.digest, given) for family, given, model in loaded]
    found = evaluate(clips, systems, measures, rate, infos, options.jobs, audio, progress)
    if missing:
        found.notes.insert(0, missing)
    if options.out:
        found.write(options.out / SCORES, command)
        rate_quality(found, options.out / PICTURE)
    return found


def stress_all(
    patterns: Sequence[str], options: EvaluationOptions, progress: Progress | None = None
) -> list[StressResult]:
    """Tries every model at every rate on the sounds of lab/evaluation/stress.py and the music of
    `patterns`."""
    music = [file for pattern in patterns for file in audio_files(pattern)]
    loaded = [load_model(given) for given in options.models]
    plan = [(model, kbps) for model in loaded for kbps in options.kbps or model.bandwidths]
    rows: list[StressResult] = []
    for model, kbps in plan:
        before = len(rows)
        rows += stress(model, kbps, music, progress and _part_of(progress, before, len(plan)))
    return rows


def _part_of(progress: Progress, before: int, parts: int) -> Progress:
    """Returns the progress of one of so many equal parts, after the `before` steps of earlier
    parts."""
    return lambda done, total: progress(before + done, parts * total)


def family_name(given: str, of: int) -> str:
    """Names a lone model `earshot`, and several after their files, or after their folders where
    that says more."""
    if of == 1:
        return "earshot"
    path = Path(given)
    return path.parent.name if path.stem == "model" and path.parent.name else path.stem or "model"


def one_sample_rate(models: Sequence[Model]) -> int:
    """Returns the sample rate of all models. Raises UsageError if they differ: clips are judged at
    one rate."""
    rates = {model.sample_rate for model in models}
    if len(rates) != 1:
        raise UsageError(f"models of different sample rates cannot be judged together: {sorted(rates)}")
    return rates.pop()
