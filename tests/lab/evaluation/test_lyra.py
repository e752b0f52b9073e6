"""Lyra through a folder: what runs it is loaded from there, and may fail in its own way."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from earshot.codec.errors import AudioError
from earshot.codec.pcm import Pcm
from earshot.lab.evaluation.lyra import RUNNER, Lyra
from earshot.lab.evaluation.systems import system_name


def made(folder: Path, run: str) -> Path:
    """Writes a runner with this body into the folder, which it returns."""
    (folder / RUNNER).write_text(
        "import numpy as np\nclass Lyra:\n    def __init__(self, folder):\n        self.folder = folder\n"
        f"    def run(self, pcm, kbps):\n        {run}\n"
    )
    return folder


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_what_is_heard_has_its_length_and_place_at_any_rate(tmp_path: Path, speech: Pcm, rate: int) -> None:
    clip = speech[: rate + 37]
    peer = Lyra(made(tmp_path, "return pcm * np.float32(kbps / 6)"), 3.0)
    assert system_name(peer) == "lyra-3kbps"
    heard = copy.deepcopy(peer).process(clip, rate)
    assert heard.shape == clip.shape
    assert heard.dtype == np.float32
    assert np.sqrt(np.mean((heard - clip / 2) ** 2)) < 0.05 * np.sqrt(np.mean(clip**2))


def test_a_runner_that_gives_too_little_is_filled_up(tmp_path: Path) -> None:
    heard = Lyra(made(tmp_path, "return pcm[:-100]"), 6.0).process(np.ones(1000, np.float32), 24_000)
    assert heard.shape == (1000,)
    assert not heard[-100:].any()
    assert Lyra(tmp_path, 6.0).process(np.zeros(0, np.float32), 24_000).size == 0


@pytest.mark.parametrize("run", ["raise ValueError('no model')", "return 1 / 0"])
def test_what_fails_inside_is_an_error_of_that_system(tmp_path: Path, run: str) -> None:
    with pytest.raises(AudioError, match=r"Lyra at 6 kbps: .*(no model|zero)"):
        Lyra(made(tmp_path, run), 6.0).process(np.ones(1000, np.float32), 24_000)
