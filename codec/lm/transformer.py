"""The language model of the paper (arXiv 2210.13438, section 3.5): a Transformer that predicts,
before each frame, the probability of each code of each codebook.

All codebooks of a frame are predicted together from the frames before it. Every operation and its
order are those of the `encodec` package, so that both compute the same bits on one machine. On
another machine the bits may differ: codec/lm/integer_lm.py is a model whose bits do not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from earshot.codec.errors import UsageError
from earshot.codec.lm.arithmetic import Cdf, quantized_cdf

DIM, LAYERS, HEADS, HIDDEN, CONTEXT_SECONDS = 200, 5, 8, 800, 3.5
MAX_PERIOD = 10_000.0


@dataclass(frozen=True)
class LmState:
    """State of a stream: the inputs of each layer, [B, 1..context, DIM], and the number of frames
    so far."""

    layers: tuple[Tensor, ...]
    frames: int


class _Layer(nn.Module):
    """Attention to earlier frames, then a feed-forward layer; each is added to its input and
    normalised afterwards (post-norm)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, HEADS, batch_first=True)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, past: Tensor, context: int) -> Tensor:
        """Steps over x [B, 1, dim], given its past [B, H, dim]."""
        keys = torch.cat([past, x], dim=1)
        too_old = torch.arange(past.shape[1], -1, -1)[None] > context
        attended = self.self_attn(x, keys, keys, attn_mask=too_old, need_weights=False)[0]
        x = self.norm1(x + attended)
        y: Tensor = self.norm2(x + self.linear2(F.gelu(self.linear1(x))))
        return y


class _Transformer(nn.Module):
    def __init__(self, dim: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(_Layer(dim, hidden) for _ in range(layers))


class LanguageModel(nn.Module):
    """The Transformer. Its modules are named as in the official checkpoints. `context` is how many
    frames a layer looks back."""

    def __init__(
        self, n_q: int, card: int, context: int, dim: int = DIM, hidden: int = HIDDEN, layers: int = LAYERS
    ) -> None:
        super().__init__()
        self.n_q, self.card, self.context = n_q, card, context
        self.transformer = _Transformer(dim, hidden, layers)
        self.emb = nn.ModuleList(nn.Embedding(card + 1, dim) for _ in range(n_q))
        self.linears = nn.ModuleList(nn.Linear(dim, card) for _ in range(n_q))

    @torch.inference_mode()
    def step(self, codes: Tensor, state: LmState | None) -> tuple[Tensor, LmState]:
        """Predicts the next frame. `codes` are int64 codes [B, k] of the frame before; their values
        do not matter at the start, where `state` is None. Returns float32 probabilities [B, k,
        card] of the codes of the next frame, and the next state.

        Raises UsageError for more codebooks than the model has."""
        count = codes.shape[1]
        if not 1 <= count <= self.n_q:
            raise UsageError(f"this language model has 1..{self.n_q} codebooks, not {count}")
        indices = (torch.zeros_like(codes) if state is None else 1 + codes)[..., None]
        x: Tensor = sum((self.emb[k](indices[:, k]) for k in range(count)), start=torch.zeros(()))
        if state is None:
            state = LmState(tuple(torch.zeros_like(x) for _ in self.transformer.layers), 0)
        x = self.transformer.norm_in(x)
        x = x + _place(state.frames, x.shape[2])
        kept = []
        for layer, past in zip(self.transformer.layers, state.layers, strict=True):
            kept.append(torch.cat([past, x], dim=1)[:, -self.context :])
            x = layer(x, past, self.context)
        logits = torch.stack([self.linears[k](x) for k in range(count)], dim=1).permute(0, 3, 1, 2)
        return torch.softmax(logits, dim=1)[..., 0].transpose(1, 2), LmState(tuple(kept), state.frames + 1)


def context_frames(frame_rate: float) -> int:
    """Returns how many frames the official models look back: 3.5 s."""
    return int(CONTEXT_SECONDS * math.ceil(frame_rate))


def _place(frame: int, dim: int) -> Tensor:
    """Returns the positional encoding [1, 1, dim] of a frame: cosines and sines of its number."""
    at = torch.arange(dim // 2).view(1, 1, -1)
    phase = torch.tensor([[[frame]]]) / (MAX_PERIOD ** (at / (dim // 2 - 1)))
    return torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)


class LmPredictor:
    """A stream of one model for `.ecdc` files (`Predictor` in codec/ecdc/format.py)."""

    def __init__(self, lm: LanguageModel, n_q: int) -> None:
        self._lm, self._n_q = lm, n_q
        self.reset()

    def reset(self) -> None:
        self._state: LmState | None = None
        self._codes = torch.zeros(1, self._n_q, dtype=torch.int64)

    def cdfs(self) -> list[Cdf]:
        probabilities, self._state = self._lm.step(self._codes, self._state)
        return [quantized_cdf(row) for row in probabilities[0].numpy()]

    def push(self, codes: NDArray[np.integer]) -> None:
        self._codes = torch.from_numpy(codes.astype(np.int64))[None]
