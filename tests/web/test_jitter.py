"""The jitter buffer of the page beside that of the terminal: the same arrivals, the same sound."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from earshot.client.core.replay import ArrivalRecorder, Voice, parse_trace, replay
from tests.web.node import run_js

HOP, RATE = 320, 24_000
FRAME_US = HOP * 1e6 / RATE
RECORDED = sorted((Path(__file__).parents[1] / "data" / "arrivals").glob("*"))
BLOCKS = (128, 160)


class Forked(Voice):
    """The made voice as a decoder that can be copied, so that what does not come is concealed."""

    def copy(self) -> Forked:
        return self


def written(delay_us: Any, frames: int = 1, seconds: float = 9.0, lost: frozenset[int] = frozenset()) -> str:
    """A trace whose packets come `delay_us(place)` after they were spoken, in order."""
    lines: list[str] = []
    recorder, last = ArrivalRecorder(RATE, HOP, lines.append), 0
    for first in range(0, int(seconds * 75), frames):
        last = max(last, round((first + frames) * FRAME_US + delay_us(first * FRAME_US / 1e6)))
        if first not in lost:
            recorder.packet(
                1, (65_000 + first) % (1 << 16), ((1 << 32) - 9_600 + first * HOP) % (1 << 32), frames, last
            )
    return "".join(lines)


def stall(at_s: float, lasts_s: float, jitter_us: float) -> Any:
    rng = random.Random(1)

    def delay(t: float) -> float:
        late = max(at_s + lasts_s - t, 0) * 1e6 if at_s <= t < at_s + lasts_s else 0
        return 20_000 + abs(rng.gauss(0, jitter_us)) + late

    return delay


def muted() -> str:
    lines: list[str] = []
    recorder = ArrivalRecorder(RATE, HOP, lines.append)
    for i in range(150):
        recorder.packet(1, i, i * HOP, 1, round((i + 1) * FRAME_US))
    recorder.told(1, True, 2_010_000)
    recorder.told(1, False, 5_000_000)
    for i in range(75):
        recorder.packet(1, 150 + i, (375 + i) * HOP, 1, 5_010_000 + round(i * FRAME_US))
    return "".join(lines)


TRACES: dict[str, str] = {
    "a clean line": written(stall(99, 0, 500)),
    "jitter": written(stall(99, 0, 12_000)),
    "a stall": written(stall(5, 0.25, 2_000)),
    "a long stall, packets of three": written(stall(5, 0.6, 2_000), 3),
    "frequent stalls": written(lambda t: 20_000 + (180_000 - (t % 1) * 1e6 if t % 1 < 0.18 else 0)),
    "a line that becomes slower": written(lambda t: 20_000 + (80_000 if t > 5 else 0)),
    "a slow clock": written(lambda t: 20_000 + 400 * t),
    "a fast clock": written(lambda t: 30_000 - 400 * t),
    "lost packets": written(stall(99, 0, 3_000), lost=frozenset({100, 101, 200, 207, 350, 351, 352, 353})),
    "muted": muted(),
    **{file.stem: file.read_text() for file in RECORDED},
}


@pytest.mark.parametrize("name", TRACES)
def test_both_play_the_same(name: str) -> None:
    trace = parse_trace(TRACES[name])
    asked = [{"trace": TRACES[name], "source": source, "block": n} for source in trace.sources[:2] for n in BLOCKS]
    for case, told in zip(asked, run_js("replay.mjs", data=asked), strict=True):
        heard = replay(trace, int(str(case["source"])), int(str(case["block"])), Forked(RATE, HOP))
        played = heard.playout
        assert (told["underruns"], told["missing"], told["late"], told["duplicates"]) == (
            played.underruns,
            played.jitter.missing,
            played.jitter.late,
            played.jitter.duplicates,
        )
        assert (told["stretched"], told["compressed"], told["silent"], told["played"]) == (
            played.samples_stretched,
            played.samples_compressed,
            played.samples_silent,
            played.samples_played,
        )
        assert told["underrun_us"] == pytest.approx(played.underrun_us, abs=1)
        _same(told["delays"], heard.delays_us, 0.01)
        _same(told["places"], [float(block[0]) for block in heard.positions], 1e-3)
        levels = [float(np.sqrt(np.mean(np.square(block, dtype=np.float64)))) for block in heard.pcm]
        _same(told["levels"], levels, 1e-5)


def _same(told: list[float | None], heard: list[float], within: float) -> None:
    own = np.array([np.nan if value is None else value for value in told])
    np.testing.assert_allclose(own, heard, atol=within, rtol=0)
