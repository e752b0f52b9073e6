"""What every command that writes files asks before it begins."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from earshot.codec.errors import UsageError
from earshot.codec.targets import check_name, check_targets
from earshot.codec.terminal import Terminal

Force = Annotated[bool, typer.Option("--force", help="Replace files that exist, without a question.")]


def check_names(picture: Path | None = None, figures: Path | None = None, text: Path | None = None) -> None:
    """Raises UsageError for names that say something else than what these files will hold."""
    if picture is not None:
        check_name(picture, "picture", [".png"])
    if figures is not None:
        check_name(figures, "figures")
    if text is not None:
        check_name(text, "text")


def claim(targets: Iterable[Path | None], sources: Iterable[Path | str | None] = (), force: bool = False) -> None:
    """Checks that the targets of a command can be written and take nothing from the user.

    Files that exist are replaced with `force`, or if the user says so on a terminal. Pipes and
    devices are written to as they are. None stands for what was not asked for. Raises UsageError,
    before anything is opened."""
    wanted = [target for target in targets if target is not None]
    check_targets(wanted, (Path(source) for source in sources if source is not None))
    there = [target for target in wanted if target.is_file()]
    if not there or force:
        return
    what = f"{there[0]} exists" if len(there) == 1 else f"{there[0]} and {len(there) - 1} more of these files exist"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{what}: --force replaces {'it' if len(there) == 1 else 'them'}")
    Terminal(stderr=True).say(f"{what}. Replace? [y/N]")
    try:
        answer = input()
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was written")


def claim_run(folder: Path, names: Iterable[str], force: bool) -> None:
    """Checks the folder of a training run. A run that is there, with its checkpoint, goes on;
    files of these names that belong to none are the user's."""
    if not (folder / "checkpoint.pt").exists():
        claim([file for name in names if (file := folder / name).exists()], force=force)


def claim_folder(given: Path | None, usual: Path, force: bool) -> Path:
    """Returns the folder of a conversation's results. The usual one is Earshot's own; in one that
    the user names, results that are there are replaced as other files are."""
    if given is not None and given.is_dir():
        theirs = ("report.json", "*.png", "spoken-by-*.wav", "heard-by-*.wav")
        claim(sorted(file for pattern in theirs for file in given.glob(pattern)), force=force)
    return given or usual
