"""How codebooks learn: k-means start, exponential moving averages, dead codes replaced (paper,
section 3.2).

Unlike the `encodec` package (its issue 25), the residual is detached before every codebook, so that
each stage's commitment pulls the encoder towards that stage alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from earshot.codec.model.quantizer import ResidualVectorQuantizer, nearest
from earshot.lab.training.ranks import Ranks


class CodebookLearner(nn.Module):
    """Trains the codebooks of `quantizer` in place."""

    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        quantizer: ResidualVectorQuantizer,
        decay: float = 0.99,
        dead_below: float = 0.02,
        ranks: Ranks | None = None,
    ) -> None:
        super().__init__()
        self.ranks = ranks or Ranks()
        self.codebooks = quantizer.codebooks
        self.decay = decay
        self.dead_below = dead_below
        self.register_buffer("counts", torch.ones(self.codebooks.shape[:2]))
        self.register_buffer("sums", self.codebooks.clone())

    @torch.no_grad()
    def start(self, latents: Tensor, iterations: int = 8) -> None:
        """Fills all codebooks by k-means, stage by stage, from [N, D] latents; of several
        processes, the first's."""
        residual = latents
        for q, codebook in enumerate(self.codebooks):
            size = codebook.shape[0]
            picked = torch.randint(residual.shape[0], (size,))
            centres = residual[picked] + 1e-3 * residual.std() * torch.randn(size, residual.shape[1]).to(residual)
            for _ in range(iterations):
                counts, sums = self._assign(residual, nearest(residual, centres), size)
                centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), centres)
            index = nearest(residual, centres)
            codebook.copy_(centres)
            self.counts[q] = torch.bincount(index, minlength=size).clamp(min=1)
            self.sums[q] = centres * self.counts[q][:, None]
            residual = residual - centres[index]
        self.ranks.same([self.codebooks, self.counts, self.sums])

    @staticmethod
    def _assign(x: Tensor, index: Tensor, size: int) -> tuple[Tensor, Tensor]:
        counts = torch.bincount(index, minlength=size).to(x.dtype)
        return counts, x.new_zeros(size, x.shape[1]).index_add_(0, index, x)

    def forward(self, latents: Tensor, n_q: int) -> tuple[Tensor, Tensor, Tensor]:
        """[B, D, F] -> quantized latents (straight-through), commitment loss, codes [n_q, B * F];
        learns on the way."""
        batch, dimension, frames = latents.shape
        flat = latents.transpose(1, 2).reshape(-1, dimension)
        residual, quantized = flat, torch.zeros_like(flat)
        commitment, codes = flat.new_zeros(()), []
        for q in range(n_q):
            target = residual.detach()
            index = nearest(target, self.codebooks[q])
            entry = F.embedding(index, self.codebooks[q])
            commitment = commitment + F.mse_loss(residual, entry)
            if self.training:
                self._learn(q, target, index)
            residual = residual - entry
            quantized = quantized + entry
            codes.append(index)
        through = flat + (quantized - flat).detach()
        return through.view(batch, frames, dimension).transpose(1, 2), commitment / n_q, torch.stack(codes)

    @torch.no_grad()
    def _learn(self, q: int, x: Tensor, index: Tensor) -> None:
        size = self.codebooks.shape[1]
        counts, sums = map(self.ranks.sum, self._assign(x, index, size))
        usable = torch.isfinite(sums).all()  # of any process: one bad batch would stay in the means for good
        counts, sums = torch.where(usable, counts, self.counts[q]), torch.where(usable, sums, self.sums[q])
        self.counts[q].lerp_(counts, 1 - self.decay)
        self.sums[q].lerp_(sums, 1 - self.decay)
        dead = self.counts[q] < self.dead_below
        if bool(dead.any()):
            picked = x[torch.randint(x.shape[0], (int(dead.sum()),))]
            self.sums[q][dead] = picked
            self.counts[q][dead] = 1.0
            self.ranks.same([self.sums[q], self.counts[q]])
        self.codebooks[q] = self.sums[q] / self.counts[q][:, None]
