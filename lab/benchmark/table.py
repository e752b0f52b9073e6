"""The table of a benchmark for the terminal."""

from __future__ import annotations

from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from earshot.lab.benchmark.results import Results, Row


def result_table(results: Results) -> Group:
    """Returns a table with a section for each direction, pace and batch, the fastest first."""
    table = Table(
        title=f"{results.model}, {results.n_q} codebooks, {results.machine.get('processor', 'a processor')}",
        caption="ms of one core for a second of sound of one stream, the median of rounds in which all took turns;\n"
        "paced: a frame every 13.3 ms and cold caches, as in a call",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("engine", no_wrap=True)
    for header in ("ms", "streams\na core", "times\nencodec", "times\nfloor", "codes\nequal"):
        table.add_column(header, justify="right", no_wrap=True)
    for title, rows in groupby(results.rows, _section):
        table.add_row(Text(title, style="bold"))
        for row in sorted(rows, key=lambda row: row.ms_per_audio_s):
            table.add_row(" " + row.key.label, *_cells(row))
        table.add_section()
    return Group(table, *(Text(note, style="yellow") for note in results.missing))


def _section(row: Row) -> str:
    key = row.key
    if key.batch is None:
        return f"{key.direction}, whole signals"
    return f"{key.direction}, B = {key.batch}" + (", paced" if key.paced else "")


def _cells(row: Row) -> list[str]:
    def shown(value: float | None, form: str, unit: str = "") -> str:
        return "-" if value is None else f"{value:{form}}{unit}"

    return [
        f"{row.ms_per_audio_s:.2f}",
        f"{row.streams_per_core:.1f}",
        shown(row.ratio_to_encodec, ".2f"),
        shown(row.times_floor, ".2f"),
        shown(None if row.codes_equal is None else 100 * row.codes_equal, ".2f", " %"),
    ]
