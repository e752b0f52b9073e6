"""The one way of everything that Earshot shows on a terminal.

File names, names of peers and sentences of servers are made by others. A console of this module
shows them as they are: brackets in them are no markup, `:words:` are no emoji, and what a terminal
would obey is left out. What the encoding of the output has no character for is replaced: by a
question mark, or by something alike where it is a drawing. tests/codec/test_terminal.py looks that
nobody makes another console."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from textwrap import wrap
from typing import IO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.progress import TextColumn
from rich.segment import Segment
from rich.spinner import Spinner
from rich.text import Text

from earshot.codec.text import clean, clean_lines

LONGEST_LINE = 1000
"""Characters of a line that `say` shows: paths are long, and words of a server may be longer."""


_DRAWN = str.maketrans("█▌·●…━╸╺─│", "##.*~----|")
"""What views are drawn with, and what stands for it where there is only ASCII."""


_WAITING: list[Live] = []
"""What says now that one has to wait."""


@contextmanager
def saying_more() -> Iterator[None]:
    """Takes away what `Terminal.waiting` shows, while something else is said or drawn."""
    for live in _WAITING:
        live.stop()
    try:
        yield
    finally:
        for live in _WAITING:
            live.start(refresh=True)


def fit(text: str, encoding: str) -> str:
    """Returns a text as wide as before that an encoding has all characters for."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_fit(character, encoding) for character in text)
    except LookupError:  # an encoding that nobody knows
        return fit(text, "ascii")
    return text


def _fit(character: str, encoding: str) -> str:
    for tried in (character, character.translate(_DRAWN)):
        if tried.encode(encoding, "replace").decode(encoding, "replace") == tried:
            return tried
    return "?" * cell_len(character)


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
        breaks in it become spaces, so that a file's name cannot look like a line of its own. A
        terminal shows it broken between words, but paths and commands whole."""
        text = clean(clean_lines(line), LONGEST_LINE)
        if label:
            text = f"{label} {text}"
        if self.is_terminal and not text.startswith("earshot "):
            text = "\n".join(wrap(text, self.width, break_long_words=False, break_on_hyphens=False))
        shown = Text(text)
        shown.stylize(style, 0, len(label))
        self.print(shown, soft_wrap=True)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Says on a terminal what one waits for, as long as it takes; elsewhere nothing."""
        if not self.is_terminal:
            yield
            return
        with Live(Spinner("dots", Text(what)), console=self, transient=True) as live:
            _WAITING.append(live)
            try:
                yield
            finally:
                _WAITING.remove(live)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yields the segments of anything, clean. Segments that move the cursor are rich's own."""
        encoding = self.encoding
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(fit(clean_lines(segment.text), encoding), segment.style)


def description_column() -> TextColumn:
    """Returns the column of a progress bar that shows the description of its task as it is. A
    column made of a name would take braces and brackets in it for its own."""
    return TextColumn("{task.description}", markup=False)
