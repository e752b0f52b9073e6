"""The kernels beside torch's layers: the same sound, the same gradients, within what bfloat16
rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from earshot.codec.config import ModelConfig
from earshot.codec.model.network import Encodec
from earshot.codec.model.seanet import SEANet
from earshot.lab.training.fast.build import kernels, supported
from earshot.lab.training.fast.layers import FastSEANet, fits
from earshot.lab.training.initial import add_weight_norm, keep_variance

pytestmark = pytest.mark.skipif(not supported(), reason="this processor does not multiply bfloat16")

CONFIG = ModelConfig(name="small", n_filters=16, dimension=32, ratios=(5, 2), n_codebooks=2, codebook_size=16,
                     bandwidths=(48.0,), padding="zeros")  # fmt: skip
STEEP = replace(CONFIG, name="steep", widths=(16, 48, 96, 96), ratios=(1, 2, 5), n_residual_layers=2, dilation_base=1,
                lstm_layers=1)  # fmt: skip


@pytest.fixture(scope="module", params=[CONFIG, STEEP], ids=lambda config: config.name)
def network(request: pytest.FixtureRequest) -> Encodec:
    torch.manual_seed(5)
    network = Encodec(request.param)
    keep_variance(network)
    add_weight_norm(network)
    for name, parameter in network.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter, std=0.1)
    return network


def gradients(net: SEANet, run: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    x = x.clone().requires_grad_()
    net.zero_grad()
    y = run(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(7))
    (y * weights).sum().backward()
    assert x.grad is not None
    found = {name: parameter.grad for name, parameter in net.named_parameters() if parameter.grad is not None}
    return y.detach(), {"input": x.grad, **found}


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_gradients_are_those_of_torch(network: Encodec, part: str) -> None:
    """No further from float32 than torch's own bfloat16 (or twice as far), for weights, biases and
    the input; a length that is no whole number of tiles."""
    made = kernels()
    assert made is not None
    net: SEANet = getattr(network, part)
    assert fits(net)
    x = 0.3 * torch.randn(3, *((1, 730) if part == "encoder" else (32, 73)))
    exact = gradients(net, lambda x: net.step(x, None, "zeros", last=True)[0], x)

    def rounded(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return net.step(x, None, "zeros", last=True)[0].float()

    theirs = gradients(net, rounded, x)
    ours = gradients(net, FastSEANet(net, made), x)
    assert apart(ours[0], exact[0]) < max(0.01, 1.5 * apart(theirs[0], exact[0]))
    assert ours[1].keys() == exact[1].keys()
    for name, gradient in exact[1].items():
        assert apart(ours[1][name], gradient) < max(0.03, 2 * apart(theirs[1][name], gradient)), name


def test_what_does_not_fit_is_told() -> None:
    dilated = ModelConfig.from_dict({**CONFIG.to_dict(), "n_residual_layers": 2})
    assert not fits(Encodec(dilated).encoder)
    windowed = ModelConfig.from_dict({**CONFIG.to_dict(), "causal": False})
    assert not fits(Encodec(windowed).decoder)


def test_an_example_does_not_hear_another(network: Encodec) -> None:
    """Examples lie one after the other in memory: neither sound nor gradient crosses from one to
    the next."""
    made = kernels()
    assert made is not None
    fast = FastSEANet(network.decoder, made)
    x = torch.randn(2, 32, 40)
    alone = fast(x[:1])
    assert torch.equal(fast(x)[:1], alone)
    both = x.clone().requires_grad_()
    fast(both)[1].sum().backward()
    assert both.grad is not None
    assert not both.grad[0].any()
    assert both.grad[1].any()


def test_a_step_that_is_not_finite_does_not_spoil_the_next(network: Encodec) -> None:
    made = kernels()
    assert made is not None
    fast, x = FastSEANet(network.encoder, made), 0.1 * torch.randn(1, 1, 640)
    before = fast(x)
    assert not torch.isfinite(fast(torch.full_like(x, torch.nan))).any()
    assert torch.equal(fast(x), before)
