"""The balancer against EnCodec's formula, written out as a sum over all steps so far."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from earshot.lab.training.balancer import Balancer


def losses_of(output: Tensor, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses whose gradients at `output` are these."""
    return {name: (gradient * output).sum() for name, gradient in gradients.items()}


def test_it_gives_each_loss_its_share() -> None:
    balancer = Balancer(decay=0.5)
    output = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    losses = {"a": 1000 * output[:, 0].sum(), "b": 0.001 * output[:, 1].sum(), "c": output.sum()}
    gradient = balancer.gradient(losses, {"a": 3.0, "b": 1.0, "c": 0.0}, output)
    torch.testing.assert_close(gradient, torch.tensor([[0.75, 0.25], [0.75, 0.25]]))
    assert balancer.norms == pytest.approx({"a": 1000, "b": 0.001})
    balancer.gradient({"a": 4000 * output[:, 0].sum()}, {"a": 1.0}, output)
    assert balancer.norms["a"] == pytest.approx((0.5 * 1000 + 4000) / 1.5)


@pytest.mark.parametrize("per_item", [True, False])
def test_it_is_encodec_s_formula(per_item: bool) -> None:
    random = np.random.default_rng(1)
    decay, total_norm = 0.9, 2.0
    balancer = Balancer(decay, total_norm, per_item)
    history: dict[str, list[float]] = {"l1": [], "mel": [], "hinge": []}
    means: dict[str, float] = {}
    for step in range(12):
        weights = {"l1": 0.1, "mel": 1.0 + step, "hinge": 3.0 if step > 4 else 0.0}
        gradients: dict[str, npt.NDArray[np.float64]] = {
            name: random.normal(size=(3, 2, 5)) * 10.0 ** random.integers(-3, 3) for name in history
        }
        if step % 4 == 3:  # a loss may be left out of a step
            del gradients["mel"]
        expected = np.zeros((3, 2, 5))
        for name, gradient in gradients.items():
            if weights[name]:
                per_clip = np.sqrt((gradient**2).sum(axis=(1, 2)))
                history[name].append(per_clip.mean() if per_item else math.sqrt((per_clip**2).sum()))
                ages = decay ** np.arange(len(history[name]))[::-1]
                mean = (ages * history[name]).sum() / ages.sum()
                share = weights[name] / sum(weights[other] for other in gradients)
                expected += total_norm * share / (mean + 1e-12) * gradient
                means[name] = mean
        output = torch.zeros(3, 2, 5, dtype=torch.float64, requires_grad=True)
        losses = losses_of(output, {name: torch.from_numpy(g) for name, g in gradients.items()})
        actual = balancer.gradient(losses, weights, output)
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-9)
        assert balancer.norms == pytest.approx(means)


def test_the_losses_keep_their_graphs() -> None:
    weight = torch.ones(2, 3, requires_grad=True)
    output = 2 * weight
    losses = {"a": output.pow(2).sum(), "b": output.sum()}
    gradient = Balancer().gradient(losses, {"a": 1.0, "b": 1.0}, output)
    assert weight.grad is None
    output.backward(gradient)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, 2 * gradient)


def test_a_break_changes_nothing() -> None:
    def steps(balancer: Balancer, first: int, last: int) -> list[Tensor]:
        results = []
        for step in range(first, last):
            torch.manual_seed(step)
            output = torch.zeros(2, 8, requires_grad=True)
            losses = losses_of(output, {"a": torch.randn(2, 8), "b": 9 * torch.randn(2, 8)})
            results.append(balancer.gradient(losses, {"a": 1.0, "b": 2.0}, output))
        return results

    whole, resumed = Balancer(), Balancer()
    expected = steps(whole, 0, 9)
    broken = Balancer()
    steps(broken, 0, 4)
    resumed.load(broken.state())
    assert all(torch.equal(a, b) for a, b in zip(steps(resumed, 4, 9), expected[4:], strict=True))
    assert resumed.state() == whole.state()


def test_a_foreign_state_is_refused_and_changes_nothing() -> None:
    balancer = Balancer()
    balancer.load({"norms": {"a": 2.0}, "seen": {"a": 1.5}})
    for bad, error in (({"a": 2.0}, KeyError), ({"norms": {"a": 1.0}, "seen": {}}, ValueError)):
        with pytest.raises(error):
            balancer.load(bad)  # type: ignore[arg-type]
    assert balancer.state() == {"norms": {"a": 2.0}, "seen": {"a": 1.5}}


def test_ranks_share_one_norm() -> None:
    output = torch.zeros(1, 2, requires_grad=True)
    losses = losses_of(output, {"a": torch.tensor([[3.0, 4.0]]), "b": torch.tensor([[0.0, 1.0]])})
    other = torch.tensor([15.0, 3.0])
    balancer = Balancer(mean_over_ranks=lambda norms: (norms + other) / 2)
    gradient = balancer.gradient(losses, {"a": 1.0, "b": 1.0}, output)
    assert balancer.norms == pytest.approx({"a": 10, "b": 2})
    torch.testing.assert_close(gradient, torch.tensor([[0.15, 0.2 + 0.25]]))


def test_a_norm_that_is_not_finite_spoils_only_its_step() -> None:
    balancer = Balancer(decay=0.5)
    output = torch.zeros(1, 2, requires_grad=True)
    good, bad = torch.tensor([[3.0, 4.0]]), torch.tensor([[math.nan, 1.0]])
    assert balancer.gradient(losses_of(output, {"a": bad}), {"a": 1.0}, output).isnan().any()
    for gradient in (good, bad, good):
        result = balancer.gradient(losses_of(output, {"a": gradient}), {"a": 1.0}, output)
        assert bool(result.isnan().any()) == (gradient is bad)
    assert balancer.norms == pytest.approx({"a": 5})


def test_losses_that_weigh_nothing_give_nothing() -> None:
    output = torch.zeros(2, 2, requires_grad=True)
    balancer = Balancer()
    assert not balancer.gradient({"a": output.sum()}, {"a": 0.0}, output).any()
    assert not balancer.norms
