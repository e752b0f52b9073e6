"""Ratings on the disk: whole trials or nothing."""

from __future__ import annotations

import resource
import stat
from pathlib import Path

import pytest

from earshot.codec.errors import UsageError
from earshot.lab.listening.plan import ANCHOR, REFERENCE
from earshot.lab.listening.record import RATER_COLUMNS, ScoreFile, Table, read_ratings
from earshot.lab.listening.scores import Rating


def trial(rater: str, clip: str, score: int = 40) -> list[Rating]:
    """Returns a trial with the reference first: the file puts it last."""
    return [Rating(rater, clip, name, score, 12.3, "2026-01-02T03:04:05+00:00") for name in (REFERENCE, "x,y", ANCHOR)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scores.csv"


def save(path: Path, *trials: list[Rating]) -> None:
    file = ScoreFile(path)
    for each in trials:
        file.append(each)
    file.close()


def test_what_is_written_is_read(path: Path) -> None:
    save(path, trial("ada", "a"), trial("Ólaf B.", "b", 100))
    lines = path.read_text().splitlines()
    assert lines[0] == "rater,trial,system,score,seconds,time"
    assert lines[1] == 'ada,a,"x,y",40,12.3,2026-01-02T03:04:05+00:00'
    assert [line.split(",")[2] for line in lines[2:4]] == ["anchor", "reference"]
    assert sorted(map(str, read_ratings(path))) == sorted(map(str, trial("ada", "a") + trial("Ólaf B.", "b", 100)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_wherever_a_crash_cuts_the_file_whole_trials_are_left_and_it_goes_on(path: Path, tmp_path: Path) -> None:
    save(path, trial("ada", "a"), trial("ada", "b"))
    data = path.read_bytes()
    one = data.index(b"ada,b")
    torn = tmp_path / "torn.csv"
    for size in range(len(data) + 1):
        torn.write_bytes(data[:size])
        whole = 6 if size == len(data) else 3 if size >= one else 0
        assert len(read_ratings(torn)) == whole
        save(torn, trial("ben", "c"))
        found = read_ratings(torn)
        assert [(r.rater, r.trial) for r in found[whole:]] == [("ben", "c")] * 3
        assert len(found) == whole + 3


def test_a_disk_that_is_full_takes_nothing_or_all(path: Path) -> None:
    save(path, trial("ada", "a"))
    before = path.read_bytes()
    file = ScoreFile(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        with pytest.raises(OSError, match="large"):
            file.append(trial("ada", "b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert len(file.ratings) == 3
    file.append(trial("ada", "b"))
    assert path.read_bytes().startswith(before)
    file.close()
    assert len(read_ratings(path)) == 6


def test_one_process_writes(path: Path) -> None:
    file = ScoreFile(path)
    with pytest.raises(UsageError, match="another `earshot listen`"):
        ScoreFile(path)
    file.close()
    ScoreFile(path).close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,age\nada,36\n", "columns are not"),
        ("something else, without an end", "columns are not"),
        ("rater,trial,system,score,seconds,time\nada,a,reference,40\n", "line 2"),
        ("rater,trial,system,score,seconds,time\nada,a,reference,forty,1,now\n", "line 2"),
        ("rater,trial,system,score,seconds,time\nada,a,reference,101,1,now\n", "a score of 101"),
    ],
)
def test_files_of_something_else_are_left_alone(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    for use in (ScoreFile, read_ratings):
        with pytest.raises(UsageError, match=said):
            use(path)
    assert path.read_text() == text


def test_files_that_are_no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(UsageError, match="not text"):
        ScoreFile(path)


def test_no_file(path: Path) -> None:
    with pytest.raises(UsageError, match="nobody has rated yet"):
        read_ratings(path)


def test_keys_of_raters_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "raters.csv"
    with Table(path, RATER_COLUMNS) as table:
        table.append([("ada", "00ff")])
    with path.open("ab") as file:
        file.write(b"ben,12")
    with Table(path, RATER_COLUMNS) as table:
        assert table.rows == [["ada", "00ff"]]
        table.append([("cy", "aa")])
    assert path.read_text() == "rater,key\nada,00ff\ncy,aa\n"
