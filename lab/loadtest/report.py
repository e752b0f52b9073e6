"""A load test in the terminal: a table that grows with each step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from earshot.codec.terminal import Terminal
from earshot.lab.loadtest.plan import Findings, Plan, Row
from earshot.lab.loadtest.run import run

WIDE = 110
"""Columns of a terminal that holds the whole table; a narrower one gets the columns that decide."""


def table(findings: Findings, width: int = WIDE) -> Table:
    about = f"{findings.model} {findings.digest} at {findings.kbps:g} kbps, {findings.cores} cores"
    shown = Table(title=about, caption="ms, but for speakers, lost, shares of a core and frames in a batch")
    cells = _CELLS if width >= WIDE else {name: _CELLS[name] for name in _CELLS if name not in _WIDE_ONLY}
    for name in cells:
        shown.add_column(name, justify="right")
    shown.add_column("")
    for row in findings.rows:
        shown.add_row(*(cell(row) for cell in cells.values()), _verdict(row, findings.frame_ms))
    return shown


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


_CELLS: dict[str, Callable[[Row], str]] = {
    "speakers": lambda row: str(row.speakers),
    "added p50": lambda row: _number(row.added_p50),
    "p95": lambda row: _number(row.added_p95),
    "p99": lambda row: _number(row.added_p99),
    "lost": lambda row: str(row.lost),
    "server": lambda row: _number(row.server_cpu, 2),
    "clients": lambda row: _number(row.generator_cpu, 2),
    "late": lambda row: _number(row.late_p99),
    "batch": lambda row: _number(row.batch_mean),
    "slack p50": lambda row: _number(row.slack_p50),
    "slack p99": lambda row: _number(row.slack_p99),
}
_WIDE_ONLY = ("clients", "batch", "slack p50", "slack p99")


def _verdict(row: Row, frame_ms: float) -> Text:
    fault = row.fault(frame_ms)
    if fault:
        return Text(f"{fault}; the clients were slow too" if row.starved else fault, style="bold red")
    if row.refused:
        return Text(f"no more: {row.refused.split(':')[0]}", style="yellow")
    return Text("clients slow" if row.starved else "ok", style="yellow" if row.starved else "green")


def summary(findings: Findings) -> str:
    said = f"{findings.held} speakers at once, all heard within {findings.frame_ms:.1f} ms (p99) and nothing lost"
    refused = findings.refused_above
    return said if refused is None else f"{said}; above {refused} the server refuses (4013)"


def show_run(console: Terminal, plan: Plan, model: str, voices: Path, url: str | None) -> Findings:
    """Runs the test and shows it while it runs."""
    doing = Spinner("dots", "")
    so_far: list[Table] = []

    with Live(doing, console=console, transient=True, refresh_per_second=4) as live:

        def refresh() -> None:
            live.update(Group(*so_far, doing))

        def show(what: str) -> None:
            doing.update(text=Text(what))
            refresh()

        def found(findings: Findings) -> None:
            so_far[:] = [table(findings, console.width)]
            refresh()

        findings = run(plan, model, voices, url, show, found)
    console.print(table(findings, console.width))
    console.say(summary(findings))
    return findings
