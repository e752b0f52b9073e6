"""What `earshot train` makes of its options."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from earshot.codec.config import ENCODEC_48KHZ, LITE_24KHZ, ModelConfig
from earshot.codec.errors import TrainingError, UsageError
from earshot.codec.model.network import Encodec
from earshot.codec.weights.load import save_native
from earshot.lab.training import command
from earshot.lab.training.command import smoke, train
from tests.conftest import VOICES

CHANGES = [
    "model.n_filters=2", "model.dimension=8", "model.codebook_size=16", "batch=2", "crop_seconds=0.1",
    "losses.mel_windows=[512]", "discriminator.windows=[512]", "precision=fp32",
]  # fmt: skip


def saved(config: ModelConfig, folder: Path) -> str:
    torch.manual_seed(1)
    network = Encodec(config)
    network.quantizer.codebooks.normal_(std=0.1)
    save_native(network, folder / "init.safetensors")
    return str(folder / "init.safetensors")


def test_trained_weights_are_not_warmed_up(tmp_path: Path) -> None:
    """The recipe's first steps are for random ones. The same command goes on in the same way, and
    so does a recipe that names the weights itself."""
    init = saved(replace(LITE_24KHZ, n_filters=2, dimension=8, codebook_size=16), tmp_path)
    for steps, going, more in ((1, init, []), (2, init, []), (3, None, [f"init={init}"])):
        told = io.StringIO()
        changes = [*CHANGES, f"schedule.steps={steps}", *more]
        run = train(
            Console(file=told), "lite", [str(VOICES)], tmp_path / "run", changes=changes, init=going, device="cpu"
        )
        assert f"step {steps} of {steps}. Listen to {tmp_path / 'run' / 'samples'}" in told.getvalue()
        weights = run.trainer.settings.losses
        assert run.trainer.step == steps
        assert run.trainer.loss_weights() == {"waveform": weights.waveform, "mel": weights.mel}


def test_a_model_of_another_rate_is_no_beginning(tmp_path: Path) -> None:
    init = saved(replace(ENCODEC_48KHZ, n_filters=2, dimension=8, codebook_size=16), tmp_path)
    with pytest.raises(UsageError, match=r"another shape than the recipe's: .*channels.*sample_rate.* differ"):
        train(Console(), "lite", [str(VOICES)], tmp_path / "run", changes=CHANGES, init=init, device="cpu")


def test_a_try_out_makes_its_steps_though_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so where they do not come to the codebooks."""
    monkeypatch.setattr(command, "SMOKE_MINUTES", 0.0)
    monkeypatch.setattr(command, "SMOKE_STEPS", 3)
    with pytest.raises(TrainingError, match="3 steps were too few to tell: codebooks come with step 61"):
        smoke(Console(file=io.StringIO()), "lite", VOICES, CHANGES, device="cpu")
