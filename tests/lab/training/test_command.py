"""What `earshot train` makes of its options."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from earshot.codec.config import ENCODEC_48KHZ, LITE_24KHZ, ModelConfig
from earshot.codec.errors import TrainingError, UsageError, WeightsError
from earshot.codec.model.network import Encodec
from earshot.codec.terminal import Terminal
from earshot.codec.weights.load import load_model, save_native
from earshot.lab.training import command
from earshot.lab.training.command import export, smoke, train
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
            Terminal(file=told), "lite", [str(VOICES)], tmp_path / "run", changes=changes, init=going, device="cpu"
        )
        assert f"step {steps} of {steps}. Listen to {tmp_path / 'run' / 'samples'}" in told.getvalue()
        weights = run.trainer.settings.losses
        assert run.trainer.step == steps
        assert run.trainer.loss_weights() == {"waveform": weights.waveform, "mel": weights.mel}


def test_a_run_that_begins_from_another_has_its_discriminator(tmp_path: Path) -> None:
    """If it is of the same shape; one that knows nothing is worth little."""
    init = saved(replace(LITE_24KHZ, n_filters=2, dimension=8, codebook_size=16), tmp_path)
    changes = [*CHANGES, "schedule.adversarial_from=0", "discriminator.update_probability=1", "discriminator.filters=2"]

    def steps_of_critic(name: str, init: str, steps: int, *more: str) -> tuple[float, str]:
        console = Terminal(file=io.StringIO())
        given = [*changes, f"schedule.steps={steps}", *more]
        run = train(console, "lite", [str(VOICES)], tmp_path / name, changes=given, init=init, device="cpu")
        return float(next(iter(run.trainer.critic.state.values()))["step"]), console.file.getvalue()

    assert steps_of_critic("first", init, 2)[0] == 2
    first = str(tmp_path / "first")
    steps, told = steps_of_critic("second", first, 1)
    assert steps == 3
    assert f"with the discriminator of {first}" in told
    steps, told = steps_of_critic("third", first, 1, "discriminator.filters=3")
    assert steps == 1
    assert "with the discriminator" not in told
    (tmp_path / "first" / "checkpoint.pt").write_bytes(b"x")
    with pytest.raises(WeightsError, match="choose another model with --init"):
        steps_of_critic("fourth", first, 1)


def test_only_a_run_has_a_discriminator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the name of a model that everyone has is not what that name means."""
    for name in ("default", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "checkpoint.pt").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert command._checkpoint_of("~/mine") == tmp_path / "mine" / "checkpoint.pt"
    assert command._checkpoint_of("mine") == Path("mine/checkpoint.pt")
    assert all(command._checkpoint_of(name) is None for name in (None, "default", "encodec_24khz", "other"))


def test_a_model_of_another_rate_is_no_beginning(tmp_path: Path) -> None:
    init = saved(replace(ENCODEC_48KHZ, n_filters=2, dimension=8, codebook_size=16), tmp_path)
    with pytest.raises(UsageError, match=r"another shape than the recipe's: .*channels.*sample_rate.* differ"):
        train(Terminal(), "lite", [str(VOICES)], tmp_path / "run", changes=CHANGES, init=init, device="cpu")


def test_a_try_out_makes_its_steps_though_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so where they do not come to the codebooks."""
    monkeypatch.setattr(command, "SMOKE_MINUTES", 0.0)
    monkeypatch.setattr(command, "SMOKE_STEPS", 3)
    with pytest.raises(TrainingError, match="3 steps were too few to tell: codebooks come with step 61"):
        smoke(Terminal(file=io.StringIO()), "lite", VOICES, CHANGES, device="cpu")


def test_a_branch_ends_with_a_rate_of_zero_and_leaves_the_trunk_alone(tmp_path: Path) -> None:
    """Broken off and gone on with by the same command; what it leads to is exported at half the
    size."""
    init = saved(replace(LITE_24KHZ, n_filters=2, dimension=8, codebook_size=16), tmp_path)
    trunk, branch = tmp_path / "trunk", tmp_path / "branch"
    console = Terminal(file=io.StringIO())
    changes = [*CHANGES, "schedule.decay=0", "schedule.rise=0"]
    train(console, "lite", [str(VOICES)], trunk, changes=[*changes, "schedule.steps=2"], init=init, device="cpu")
    before = (trunk / "checkpoint.pt").read_bytes()
    more = [*changes, "schedule.steps=1000"]
    for minutes, end in ((0.0, 3), (None, 6)):
        run = train(
            console, "lite", [str(VOICES)], branch, changes=more, minutes=minutes, device="cpu", branch=trunk, steps=4
        )
        assert run.trainer.step == end
    run.trainer.step = 2
    assert run.trainer.decayed() == 1
    run.trainer.step = 4
    assert run.trainer.decayed() == pytest.approx(0.5)
    run.trainer.step = 6
    assert run.trainer.decayed() == 0
    assert (trunk / "checkpoint.pt").read_bytes() == before
    export(branch, tmp_path / "shipped.safetensors")
    sizes = [file.stat().st_size for file in (branch / "model.safetensors", tmp_path / "shipped.safetensors")]
    assert sizes[1] < 0.7 * sizes[0]
    ours, theirs = (load_model(str(name)).network for name in (branch, tmp_path / "shipped.safetensors"))
    for key, tensor in ours.state_dict().items():
        torch.testing.assert_close(theirs.state_dict()[key], tensor, rtol=1e-3, atol=1e-6)


def test_branches_that_cannot_be(tmp_path: Path) -> None:
    def begin(out: Path, trunk: Path, steps: int) -> None:
        train(Terminal(), "lite", [str(VOICES)], out, changes=CHANGES, device="cpu", branch=trunk, steps=steps)

    with pytest.raises(UsageError, match="say with --steps"):
        begin(tmp_path / "out", tmp_path, 0)
    with pytest.raises(UsageError, match="holds no run to go on from"):
        begin(tmp_path / "out", tmp_path, 3)
    (tmp_path / "checkpoint.pt").write_bytes(b"x")
    with pytest.raises(UsageError, match="holds another run"):
        begin(tmp_path, tmp_path, 3)
    with pytest.raises(UsageError, match=r"ends in \.safetensors"):
        export(tmp_path, tmp_path / "model.pt")


def test_an_export_may_have_another_postfilter(tmp_path: Path) -> None:
    init = Path(saved(replace(LITE_24KHZ, n_filters=2, dimension=8, codebook_size=16), tmp_path))
    export(init, tmp_path / "sharper.safetensors", (0.5, 0.1))
    before, after = load_model(str(init)).network, load_model(str(tmp_path / "sharper.safetensors")).network
    assert (before.config.postfilter, after.config.postfilter) == (None, (0.5, 0.1))
    for key, tensor in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[key], tensor.half().float())
