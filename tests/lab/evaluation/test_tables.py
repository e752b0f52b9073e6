"""Tables as a terminal shows them."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console, RenderableType

from earshot.lab.evaluation.bands import BANDS
from earshot.lab.evaluation.stress import StressResult
from earshot.lab.evaluation.tables import band_table, score_table, stress_summary, stress_table
from tests.lab.evaluation.test_results import evaluation


def shown(table: RenderableType, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def row(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.strip("│┃ ").startswith(start))
    return [cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")]


def test_scores() -> None:
    text = shown(score_table(evaluation()))
    assert "earshot: tiny 0123456789abcdef; 2 clips, 6 s" in text
    assert row(text, "system") == ["system", "↑", "dB ↑", "% ↓"]
    assert row(text, "original") == ["original", "-", "-", "25"]
    assert row(text, "earshot 6") == ["earshot 6 kbps", "0.700 ±1.271", "6.0 ±12.7", "50"]
    assert row(text, "opus 6") == ["opus 6 kbps", "0.800 ±1.271", "-", "25"]
    assert "words changed" not in text
    assert "something was left out" in text


def test_bands() -> None:
    base = evaluation()
    first, *others = [*BANDS["snr"], *BANDS["level"]]
    values = {first.key: 12.34, BANDS["level"][0].key: -0.56}
    scores = [replace(score, values={**score.values, **values}) for score in base.scores if score.system != "original"]
    text = shown(band_table(replace(base, scores=scores, measures=[*base.measures, first, *others])), 80)
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert lines[1] == ["0-", "0.25-", "0.5-", "1-", "1.5-", "2-", "3-", "4-", "6-"]
    assert lines[2] == ["system", "0.25", "0.5", "1", "1.5", "2", "3", "4", "6", "8"]
    ours = lines.index(["earshot", "6", "kbps", "snr", "12.3", *8 * ["-"]])
    assert lines[ours + 1] == ["level", "-0.6", *8 * ["-"]]
    assert "…" not in text
    assert not any(line[0] == "original" for line in lines)


def test_a_narrow_terminal_loses_no_figure() -> None:
    text = shown(score_table(evaluation()), 52)
    for figure in ("0.700", "±1.271", "6.0", "±12.7", "opus 6 kbps"):
        assert figure in text
    assert "…" not in text


def test_stress() -> None:
    rows = [
        StressResult("silence", 6.0, -100.0, -86.0, finite=True),
        StressResult("drums", 6.0, -20.0, -14.0, finite=True),
        StressResult("chords", 6.0, -20.0, -20.5, finite=True),
    ]
    text = shown(stress_table(rows))
    assert row(text, "silence") == ["silence", "6", "silent", "-86.0", "-", "ok"]
    assert row(text, "drums") == ["drums", "6", "-20.0", "-14.0", "+6.0", "too loud"]
    assert row(text, "chords") == ["chords", "6", "-20.0", "-20.5", "-0.5", "ok"]
    assert stress_summary(rows) == "6 kbps: 2 of 3 ok"


def test_long_names_of_sounds_are_told_apart_in_a_narrow_terminal() -> None:
    names = [f"somebody-samples_music_loop-{end}" for end in ("drone", "tabla")]
    text = shown(stress_table([StressResult(name, 6.0, -20.0, -20.5, finite=True) for name in names]), 80)
    assert "…" not in text
    folded = "".join(line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│"))
    assert folded == "".join(names)
