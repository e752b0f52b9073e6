"""Real clients in this process that come into rooms, talk now and then, and leave again."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from earshot.client.audio.files import FileSink, FileSource, read_blocks
from earshot.client.settings import LATENCIES, CallSettings, Uplink
from earshot.client.wiring import make_call
from earshot.codec.errors import CallError
from earshot.codec.model.model import Model
from earshot.lab import VOICES
from earshot.protocol.close_codes import CloseCode

SAMPLE_RATE = 24_000
SAY_S, PAUSE_S = 3.0, 9.0
"""Each talks for so long and is silent for so long, in turn: a quarter of the time."""
STAY_S, AWAY_S = (15.0, 60.0), (0.5, 4.0)
UPLINKS: tuple[Uplink, ...] = ("codes", "codes", "pcm")


@dataclass
class Crowd:
    """What came of all calls so far."""

    calls: int = 0
    active: int = 0
    frames: int = 0
    """Frames that were heard."""
    reconnects: int = 0
    refused: int = 0
    """Calls for which the server was too busy, as it may say on a machine that is."""
    errors: list[str] = field(default_factory=list)


def write_talk(file: Path, seconds: float) -> None:
    """Writes what a peer says while it is in a room."""
    clips = [np.concatenate(list(read_blocks(VOICES / f"{name}.flac", 240))) for name in ("ada", "ben")]
    turn = round((SAY_S + PAUSE_S) * SAMPLE_RATE)
    said = np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE)) * 1e-3
    for number, start in enumerate(range(0, said.size, turn)):
        part = clips[number % 2][: round(SAY_S * SAMPLE_RATE)][: said.size - start]
        said[start : start + part.size] += part
    soundfile.write(file, said, SAMPLE_RATE)


async def come_and_go(
    number: int, url: str, rooms: Sequence[str], model: Model, folder: Path, crowd: Crowd, stop: asyncio.Event
) -> None:
    """Is one peer until `stop` is set: one call after the other, each with settings of its own. An
    error of a call is kept."""
    chance = random.Random(number)
    heard = folder / f"heard-{number}.wav"
    for turn in itertools.count():
        settings = CallSettings(
            chance.choice(rooms),
            url,
            name=f"peer {number}",
            uplink=UPLINKS[(number + turn) % len(UPLINKS)],
            kbps=chance.choice((1.5, 3.0, 6.0)),
            latency=chance.choice(LATENCIES),
            seconds=chance.uniform(*STAY_S),
        )
        call = make_call(settings, model, FileSource(folder / "talk.wav", loop=True), FileSink(heard))
        crowd.calls, crowd.active = crowd.calls + 1, crowd.active + 1
        running, stopping = asyncio.create_task(call.run()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
            call.leave()
            await running
        except CallError as error:
            if error.code == CloseCode.OVERLOADED:
                crowd.refused += 1
            else:
                crowd.errors.append(f"peer {number}: {error}")
        except Exception as error:
            crowd.errors.append(f"peer {number}: {type(error).__name__}: {error}")
        finally:
            stopping.cancel()
            crowd.active -= 1
        crowd.reconnects += call.reconnects
        crowd.frames += sum(
            heard.frames_played for each in call.connections for heard in each.receiver.stats().values()
        )
        heard.unlink(missing_ok=True)
        try:
            await asyncio.wait_for(stop.wait(), chance.uniform(*AWAY_S))
        except TimeoutError:
            continue
        return
