"""What the keys of a call do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from earshot.client.call import Call
from earshot.client.ui.view import ViewState
from earshot.protocol.messages import SetRate

HELP = (
    "m  mute, or no longer",
    "p  push to talk: muted but while the space bar is held",
    "+ -  rate of what you send",
    "[ ]  the most that you take of each speaker",
    "1 to 9, then , .  softer and louder: the first to the ninth person",
    "l  save time, or bits: low, balanced, thrift",
    "r  ask for a recording, or for its end",
    "?  these lines, or no longer",
    "q  leave",
)
HELD_FIRST_S, HELD_S = 0.8, 0.3
"""How long a key counts as held after it came: until the terminal repeats it, and then."""
STEP_DB, LEAST_DB, MOST_DB = 3.0, -24.0, 12.0


class Controls:
    """Keys of one call, on the event loop."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.push_to_talk = False
        self.help = False
        self.chosen = 0
        """Whose volume the keys change: 1 for the first person of the view, 0 for nobody."""
        self._release: asyncio.TimerHandle | None = None
        self._actions: dict[str, Callable[[], None]] = {
            "q": call.leave,
            "m": self._mute,
            "r": call.toggle_recording,
            "l": call.step_latency,
            "p": self._toggle_push_to_talk,
            " ": self._talk,
            "?": self._toggle_help,
            "h": self._toggle_help,
            "+": lambda: call.step_rate(up=True),
            "=": lambda: call.step_rate(up=True),  # the same key without shift
            "-": lambda: call.step_rate(up=False),
            "]": lambda: self._take(up=True),
            "[": lambda: self._take(up=False),
            ".": lambda: self._volume(STEP_DB),
            ",": lambda: self._volume(-STEP_DB),
        }

    def press(self, key: str) -> None:
        """Does what a key stands for."""
        if key in "123456789":
            self.chosen = int(key)
        elif (action := self._actions.get(key.lower())) is not None:
            action()

    def shown_in(self, state: ViewState) -> ViewState:
        """Returns a view with what the keys have chosen."""
        lines = HELP if self.help else ()
        return replace(state, push_to_talk=self.push_to_talk, chosen=self.chosen, help=lines)

    def _mute(self) -> None:
        self._end_talk()
        self._call.toggle_mute()

    def _toggle_push_to_talk(self) -> None:
        self.push_to_talk = not self.push_to_talk
        self._end_talk()
        if self._call.muted != self.push_to_talk:
            self._call.toggle_mute()

    def _talk(self) -> None:
        if not self.push_to_talk:
            return
        held_s = HELD_FIRST_S
        if self._release is not None:
            self._release.cancel()
            held_s = HELD_S
        elif self._call.muted:
            self._call.toggle_mute()
        self._release = asyncio.get_running_loop().call_later(held_s, self._end_talk)

    def _end_talk(self) -> None:
        if self._release is None:
            return
        self._release.cancel()
        self._release = None
        if not self._call.muted:
            self._call.toggle_mute()

    def _toggle_help(self) -> None:
        self.help = not self.help

    def _take(self, up: bool) -> None:
        call = self._call
        rates = sorted((call.models.talk or call.models.mine).config.bandwidths)
        place = sum(rate <= call.max_kbps for rate in rates) - 1 + (1 if up else -1)
        if 0 <= place < len(rates):
            call.max_kbps = rates[place]
            call.outbox.put(SetRate(max_kbps=call.max_kbps))

    def _volume(self, step_db: float) -> None:
        people = sorted(self._call.room.peers.copy().values(), key=lambda peer: peer.id)
        if 1 <= self.chosen <= len(people):
            peer = people[self.chosen - 1]
            wanted = self._call.volumes_db.get(peer.name, 0.0) + step_db
            self._call.set_volume(peer, min(max(wanted, LEAST_DB), MOST_DB))
