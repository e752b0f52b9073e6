"""The network behind the integer language model (codec/lm/integer_lm.py), in floating point, as it
is trained.

The codebooks are taken in groups, one for each rate of the codec. A tower of causal convolutions
for each group looks at the codes of its own group and of coarser ones, up to the frame before and,
of the coarser groups, this frame too; never at finer ones. A head for each codebook adds what is
known of this frame so far. So a code depends on nothing that a listener at its rate does not get.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from earshot.codec.lm.integer_lm import LmShape


class Block(nn.Module):
    """x + narrow(relu(wide([x(t - dilation), x(t)])))"""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.look = nn.Linear(2 * channels, channels)
        self.add = nn.Linear(channels, channels)
        nn.init.zeros_(self.add.weight)
        nn.init.zeros_(self.add.bias)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, C]
        before = F.pad(x, (0, 0, self.dilation, 0))[:, : x.shape[1]]
        y: Tensor = self.add(F.relu(self.look(torch.cat([before, x], dim=2))))
        return x + y


class Tower(nn.Module):
    def __init__(self, inputs: int, channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, channels)
        self.blocks = nn.ModuleList(Block(channels, dilation) for dilation in dilations)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return x


class Head(nn.Module):
    """Logits of one codebook from its tower and from the codes of this frame before it."""

    def __init__(self, shape: LmShape) -> None:
        super().__init__()
        self.mix = nn.Linear(shape.channels + shape.embed, shape.hidden)
        self.narrow = nn.Linear(shape.hidden, shape.embed)
        self.out = nn.Linear(shape.embed, shape.card)

    def forward(self, tower: Tensor, known: Tensor) -> Tensor:
        logits: Tensor = self.out(self.narrow(F.relu(self.mix(torch.cat([tower, known], dim=2)))))
        return logits


class LmNetwork(nn.Module):
    def __init__(self, shape: LmShape) -> None:
        super().__init__()
        self.shape = shape
        self.tables = nn.Parameter(torch.randn(shape.n_q, shape.card, shape.embed))
        self.towers = nn.ModuleList(
            Tower(shape.inputs(group), shape.channels, dilations) for group, dilations in enumerate(shape.dilations)
        )
        self.heads = nn.ModuleList(Head(shape) for _ in range(shape.n_q))

    @torch.no_grad()
    def start_from(self, codebooks: Tensor) -> None:
        """The codec's codebooks [n_q, card, dimension] as tables and as what the heads compare
        with: what the codes mean is known from the first step. Codebooks of another dimension are
        projected at random."""
        books = codebooks[: self.shape.n_q].float()
        if books.shape[2] != self.shape.embed:
            books = books @ torch.randn(books.shape[2], self.shape.embed) / books.shape[2] ** 0.5
        self.tables.copy_(books / books[0].pow(2).mean().sqrt().clamp(min=1e-6))
        outs = [module.out for module in self.heads if isinstance(module, Head)]
        for out, book in zip(outs, books, strict=True):
            out.weight.copy_(book / book.pow(2).mean().sqrt().clamp(min=1e-6) / self.shape.embed**0.5)
            out.bias.zero_()

    def forward(self, codes: Tensor, drop: float = 0.0) -> Tensor:
        """int64 codes [B, n_q, T] of streams from their start -> the bits that each takes [B, n_q,
        T]."""
        each = torch.stack([F.embedding(codes[:, q], table) for q, table in enumerate(self.tables)])  # [n_q, B, T, E]
        sums = torch.cat([torch.zeros_like(each[:1]), each.cumsum(0)])  # of the codebooks before each
        bits: list[Tensor] = []
        tower_out: Tensor | None = None
        first = 0
        for tower, last in zip(self.towers, self.shape.groups, strict=True):
            past = F.pad(sums[last] - sums[first], (0, 0, 1, 0))[:, :-1]
            parts = [past] if tower_out is None else [past, sums[first], tower_out]
            tower_out = F.dropout(tower(torch.cat(parts, dim=2)), drop, self.training)
            for q in range(first, last):
                logits = self.heads[q](tower_out, sums[q])
                bits.append(F.cross_entropy(logits.flatten(0, 1).float(), codes[:, q].flatten(), reduction="none"))
            first = last
        return torch.stack(bits).view(self.shape.n_q, *codes[:, 0].shape).transpose(0, 1) / 0.6931471805599453

    def arrays(self) -> Mapping[str, Tensor]:
        return {key: value.detach() for key, value in self.state_dict().items()}
