"""Reads single keys from a terminal, without the Enter key. The terminal is as it was before on
every way out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator

try:
    import termios
    import tty
except ImportError:  # Windows: no keys, Ctrl-C leaves
    termios = None  # type: ignore[assignment]


def _in_foreground() -> bool:
    try:
        return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (AttributeError, OSError, ValueError):  # no standard input at all, or a closed one
        return False


@contextlib.contextmanager
def keys(on_key: Callable[[str], None]) -> Iterator[bool]:
    """Calls `on_key` on the running event loop for every key while the context lasts.

    Yields whether it does: standard input may be no terminal, or one that this process may not read
    from. Then nothing is read."""
    if termios is None or not _in_foreground():
        yield False
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            data = os.read(descriptor, 64)
        except OSError:
            data = b""
        if not data:  # the terminal has gone
            loop.remove_reader(descriptor)
        for key in data.decode(errors="ignore"):
            on_key(key)

    try:
        tty.setcbreak(descriptor)  # Ctrl-C still interrupts
        loop.add_reader(descriptor, read)
        yield True
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
