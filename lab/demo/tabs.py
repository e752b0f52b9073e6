"""A demo in the browser: a server on this machine, and two tabs in one of its rooms."""

from __future__ import annotations

import tempfile
import time
import webbrowser
from contextlib import ExitStack
from pathlib import Path

from earshot.codec.terminal import Terminal
from earshot.lab.children import WATCH_S, start_server
from earshot.lab.demo.show import ending_cleanly

BETWEEN_S = 1.0
"""A browser that is only starting would otherwise start twice."""


def tabs(console: Terminal, model: str, seconds: float | None) -> bool:
    """Opens the page twice, and serves until Ctrl-C or for some seconds. Returns True.

    Raises ChildError if the server fails."""
    with ending_cleanly(), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="earshot-")))
        server, url = start_server(stack, folder, model)
        page = url.replace("ws://", "http://") + "/#demo"
        opened = [webbrowser.open_new_tab(page)]
        time.sleep(BETWEEN_S)
        opened.append(webbrowser.open_new_tab(page))
        what = "Join in both tabs" if all(opened) else "No browser was found here; open this twice"
        console.say(f"{what}: {page}. Use headphones, or it will whistle. Ctrl-C ends it.")
        ends = None if seconds is None else time.monotonic() + seconds
        while ends is None or time.monotonic() < ends:
            server.check(ended=True)
            time.sleep(WATCH_S)
    return True
