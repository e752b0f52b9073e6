"""The discriminator on kernels beside torch's: its three losses and their gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from earshot.lab.training.discriminator import Discriminator, STFTDiscriminator
from earshot.lab.training.fast.build import kernels, supported
from earshot.lab.training.fast.judge import FastScale, judge_fits
from earshot.lab.training.losses import discriminator_hinge, feature_matching, generator_hinge

pytestmark = pytest.mark.skipif(not supported(), reason="this processor does not multiply bfloat16")

Losses = tuple[Tensor, Tensor, Tensor]


def gradients(run: Callable[[], Losses], heard: Tensor, scale: nn.Module) -> tuple[list[float], list[list[Tensor]]]:
    """Of the first two losses to what was heard, of the third to weights and biases."""
    losses = run()
    to_heard = [[torch.autograd.grad(loss, heard, retain_graph=True)[0]] for loss in losses[:2]]
    names = [(name, p) for name, p in scale.named_parameters() if not name.startswith("last.bias")]
    to_weights = list(torch.autograd.grad(losses[2], [p for _, p in names]))
    return [float(loss.detach()) for loss in losses], [*to_heard, to_weights]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("samples", [1000, 1024])
def test_losses_and_gradients_are_those_of_torch(samples: int) -> None:
    torch.manual_seed(2)
    scale = STFTDiscriminator(1, 16, 128)
    for name, parameter in scale.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3)  # logits on both sides of what the hinge turns at
    with torch.no_grad():
        scale.last.parametrizations.weight.original0.mul_(30)  # type: ignore[union-attr, index]
    spoken = torch.randn(2, 1, samples)
    heard = (spoken + 0.5 * torch.randn(2, 1, samples)).requires_grad_()
    made = kernels()
    assert made is not None
    fast = FastScale(scale, made)

    def theirs(bf16: bool) -> Losses:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            (real, a), (fake, b) = scale(spoken), scale(heard)
        return generator_hinge([fake]), feature_matching([a], [b]), discriminator_hinge([real], [fake])

    exact = gradients(lambda: theirs(False), heard, scale)
    rounded = gradients(lambda: theirs(True), heard, scale)
    ours = gradients(lambda: fast(spoken, heard, True), heard, scale)
    assert ours[0] == pytest.approx(exact[0], rel=0.01)
    for mine, other, true in zip(ours[1], rounded[1], exact[1], strict=True):
        for a, b, c in zip(mine, other, true, strict=True):
            assert float((a - c).norm()) < max(0.03 * float(c.norm()), 1.5 * float((b - c).norm()))


def test_without_a_turn_it_learns_nothing() -> None:
    made = kernels()
    assert made is not None
    scale = STFTDiscriminator(1, 16, 64)
    spoken = torch.randn(1, 1, 640)
    _, _, critic = FastScale(scale, made)(spoken, spoken.clone().requires_grad_(), False)
    assert float(critic.detach()) == 0
    found = torch.autograd.grad(critic, list(scale.parameters()), allow_unused=True)
    assert all(gradient is None or not gradient.any() for gradient in found)


def test_what_does_not_fit_is_told() -> None:
    assert judge_fits(Discriminator(1, 16, (64,)))
    assert not judge_fits(Discriminator(2, 16, (64,)))
    assert not judge_fits(Discriminator(1, 8, (64,)))
