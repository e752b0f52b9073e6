"""A load test in the terminal: a table that grows with each step."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from server.loadtest.plan import Findings, Plan, Row
from server.loadtest.run import run


def table(findings: Findings) -> Table:
    about = f"{findings.model} {findings.digest} at {findings.kbps:g} kbps, {findings.cores} cores"
    shown = Table(title=about, caption="ms, but for speakers, lost, shares of a core and frames in a batch")
    for name in (
        "speakers",
        "added p50",
        "p95",
        "p99",
        "lost",
        "server",
        "clients",
        "late",
        "batch",
        "slack p50",
        "p99",
    ):
        shown.add_column(name, justify="right")
    shown.add_column("")
    for row in findings.rows:
        shown.add_row(*_cells(row), _verdict(row, findings.frame_ms))
    return shown


def _cells(row: Row) -> list[str]:
    return [
        str(row.speakers),
        *map(_number, (row.added_p50, row.added_p95, row.added_p99)),
        str(row.lost),
        _number(row.server_cpu, 2),
        _number(row.generator_cpu, 2),
        *map(_number, (row.late_p99, row.batch_mean, row.slack_p50, row.slack_p99)),
    ]


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


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


def show_run(console: Console, plan: Plan, model: str, voices: Path, url: str | None) -> Findings:
    """Runs the test and shows it while it runs."""
    doing = Spinner("dots", "")
    so_far: list[Table] = []

    with Live(doing, console=console, transient=True, refresh_per_second=4) as live:

        def refresh() -> None:
            live.update(Group(*so_far, doing))

        def show(what: str) -> None:
            doing.update(text=what)
            refresh()

        def found(findings: Findings) -> None:
            so_far[:] = [table(findings)]
            refresh()

        findings = run(plan, model, voices, url, show, found)
    console.print(table(findings))
    console.print(summary(findings))
    return findings
