"""Peers that come and go: some of them for a moment, and what is said of figures."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import soundfile

from earshot.codec.model.model import Model
from earshot.lab.attacks.soak import Sample
from earshot.lab.soak.__main__ import HEAD, last_line
from earshot.lab.soak.peers import SAMPLE_RATE, SAY_S, Crowd, come_and_go, write_talk
from earshot.lab.soak.run import Found, growth_mb
from tests.peers import running_server


async def test_peers_talk_and_leave_nothing_behind(tmp_path: Path, tiny_model: Model) -> None:
    write_talk(tmp_path / "talk.wav", SAY_S)  # and again: nobody pauses
    crowd, stop = Crowd(), asyncio.Event()

    def heard_bytes(number: int) -> int:
        file = tmp_path / f"heard-{number}.wav"
        return file.stat().st_size if file.exists() else 0

    before = len(asyncio.all_tasks())
    with running_server(tiny_model) as server:
        peers = [
            asyncio.create_task(come_and_go(number, server.url, ["den"], tiny_model, tmp_path, crowd, stop))
            for number in range(2)
        ]
        async with asyncio.timeout(60):
            while min(map(heard_bytes, range(2))) < 2 * 2 * SAMPLE_RATE:  # noqa: ASYNC110 -- 2 s, of which no event tells
                await asyncio.sleep(0.05)
            stop.set()
            await asyncio.gather(*peers)
    assert (crowd.calls, crowd.active, crowd.errors) == (2, 0, [])
    assert crowd.frames > 0
    assert len(asyncio.all_tasks()) == before
    assert os.listdir(tmp_path) == ["talk.wav"]


def test_talk_has_pauses(tmp_path: Path) -> None:
    write_talk(tmp_path / "talk.wav", 20.0)
    said, rate = soundfile.read(tmp_path / "talk.wav")
    assert (said.size, rate) == (20 * SAMPLE_RATE, SAMPLE_RATE)
    speech, pause = said[: round(SAY_S * rate)], said[round((SAY_S + 1) * rate) : round((SAY_S + 5) * rate)]
    assert speech.std() > 10 * pause.std()


@pytest.mark.parametrize(
    ("memory_mb", "grown_mb", "most_mb"),
    [
        ([100.0] * 5, 0, 0),
        ([80.0, 90.0, 100.0, 100.0, 100.0, 101.0], 0.5, 5),
        ([300.0, 320.0, 340.0, 360.0, 380.0, 400.0], 40, 17.5),
    ],
    ids=["too short", "flat", "grows"],
)
def test_growth(memory_mb: list[float], grown_mb: float, most_mb: float) -> None:
    assert growth_mb(memory_mb) == (grown_mb, most_mb)


def test_what_is_wrong_is_said() -> None:
    def sample(memory_mb: float, tasks: int | None) -> Sample:
        return Sample("talk", 1.0, memory_mb, 9, 4, tasks, 8, 2)

    good = [sample(100, 3), *[sample(120, 20)] * 6, sample(110, 3)]
    bad = [sample(100, 3), *[sample(100 + 10 * minute, 20) for minute in range(6)], sample(160, 4)]
    assert Found(good, good).faults() == []
    found = Found(good, bad, Crowd(errors=["peer 1: CallError: gone"]), ["a task was never awaited"])
    assert found.faults() == [
        "clients: 1 tasks are left",
        "clients: memory grew by 20.0 MB between the second and the last third",
        "error of peer 1: CallError: gone",
        "logged: a task was never awaited",
    ]
    assert len(last_line(found)) == len(HEAD)
    assert found.to_json()["crowd"]["errors"] == ["peer 1: CallError: gone"]
