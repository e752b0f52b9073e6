"""Scores as tables for the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rich import box
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from earshot.lab.confidence import Mean
from earshot.lab.evaluation.bands import BANDS, EDGES
from earshot.lab.evaluation.measures import Measure
from earshot.lab.evaluation.results import Evaluation
from earshot.lab.evaluation.stress import QUIET_DBFS, StressResult

ARROWS = {"higher": "↑", "lower": "↓", "zero": "→ 0"}


def score_table(evaluation: Evaluation) -> Group:
    """Returns a row for each system: means and half of their 95 % confidence intervals over
    clips."""
    measures = evaluation.shown()
    seconds = sum(clip.seconds for clip in evaluation.clips)
    models = ", ".join(f"{model.family}: {model.name} {model.digest}" for model in evaluation.models)
    clips = f"{len(evaluation.clips)} clip{'s' * (len(evaluation.clips) != 1)}, {seconds:.0f} s"
    caption = "mean ± half of the 95 % interval over clips" if len(evaluation.clips) > 1 else None  # one has none
    table = Table(title="; ".join(filter(None, [models, clips])), caption=caption)
    table.add_column("system", no_wrap=True)
    for measure in measures:
        header = f"{measure.label}\n{measure.unit} {ARROWS[measure.better]}"
        table.add_column(header.replace("\n ", "\n"), justify="right")
    family = None
    for system in evaluation.systems:
        means = [evaluation.summary(system.name, measure.key) for measure in measures]
        if not any(means):
            continue
        if family not in (None, system.family):
            table.add_section()
        family = system.family
        label = system.family if system.kbps is None else f"{system.family} {system.kbps:g} kbps"
        table.add_row(label, *(_cell(mean, measure) for mean, measure in zip(means, measures, strict=True)))
    return Group(table, *(Text(note, style="yellow") for note in evaluation.notes))


def band_table(evaluation: Evaluation) -> Table:
    """Returns two rows for each system but the original: its SNR and its level in each band."""
    title = "by band in kHz: SNR and level beside the original, dB"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))  # narrow: 80 columns hold it
    table.add_column("system", no_wrap=True)
    table.add_column("", no_wrap=True)
    for low, high in itertools.pairwise(EDGES):
        table.add_column(f"{low / 1000:g}-\n{high / 1000:g}", justify="right", no_wrap=True)
    for system in evaluation.systems:
        if system.kbps is None:
            continue
        label = f"{system.family} {system.kbps:g} kbps"
        for what, measures in BANDS.items():
            means = [evaluation.summary(system.name, measure.key) for measure in measures]
            table.add_row(label, what, *("-" if mean is None else f"{mean.mean + 0.0:.1f}" for mean in means))
            label = ""
    return table


def _cell(mean: Mean | None, measure: Measure) -> str:
    if mean is None:
        return "-"
    half = "" if mean.half_width is None else f" ±{mean.half_width:.{measure.digits}f}"
    return f"{mean.mean + 0.0:.{measure.digits}f}{half}"


def stress_summary(rows: Sequence[StressResult]) -> str:
    """Says for each rate in a line how many sounds passed."""
    each: dict[float, list[bool]] = {}
    for row in rows:
        each.setdefault(row.kbps, []).append(not row.fault)
    return "\n".join(f"{kbps:g} kbps: {sum(good)} of {len(good)} ok" for kbps, good in each.items())


def stress_table(rows: Sequence[StressResult]) -> Table:
    name = Column("input", overflow="fold")  # names of files often differ at their ends alone
    table = Table(name, "kbps", "in dBFS", "out dBFS", "change dB", "", title="Inputs that are no clean speech")
    for row in rows:
        change = f"{row.output_dbfs - row.input_dbfs:+.1f}" if row.input_dbfs >= QUIET_DBFS else "-"
        verdict = Text(row.fault, style="bold red") if row.fault else Text("ok", style="green")
        levels = (f"{db:.1f}" if db > -100 else "silent" for db in (row.input_dbfs, row.output_dbfs))
        table.add_row(row.name, f"{row.kbps:g}", *levels, change, verdict)
    return table
