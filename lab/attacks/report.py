"""Attacks and soak as tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from earshot.lab.attacks.results import Row
from earshot.lab.attacks.soak import Sample


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _tries(worst: float | None, failures: Sequence[str]) -> str:
    return _number(worst, 2) + (f" ({len(failures)} failed)" if failures else "")


def _pairs(values: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(values.items())) or "-"


def table(rows: Sequence[Row]) -> Table:
    """Returns a table of all attacks so far."""
    shown = Table(title="two calls under attack", caption="times are the worst, p99 that of what the server adds")
    for name in ("attack", "underruns", "missing", "p99 ms", "lost", "join s", "healthz s"):
        shown.add_column(name, justify="left" if name == "attack" else "right")
    for name in ("the attacker saw", "/stats counted", ""):
        shown.add_column(name)
    for row in rows:
        faults = row.faults()
        cells = [
            row.attack,
            "/".join(map(str, row.underruns)),
            "/".join(map(str, row.missing)),
            _number(row.added_p99_ms),
            str(row.lost),
            _tries(row.join_s, row.join_failures),
            _tries(row.health_s, row.health_failures),
            _pairs(row.attacker.get("ended", {})),
            _pairs(row.counted),
        ]
        verdict = Text(", ".join(faults), style="bold red") if faults else Text("ok", style="green")
        shown.add_row(*map(Text, cells), verdict)
    return shown


def soak_table(samples: Sequence[Sample]) -> Table:
    """Returns a table of what the server held after each attack."""
    shown = Table(title="what the server holds")
    for name in ("after", "minutes", "memory MB", "files", "threads", "tasks", "connections", "rooms"):
        shown.add_column(name, justify="left" if name == "after" else "right")
    for sample in samples:
        tasks = "-" if sample.tasks is None else str(sample.tasks)
        cells = [sample.after, _number(sample.minutes), _number(sample.memory_mb), str(sample.files)]
        cells += [str(sample.threads), tasks, str(sample.connections), str(sample.rooms)]
        shown.add_row(*cells)
    return shown
