"""What keys do to a call."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from earshot.client.core.receiver import Receiver
from earshot.client.ui import controls
from earshot.client.ui.controls import HELP, Controls
from earshot.client.ui.view import ViewState
from earshot.protocol.messages import PeerInfo, SetRate
from earshot.protocol.packet import PcmBlock


class Call:
    """What keys need of a call."""

    def __init__(self) -> None:
        self.did: list[Any] = []
        self.muted, self.max_kbps = False, 12.0
        self.models = SimpleNamespace(talk=SimpleNamespace(config=SimpleNamespace(bandwidths=(1.5, 3.0, 6.0, 12.0))))
        self.outbox = SimpleNamespace(put=self.did.append)
        people = [
            PeerInfo(id=id, name=name, send="codes", want="codes", send_kbps=6.0, max_kbps=6.0)
            for id, name in ((7, "Ben"), (3, "Ada"))
        ]
        self.room = SimpleNamespace(peers={peer.id: peer for peer in people})
        self.volumes_db: dict[str, float] = {}

    def toggle_mute(self) -> None:
        self.muted = not self.muted
        self.did.append("muted" if self.muted else "talks")

    def leave(self) -> None:
        self.did.append("left")

    def toggle_recording(self) -> None:
        self.did.append("recording")

    def step_rate(self, up: bool) -> None:
        self.did.append("up" if up else "down")

    def step_latency(self) -> None:
        self.did.append("latency")

    def set_volume(self, peer: PeerInfo, decibels: float) -> None:
        self.volumes_db[peer.name] = decibels


KEYS: dict[str, list[Any]] = {
    "q": ["left"],
    "Q": ["left"],
    "m": ["muted"],
    "mm": ["muted", "talks"],
    "r": ["recording"],
    "l": ["latency"],
    "+=-": ["up", "up", "down"],
    "[": [SetRate(max_kbps=6.0)],
    "[[[[": [SetRate(max_kbps=6.0), SetRate(max_kbps=3.0), SetRate(max_kbps=1.5)],
    "]": [],
    "[]": [SetRate(max_kbps=6.0), SetRate(max_kbps=12.0)],
    " ": [],
    "p": ["muted"],
    "pp": ["muted", "talks"],
    "p  ": ["muted", "talks"],
    "p m": ["muted", "talks", "muted", "talks"],
    "x\x1bé": [],
}


@pytest.mark.parametrize("keys", KEYS, ids=ascii)
async def test_each_key_does_its_work(keys: str) -> None:
    call = Call()
    control = Controls(call)  # type: ignore[arg-type]
    for key in keys:
        control.press(key)
    assert call.did == KEYS[keys]


async def test_push_to_talk_ends_when_the_key_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "HELD_FIRST_S", 0.05)
    monkeypatch.setattr(controls, "HELD_S", 0.02)
    call = Call()
    control = Controls(call)  # type: ignore[arg-type]
    for key in "p  ":
        control.press(key)
    assert not call.muted
    await asyncio.sleep(0.15)
    assert call.did == ["muted", "talks", "muted"]


async def test_the_volume_of_the_person_who_was_chosen() -> None:
    call = Call()
    control = Controls(call)  # type: ignore[arg-type]
    control.press(".")
    assert call.volumes_db == {}, "nobody is chosen"
    for key in "1,,2." + "9.":
        control.press(key)
    assert call.volumes_db == {"Ada": -6.0, "Ben": 3.0}, "in the order of the view"
    control.press("2")
    for key in 20 * ".":
        control.press(key)
    assert call.volumes_db["Ben"] == controls.MOST_DB


def test_what_the_keys_chose_is_in_the_view() -> None:
    control = Controls(Call())  # type: ignore[arg-type]
    control.press("?")
    control.press("2")
    state = control.shown_in(ViewState("me", "den", "s"))
    assert (state.help, state.chosen, state.push_to_talk) == (HELP, 2, False)
    control.press("?")
    assert control.shown_in(state).help == ()


def test_a_speaker_is_played_louder_or_softer() -> None:
    """Two speakers with the same sound; the volume of one is halved."""

    class Decoder:
        def push(self, pcm: np.ndarray) -> np.ndarray:
            return pcm

        def flush(self) -> np.ndarray:
            return np.zeros(0, np.float32)

    heard = {}
    for gain in (1.0, 0.5, 2.0):
        receiver = Receiver(Decoder)  # type: ignore[arg-type]
        receiver.set_gain(1, gain)
        block = PcmBlock(1, 0, 0, (np.full(3200, 0.1) * 32767).astype("<i2").tobytes())
        receiver.take([block], 6400, 0)
        heard[gain] = np.abs(np.concatenate([receiver.pull(320, 20_000 * k) for k in range(12)])).max()
    assert heard[1.0] == pytest.approx(0.1, rel=0.05)
    assert heard[0.5] == pytest.approx(0.05, rel=0.05)
    assert heard[2.0] == pytest.approx(0.2, rel=0.05)
