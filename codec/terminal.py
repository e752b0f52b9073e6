"""The one way of everything that Earshot shows on a terminal.

File names, names of peers and sentences of servers are made by others. A console of this module
shows them as they are: brackets in them are no markup, `:words:` are no emoji, and what a terminal
would obey is left out. tests/codec/test_terminal.py looks that nobody makes another console."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import TextColumn
from rich.segment import Segment
from rich.text import Text

from earshot.codec.text import clean, clean_lines

LONGEST_LINE = 1000
"""Characters of a line that `say` shows: paths are long, and words of a server may be longer."""


class Terminal(Console):
    """A console for which no text is more than text."""

    def __init__(
        self,
        *,
        stderr: bool = False,
        file: IO[str] | None = None,
        width: int | None = None,
        force_terminal: bool | None = None,
    ) -> None:
        super().__init__(
            stderr=stderr,
            file=file,
            width=width,
            force_terminal=force_terminal,
            markup=False,
            emoji=False,
            highlight=False,
        )

    def say(self, line: str, label: str = "", style: str = "") -> None:
        """Prints one line, however long it is and whatever is in it, after a label in a style. Line
        breaks in it become spaces, so that a file's name cannot look like a line of its own."""
        text = Text(clean(clean_lines(line), LONGEST_LINE))
        self.print(Text.assemble((label, style), " ", text) if label else text, soft_wrap=True)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yields the segments of anything, clean. Segments that move the cursor are rich's own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(clean_lines(segment.text), segment.style)


def description_column() -> TextColumn:
    """Returns the column of a progress bar that shows the description of its task as it is. A
    column made of a name would take braces and brackets in it for its own."""
    return TextColumn("{task.description}", markup=False)
