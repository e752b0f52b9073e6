"""Shows the description of a recording on the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from earshot.recording.description import Description, Speaker, clock


def description_table(found: Description) -> Group:
    """Returns lines about the recording, but not its path, a table with a row for each speaker, and
    notes on what is missing."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("id", no_wrap=True)
    table.add_column("who", overflow="fold")
    for heading in ("from", "to", "sound", "rate", "bytes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for speaker in found.speakers.values():
        # Text, not markup: peers choose their own names.
        table.add_row(
            str(speaker.id), Text(speaker.name or "(no name)"), *_times(found, speaker), *_said(found, speaker)
        )
    facts = [Text(f"  {fact}") for fact in found.facts()]
    return Group(*facts, table if found.speakers else Text("nobody is in it"), *map(Text, found.remarks()))


def _times(found: Description, speaker: Speaker) -> tuple[str, str]:
    """Returns when the speaker came and left."""
    return clock(speaker.joined_s or 0), clock(found.seconds if speaker.left_s is None else speaker.left_s)


def _said(found: Description, speaker: Speaker) -> tuple[str, str, str]:
    if not speaker.frames:
        return "none", "", ""
    return clock(found.seconds_of(speaker)), f"{found.kbps_of(speaker):.1f} kbps", str(speaker.code_bytes)
