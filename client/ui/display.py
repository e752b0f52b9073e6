"""Shows a call while it lasts: a live view in a terminal, plain lines elsewhere, or JSON for
another program."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from rich.live import Live

from earshot.client.call import Call
from earshot.client.ui.controls import Controls
from earshot.client.ui.figures import view_state
from earshot.client.ui.keyboard import keys
from earshot.client.ui.view import ViewState, plain_line, render
from earshot.codec.terminal import Terminal

EVERY_S = 0.1
PLAIN_EVERY_S = 5.0


class Display(Protocol):
    """Somewhere to show a call."""

    def show(self, state: ViewState) -> None:
        """Shows a state. It is called ten times a second."""
        ...


class _Json:
    """Writes a line of JSON for each state. A reader that has gone away is no reason to hang up."""

    def __init__(self) -> None:
        self._broken = False

    def show(self, state: ViewState) -> None:
        if self._broken:
            return
        try:
            sys.stdout.write(json.dumps(state.to_json()) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            self._broken = True


class _Plain:
    """Prints a line every few seconds, and at once when the state or the peers have changed; none
    before there is a connection."""

    def __init__(self, console: Terminal) -> None:
        self._console = console
        self._last: tuple[object, ...] | None = None
        self._shown_s = 0.0

    def show(self, state: ViewState) -> None:
        if state.state == "connecting":
            return
        names = tuple(speaker.name for speaker in state.speakers)
        key = (state.state, state.detail, state.recording, state.recording_said, names)
        if key != self._last or state.seconds - self._shown_s >= PLAIN_EVERY_S:
            self._last, self._shown_s = key, state.seconds
            self._console.say(plain_line(state))


class _Live:
    """Draws a live view."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, state: ViewState) -> None:
        self._live.update(render(state), refresh=True)

    def forget(self) -> None:
        """Leaves nothing of the view on the terminal."""
        self._live.transient = True


@contextmanager
def display(console: Terminal, as_json: bool) -> Iterator[Display]:
    """Yields the display that fits the output. Afterwards the terminal is as it was before, with
    the last view left on it."""
    if as_json:
        yield _Json()
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield _Live(live)
    else:
        yield _Plain(console)


async def run_in_terminal(call: Call, console: Terminal, as_json: bool = False) -> None:
    """Runs a call to its end, with keys and a view.

    Ctrl-C, SIGTERM and a terminal that is closed (SIGHUP) leave the call; a second Ctrl-C
    interrupts it. Raises what `Call.run` raises."""
    controls = Controls(call)
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        loop.remove_signal_handler(number)
        call.leave()

    async def keep_showing(screen: Display) -> None:
        while True:
            show(screen)
            await asyncio.sleep(EVERY_S)

    def show(screen: Display) -> None:
        state = controls.shown_in(view_state(call))
        with suppress(OSError, ValueError):  # an output that is gone or takes no such text ends no call
            screen.show(state)

    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] if sys.platform != "win32" else []
    for number in signals:
        loop.add_signal_handler(number, on_signal, number)
    with display(console, as_json) as screen, keys(controls.press):
        showing = asyncio.create_task(keep_showing(screen))
        try:
            await call.run()
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
            for number in signals:
                loop.remove_signal_handler(number)
            if call.room.welcome is not None:  # else the error says all there is to say
                show(screen)
            elif isinstance(screen, _Live):
                screen.forget()
