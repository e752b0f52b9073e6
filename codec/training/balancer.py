"""Loss balancer (arXiv 2210.13438, section 3.4): weights set shares of the gradient, not scales of losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Balancer:
    """Each loss's gradient at the model's output is divided by the running mean of its norm, then weighted.

    A weight is therefore the share of the step that its loss gets, however large the loss is.
    """

    def __init__(self, decay: float = 0.99) -> None:
        self.decay = decay
        self.norms: dict[str, float] = {}

    def gradient(self, losses: Mapping[str, Tensor], weights: Mapping[str, float], output: Tensor) -> Tensor:
        """What to back-propagate from `output` [B, ...]; losses that weigh nothing are left alone."""
        total = sum(weights[name] for name in losses)
        combined = torch.zeros_like(output)
        for name, loss in losses.items():
            if not weights[name]:
                continue
            (gradient,) = torch.autograd.grad(loss, output, retain_graph=True)
            norm = float(gradient.flatten(1).norm(dim=1).mean())
            self.norms[name] = self.decay * self.norms.get(name, norm) + (1 - self.decay) * norm
            combined += gradient * (weights[name] / total / max(self.norms[name], 1e-12))
        return combined
