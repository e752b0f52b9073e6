"""The official 48 kHz model with random weights, once for each file of tests that needs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from earshot.codec.pcm import Pcm
from tests.stereo import Stereo, load_stereo, make_music


@pytest.fixture(scope="module")
def music(speech: Pcm) -> Pcm:
    return make_music(speech)


@pytest.fixture(scope="module", params=[4, 32], ids=["small", "full size"])
def stereo(
    request: pytest.FixtureRequest,
    encodec: ModuleType,
    save_official: Callable[[Any, Path], Path],
    music: Pcm,
    tmp_path_factory: pytest.TempPathFactory,
) -> Stereo:
    return load_stereo(encodec, request.param, music, save_official, tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def small(encodec: ModuleType, save_official: Any, music: Pcm, tmp_path_factory: pytest.TempPathFactory) -> Stereo:
    return load_stereo(encodec, 4, music, save_official, tmp_path_factory.mktemp("official"))
