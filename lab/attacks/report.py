"""Attacks and soak as tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from earshot.lab.attacks.results import Row
from earshot.lab.attacks.soak import Sample


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _pairs(values: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(values.items())) or "-"


def table(rows: Sequence[Row]) -> Table:
    """Returns a table of all attacks so far."""
    caption = "join and health: the longest; p99: of what the server adds; underruns, missing frames: of each talker"
    shown = Table(title="two calls under attack", caption=caption, box=box.SIMPLE_HEAD)
    for name in ("attack", "underruns", "missing", "p99 ms", "lost", "join s", "health s"):
        shown.add_column(name, justify="left" if name == "attack" else "right", no_wrap=True)
    shown.add_column("", overflow="fold")
    for row in rows:
        faults = row.faults()
        cells = [
            row.attack,
            "/".join(map(str, row.underruns)),
            "/".join(map(str, row.missing)),
            _number(row.added_p99_ms),
            str(row.lost),
            _number(row.join_s, 2),
            _number(row.health_s, 2),
        ]
        verdict = Text(", ".join(faults), style="bold red") if faults else Text("ok", style="green")
        shown.add_row(*map(Text, cells), verdict)
    return shown


def details(row: Row) -> list[str]:
    """Returns lines on how an attacker fared, and what failed."""
    ended, failed = _pairs(row.attacker.get("ended", {})), [*row.join_failures, *row.health_failures]
    return [
        f"{row.attack}: the attacker's connections ended with {ended}; /stats counted {_pairs(row.counted)}",
        *(f"  failed: {reason}" for reason in dict.fromkeys(failed)),
    ]


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
