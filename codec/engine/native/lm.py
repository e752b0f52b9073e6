"""The integer language model in C++: it computes the same numbers as codec/lm/integer_lm.py, some
twenty times faster."""

from __future__ import annotations

from dataclasses import asdict

from earshot.codec.engine.native import _integer_lm
from earshot.codec.errors import UsageError
from earshot.codec.lm.integer_lm import LmStreams, LmWeights, powers


class NativeLm:
    """`IntegerLm` in C++. Raises UsageError for kernels that this machine cannot run."""

    def __init__(self, weights: LmWeights, kernels: str = "auto") -> None:
        if kernels != "auto" and kernels not in _integer_lm.kernel_names():
            raise UsageError(f"there are no kernels {kernels!r} here, only {', '.join(_integer_lm.kernel_names())}")
        self.shape = weights.shape
        self._model = _integer_lm.Model(asdict(weights.shape), weights.arrays, weights.embeddings, powers(), kernels)

    @property
    def kernels(self) -> str:
        return self._model.kernels

    def streams(self, count: int = 1) -> LmStreams:
        """Returns `count` streams at their beginning."""
        return self._model.streams(count)
