"""The fade after silence, however the sound is cut."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.client.core.fade import FADE_S, FadeIn


@pytest.mark.parametrize("shape", [(), (2,)])
@pytest.mark.parametrize("block", [1, 7, 120, 500])
def test_sound_rises_evenly_however_it_is_cut(shape: tuple[int, ...], block: int) -> None:
    fade = FadeIn(24_000)
    assert fade.length == FADE_S * 24_000 == 120
    sound = np.ones((*shape, 500), np.float32)
    fade.begin()
    for at in range(0, 500, block):
        fade.apply(sound[..., at : at + block])
    expected = np.minimum((np.arange(500, dtype=np.float32) + 1) / np.float32(120), 1)
    np.testing.assert_array_equal(sound, np.broadcast_to(expected, sound.shape))


def test_without_a_beginning_nothing_changes() -> None:
    sound = np.ones(10, np.float32)
    FadeIn(24_000).apply(sound)
    np.testing.assert_array_equal(sound, 1)
