"""Codebooks that learn: k-means, moving averages, dead codes, the residual detached."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from earshot.codec.config import ModelConfig
from earshot.codec.model.quantizer import ResidualVectorQuantizer
from earshot.lab.training.codebooks import CodebookLearner

CONFIG = ModelConfig(name="tiny", n_filters=2, dimension=8, n_codebooks=4, codebook_size=16, bandwidths=(0.6, 1.2))


def clusters(count: int) -> Tensor:
    """[N, 8] points close around `count` far corners."""
    corners = 10 * torch.randn(count, 8)
    return (corners[:, None] + 0.01 * torch.randn(count, 40, 8)).reshape(-1, 8)


def test_k_means_start_finds_what_is_there() -> None:
    torch.manual_seed(4)
    quantizer = ResidualVectorQuantizer(CONFIG)
    points = clusters(5)
    CodebookLearner(quantizer).start(points, iterations=20)
    rest = points[:, :, None] - quantizer.decode(quantizer.encode(points[:, :, None], 4))
    assert float(rest.pow(2).mean()) < 1e-3 * float(points.pow(2).mean())


def test_codebooks_follow_by_moving_averages_and_dead_codes_are_replaced() -> None:
    torch.manual_seed(5)
    quantizer = ResidualVectorQuantizer(CONFIG)
    quantizer.codebooks[0] = 1000.0  # never chosen
    quantizer.codebooks[0, 0], quantizer.codebooks[0, 1] = 0.0, 5.0
    learner = CodebookLearner(quantizer, decay=0.9, dead_below=0.5)
    x = torch.cat([torch.full((6, 8), 0.5), torch.full((2, 8), 5.0)])
    learner.train()
    _, commitment, codes = learner(x.t()[None], n_q=1)
    assert codes[0].tolist() == [0] * 6 + [1] * 2
    assert float(commitment) == pytest.approx(0.5**2 * 6 / 8)
    # counts 0.9 * 1 + 0.1 * 6, sums 0.9 * 0 + 0.1 * 6 * 0.5
    torch.testing.assert_close(quantizer.codebooks[0, 0], torch.full((8,), 0.3 / 1.5))
    torch.testing.assert_close(quantizer.codebooks[0, 1], torch.full((8,), 5.0))
    for _ in range(7):  # 0.9^7 < 0.5: the codes nobody chose start again from what comes in
        learner(x.t()[None], n_q=1)
    assert float(quantizer.codebooks[0].max()) < 10
    before = quantizer.codebooks.clone()
    learner.eval()
    learner(x.t()[None], n_q=1)
    assert torch.equal(quantizer.codebooks, before)


def test_gradients_pass_straight_through() -> None:
    torch.manual_seed(6)
    learner = CodebookLearner(ResidualVectorQuantizer(CONFIG))
    latents = torch.randn(2, 8, 3, requires_grad=True)
    quantized, commitment, _ = learner.eval()(latents, n_q=2)
    assert quantized.shape == latents.shape
    (gradient,) = torch.autograd.grad(quantized.sum(), latents, retain_graph=True)
    assert torch.equal(gradient, torch.ones_like(latents))
    (gradient,) = torch.autograd.grad(commitment, latents)
    assert float(gradient.abs().max()) > 0


def test_each_stage_pulls_towards_its_own_entry_alone() -> None:
    """The commitment of a stage is to its entry with the stages before held still (not so in the
    encodec package, issue 25): its gradient is the sum of each stage's residual."""
    torch.manual_seed(7)
    quantizer = ResidualVectorQuantizer(CONFIG)
    quantizer.codebooks.copy_(torch.randn_like(quantizer.codebooks))
    learner = CodebookLearner(quantizer).eval()
    latents = torch.randn(1, 8, 5, requires_grad=True)
    _, commitment, codes = learner(latents, n_q=3)
    (gradient,) = torch.autograd.grad(commitment, latents)
    residual, expected = latents.detach(), torch.zeros_like(latents)
    for q in range(3):
        residual = residual - quantizer.codebooks[q][codes[q]].t()[None]
        expected += 2 * residual / residual.numel() / 3
    torch.testing.assert_close(gradient, expected)
