"""Residual vector quantizer (arXiv 2210.13438, section 3.2): each codebook codes the residual that
the codebooks before it left."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from earshot.codec.config import ModelConfig


def nearest(x: Tensor, codebook: Tensor) -> Tensor:
    """Returns the index of the entry of `codebook` [K, D] that is closest to each row of `x` [N,
    D]. The terms and their order are the official ones, so that ties and rounding fall the same
    way."""
    distance = -(x.pow(2).sum(1, keepdim=True) - 2 * x @ codebook.t() + codebook.t().pow(2).sum(0, keepdim=True))
    return distance.max(dim=-1).indices


class ResidualVectorQuantizer(nn.Module):
    """Quantizer whose `codebooks` are [n_codebooks, codebook_size, dimension]."""

    codebooks: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.register_buffer("codebooks", torch.zeros(config.n_codebooks, config.codebook_size, config.dimension))

    def encode(self, latents: Tensor, n_q: int) -> Tensor:
        """Encodes latents [B, D, F] to int64 codes [B, n_q, F]."""
        batch, dimension, frames = latents.shape
        residual = latents.transpose(1, 2).reshape(-1, dimension)
        codes = []
        for codebook in self.codebooks[:n_q]:
            index = nearest(residual, codebook)
            residual = residual - F.embedding(index, codebook)
            codes.append(index.view(batch, frames))
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Decodes codes [B, n_q, F] to latents [B, D, F], for any n_q up to the number of
        codebooks."""
        latents = sum(
            (F.embedding(codes[:, q], codebook) for q, codebook in enumerate(self.codebooks[: codes.shape[1]])),
            start=torch.zeros(()),
        )
        return latents.transpose(1, 2)
