"""The table that `earshot info` shows for a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from earshot.cli import app
from earshot.codec.ecdc import format as ecdc
from earshot.codec.errors import AudioError
from earshot.codec.model.model import Model
from earshot.commands import files
from earshot.recording.description import describe
from earshot.recording.format import Event
from earshot.recording.table import description_table
from tests.recordings import record, talk, write

CODES = np.random.default_rng(1).integers(0, 1024, (8, 450))


def joined(speaker: int, name: str, at: int = 0, reason: str = "") -> tuple[int, int, Event]:
    return at, speaker, Event(type="joined", at=0, peer=speaker, name=name, reason=reason)


@pytest.fixture
def meeting(tiny_model: Model) -> bytes:
    """Records a meeting. Ada speaks 6 s at 6 kbps, Ben 2 s at 1.5 kbps before he leaves, and Cy
    says nothing; Di and one without a name play music."""
    events = [
        joined(1, "Ada"),
        joined(3, "[bold]Cy"),
        joined(4, "Di", reason="sends music: what music makes is not recorded"),
        joined(5, "", reason="sends music: what music makes is not recorded"),
        joined(2, "Ben", 2_400_000),
        (4_600_000, 2, Event(type="left", at=0, peer=2)),
    ]
    said = [*talk(1, CODES, 0), *talk(2, CODES[:2, :150], 2_500_000), *events]
    return record(tiny_model, sorted(said, key=lambda each: each[0]))


def rows(text: str) -> dict[str, list[str]]:
    """Returns the cells of each speaker's row, by id."""
    cells = [line.split() for line in text.splitlines()]
    return {row[0]: row[1:] for row in cells if row and row[0].isdigit()}


def shown(file: Path, width: int = 200) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(description_table(describe(file)))
    return captured.get()


def test_who_was_there_and_what_each_said(meeting: bytes, tiny_model: Model, tmp_path: Path) -> None:
    text = shown(write(tmp_path / "den.eshr", meeting))
    assert text.startswith("  recording of den")
    assert f"\n  begun 2026-11-24T09:15:00.000+00:00\n  0:00:06.0 long, {len(meeting)} bytes" in text
    assert f"codes of tiny ({tiny_model.digest})" in text
    assert (found := rows(text)) == {
        "1": ["Ada", "0:00:00.0", "0:00:06.0", "0:00:06.0", "6.0", "kbps", "4500"],
        "3": ["[bold]Cy", "0:00:00.0", "0:00:06.0", "none"],
        "4": ["Di", "0:00:00.0", "0:00:06.0", "none"],
        "5": ["(no", "name)", "0:00:00.0", "0:00:06.0", "none"],
        "2": ["Ben", "0:00:02.4", "0:00:04.6", "0:00:02.0", "1.5", "kbps", found["2"][-1]],
    }
    assert 375 <= int(found["2"][-1]) < 380  # each record is padded to a whole byte
    assert "\nDi: sends music: what music makes is not recorded" in text
    assert "\npeer 5: sends music: what music makes is not recorded" in text


def test_the_command_fits_80_columns(tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe, too, where nothing is broken; but for the path, which is in a line of its own."""
    monkeypatch.chdir(tmp_path)
    events = [joined(each, name, reason="a reason " * 20) for each, name in ((1, "Ada"), (60_000, "a name " * 9))]
    write(Path("long.eshr"), record(tiny_model, [*events, *talk(1, CODES, 0)], room="r" * 64, max_kbps=12.0)[:-10])
    done = CliRunner().invoke(app, ["info", "long.eshr"])
    assert done.exit_code == 0, done.exception
    lines = done.output.splitlines()
    assert lines[:2] == ["long.eshr", "  recording of " + "r" * 64]
    assert max(map(len, lines)) <= 80


def test_damage_and_a_missing_end_are_told(meeting: bytes, tmp_path: Path) -> None:
    data = bytearray(meeting)
    data[len(data) // 2] ^= 0xFF
    text = shown(write(tmp_path / "den.eshr", bytes(data[:-10])))
    assert "damaged: " in text
    assert "% of its bytes are good" in text
    assert "it has no end: the server was killed, or is still recording" in text


def test_nobody(tiny_model: Model, tmp_path: Path) -> None:
    assert "nobody is in it" in shown(write(tmp_path / "den.eshr", record(tiny_model, [])))


def test_the_command_takes_recordings_and_files_of_codes(
    meeting: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command tells files apart by their content, and a recording whose first bytes are damaged
    by its name."""
    renamed, hurt = write(tmp_path / "renamed", meeting), write(tmp_path / "hurt.eshr", b"?" + meeting[1:])
    monkeypatch.setattr(files.console, "width", 300)
    coded = write(tmp_path / "in.ecdc", ecdc.Header("[/red]", 9, 2, False).to_bytes())
    done = CliRunner().invoke(app, ["info", *map(str, (renamed, coded, hurt))])
    assert done.exit_code == 0, done.exception
    assert done.output.count("  recording of den\n") == 2
    assert "[/red]" in done.output
    assert f"{hurt}\n  recording" in done.output
    assert "damaged: 8 bytes at byte 0" in done.output
    with pytest.raises(AudioError, match="it is no recording"):
        CliRunner().invoke(app, ["info", str(write(tmp_path / "no.eshr", b"nothing"))], catch_exceptions=False)
    with pytest.raises(AudioError, match="cannot read"):
        CliRunner().invoke(app, ["info", str(tmp_path / "nowhere")], catch_exceptions=False)
