"""Loudness of samples."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.client.core.level import SILENCE_DBFS, dbfs, rms


def test_root_mean_square() -> None:
    assert rms(np.zeros(0, np.float32)) == 0
    assert rms(np.full((2, 5), -0.5, np.float32)) == 0.5
    assert rms(np.sin(np.arange(24_000) * 2 * np.pi / 240).astype(np.float32)) == pytest.approx(np.sqrt(0.5))


@pytest.mark.parametrize(("level", "decibels"), [(1.0, 0.0), (0.1, -20.0), (1e-9, SILENCE_DBFS), (0.0, SILENCE_DBFS)])
def test_decibels(level: float, decibels: float) -> None:
    assert dbfs(level) == pytest.approx(decibels)
