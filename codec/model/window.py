"""One window of a model that codes in windows: what such a model makes of a second of sound,
without the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """Codes [n_q, F] of one window, and what its samples are multiplied by; None if the model
    leaves volume alone."""

    codes: NDArray[np.int16]
    scale: float | None = None
