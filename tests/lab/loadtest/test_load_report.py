"""Table and picture of a load test, of figures that were not measured."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.image
from rich.console import Console

from earshot.lab.loadtest.picture import draw
from earshot.lab.loadtest.plan import Findings
from earshot.lab.loadtest.report import summary, table
from tests.lab.loadtest.test_load_tally import row

FINDINGS = Findings(
    "tiny", "0123456789abcdef", 6.0, 13.333, 2, [row(20), row(40, late_p99=4.0), row(60, 14.2, late_p99=7.0, lost=2)]
)
REFUSED = Findings("tiny", "0123456789abcdef", 6.0, 13.333, 2, [row(20), row(34, refused="4013: this server is busy")])


def shown(findings: Findings, width: int = 160) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table(findings, width))
    return console.export_text()


def test_the_table_says_what_was_wrong_and_when_the_clients_were_slow() -> None:
    text = shown(FINDINGS)
    assert "tiny 0123456789abcdef at 6 kbps, 2 cores" in text
    assert "2 frames lost; the clients were slow too" in text
    assert "clients slow" in text
    assert "no more: 4013" in shown(REFUSED)


def test_a_narrow_terminal_gets_whole_words() -> None:
    text = shown(FINDINGS, 80)
    assert all(name in text for name in ("speakers", "added p50", "p99", "lost", "late"))
    assert "slack" in shown(FINDINGS)
    assert "slack" not in text


def test_the_summary_is_the_most_that_all_were_heard() -> None:
    assert summary(FINDINGS) == "40 speakers at once, all heard within 13.3 ms (p99) and nothing lost"
    assert summary(REFUSED).startswith("34 speakers at once")
    assert "above 34 the server refuses (4013)" in summary(REFUSED)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    for name, findings in (("late", FINDINGS), ("refused", REFUSED)):
        draw(findings, tmp_path / f"{name}.png")
        pixels = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert pixels.shape[:2] == (460, 800)
        assert pixels[..., :3].std() > 0.05
        assert (tmp_path / f"{name}.png").stat().st_size < 150_000
