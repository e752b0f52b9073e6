"""Loss balancer (arXiv 2210.13438, section 3.4): weights set shares of the gradient, not scales of
losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def _alone(norms: Tensor) -> Tensor:
    return norms


class Balancer:
    """Each loss's gradient at the model's output is divided by the running mean of its norm, then
    weighted.

    A weight is therefore the share of the step that its loss gets, however large the loss is.
    `total_norm` is the paper's reference norm. `per_item`: the norm is the mean over the batch's
    items, as in EnCodec's own training, otherwise that of the whole batch. `mean_over_ranks` takes
    this process's norms [losses] and returns their mean over all processes, each of which has a
    batch of the same size.

    The running mean forgets with `decay` a step and divides by the weight of the steps there have
    been, so that the first steps count in full (EnCodec's `averager`)."""

    def __init__(
        self,
        decay: float = 0.999,
        total_norm: float = 1.0,
        per_item: bool = True,
        mean_over_ranks: Callable[[Tensor], Tensor] = _alone,
    ) -> None:
        self.decay, self.total_norm, self.per_item, self.mean_over_ranks = decay, total_norm, per_item, mean_over_ranks
        self.norms: dict[str, float] = {}
        """Running mean of each loss's norm."""
        self._seen: dict[str, float] = {}
        """What the steps behind each mean weigh together: 1 + decay + decay^2..., one term a
        step."""

    def state(self) -> dict[str, dict[str, float]]:
        """For a checkpoint: `load` goes on from it exactly."""
        return {"norms": dict(self.norms), "seen": dict(self._seen)}

    def load(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Raises KeyError or ValueError if it is not what `state` gave."""
        norms, seen = dict(state["norms"]), dict(state["seen"])
        if norms.keys() != seen.keys():
            raise ValueError("the balancer's norms and weights are of different losses")
        self.norms, self._seen = norms, seen

    def gradient(self, losses: Mapping[str, Tensor], weights: Mapping[str, float], output: Tensor) -> Tensor:
        """What to back-propagate from `output` [B, ...]; losses that weigh nothing are left alone.

        The losses keep their graphs. A norm that is not finite is left out of the mean, and its
        gradient is passed on: the step is the caller's to refuse, the next one is not spoilt."""
        total = sum(weights[name] for name in losses)
        names = [name for name in losses if weights[name]]
        if not names:
            return torch.zeros_like(output)
        gradients = [torch.autograd.grad(losses[name], output, retain_graph=True)[0] for name in names]
        norms = torch.stack([g.flatten(1).norm(dim=1).mean() if self.per_item else g.norm() for g in gradients])
        combined = torch.zeros_like(output)
        for name, gradient, norm in zip(names, gradients, self.mean_over_ranks(norms).tolist(), strict=True):
            mean = self._update(name, norm)
            combined += gradient * (weights[name] / total * self.total_norm / (mean + 1e-12))
        return combined

    def _update(self, name: str, norm: float) -> float:
        if math.isfinite(norm):
            seen = self.decay * self._seen.get(name, 0.0)
            self.norms[name] = (seen * self.norms.get(name, 0.0) + norm) / (seen + 1)
            self._seen[name] = seen + 1
        return self.norms.get(name, norm)
