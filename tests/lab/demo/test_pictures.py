"""The pictures are drawn from any data, and what is drawn follows the data. How they look was
judged by eye."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from earshot.codec.pcm import Pcm
from earshot.lab.demo.pictures import HEARD, SPOKEN, STAGE_COLOURS, Delay, Heard, latency, spoken_heard

STAGES = ("framing", "uplink", "encode", "server", "network", "jitter", "decode", "output")


def tone(seconds: float, level: float) -> Pcm:
    return (level * np.sin(np.arange(round(24_000 * seconds)) * 0.1)).astype(np.float32)


def pixels(path: Path, colour: str) -> int:
    """Counts the pixels of this very colour."""
    image = imread(path)[..., :3]
    return int(np.count_nonzero(np.abs(image - to_rgb(colour)).max(axis=-1) < 0.02))


def delay(title: str, rows: int, correlation_ms: float | None = 40.0, **stages: float) -> Delay:
    values = {name: np.full(rows, stages.get(name, 5.0)) + np.linspace(0, 1, rows) for name in STAGES}
    marks = {"p50": 41.0, "p95": 45.0, "p99": 47.0} if rows else {}
    return Delay(title, list(np.linspace(0, 10, rows)), {k: list(v) for k, v in values.items()}, marks, correlation_ms)


def test_what_was_not_heard_is_not_drawn(tmp_path: Path) -> None:
    spoken = tone(4, 0.5)
    for name, heard in (("all", spoken), ("half", spoken * np.repeat([1, 0], spoken.size // 2)), ("none", spoken * 0)):
        both = [Heard("A to B", "figures", spoken, heard.astype(np.float32), 24_000)] * 2
        spoken_heard(both, tmp_path / f"{name}.png")
    heard = [pixels(tmp_path / f"{name}.png", HEARD) for name in ("all", "half", "none")]
    assert heard[0] > 1.7 * (heard[1] - heard[2]) > 10_000
    assert heard[1] > 10 * heard[2]
    said = [pixels(tmp_path / f"{name}.png", SPOKEN) for name in ("all", "half", "none")]
    assert said[0] == said[1] == said[2] > 10_000


@pytest.mark.parametrize("directions", [1, 2])
def test_a_column_for_each_direction(tmp_path: Path, directions: int) -> None:
    one = Heard("A to B", "6.0 kbps", tone(2, 0.5), tone(1, 0.2), 24_000)
    spoken_heard([one] * directions, tmp_path / "picture.png")
    height, width = imread(tmp_path / "picture.png").shape[:2]
    assert (width, height) == (720 * directions, 760)


@pytest.mark.parametrize("size", [1, 100, 2000])
def test_hardly_any_sound_is_drawn_too(tmp_path: Path, size: int) -> None:
    spoken_heard([Heard("A to B", "", tone(1, 0.5)[:size], np.zeros(0, np.float32), 24_000)], tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_a_stage_takes_the_area_of_its_time(tmp_path: Path) -> None:
    latency([delay("A to B", 300, jitter=10.0)], tmp_path / "short.png")
    latency([delay("A to B", 300, jitter=30.0)], tmp_path / "long.png")
    colours = dict(zip(STAGES, STAGE_COLOURS, strict=True))
    share = {
        name: pixels(tmp_path / f"{name}.png", colours["jitter"]) / pixels(tmp_path / f"{name}.png", colours["decode"])
        for name in ("short", "long")
    }
    assert share["short"] == pytest.approx(10.5 / 5.5, rel=0.15)
    assert share["long"] == pytest.approx(30.5 / 5.5, rel=0.15)
    assert all(pixels(tmp_path / "long.png", colour) > 1000 for colour in STAGE_COLOURS)


def test_what_the_sound_says_is_marked(tmp_path: Path) -> None:
    latency([delay("A to B", 300, 41.0)], tmp_path / "with.png")
    latency([delay("A to B", 300, None)], tmp_path / "without.png")
    assert pixels(tmp_path / "with.png", HEARD) != pixels(tmp_path / "without.png", HEARD)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_hardly_any_packets_are_drawn_too(tmp_path: Path, rows: int) -> None:
    latency([delay("A to B", rows), delay("B to A", 50)], tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 1000
