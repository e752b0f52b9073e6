"""The step: its schedule, its losses, what it teaches, and a break that changes nothing."""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from earshot import codec
from earshot.codec.config import ModelConfig
from earshot.codec.errors import TrainingError, UsageError, WeightsError
from earshot.codec.model.network import Encodec
from earshot.codec.pcm import Pcm
from earshot.codec.terminal import Terminal
from earshot.lab.training.data import DataSettings, TrainingData
from earshot.lab.training.fast.build import supported
from earshot.lab.training.run import Run
from earshot.lab.training.settings import TrainSettings, check_recipe
from earshot.lab.training.sources import Source
from earshot.lab.training.trainer import Trainer

CONFIG: dict[str, Any] = {
    "name": "tiny",
    "n_filters": 2,
    "dimension": 8,
    "n_codebooks": 4,
    "codebook_size": 16,
    "bandwidths": [0.6, 1.2],
    "padding": "zeros",
}
RECIPE: dict[str, Any] = {
    "model": CONFIG,
    "batch": 2,
    "crop_seconds": 0.1,
    "schedule": {"steps": 9, "rise": 3, "decay": 4, "unquantized": 2, "turn": 2, "adversarial_from": 4},
    "optimiser": {"learning_rate": 1e-3, "average": 0.9},
    "losses": {"mel_windows": [512, 128]},
    "discriminator": {"filters": 2, "windows": [512, 256]},
    "seed": 3,
}


def recipe(**changes: Any) -> TrainSettings:
    """RECIPE with tables updated and other values replaced."""
    values = dict(RECIPE)
    for key, change in changes.items():
        values[key] = {**values[key], **change} if isinstance(values.get(key), dict) else change
    return check_recipe(values, "test")


@pytest.fixture
def voices(tmp_path: Path, speech: Pcm) -> Path:
    """A folder of audio: two files of speech, of which one at another rate and in stereo."""
    folder = tmp_path / "voices"
    folder.mkdir()
    soundfile.write(folder / "one.wav", speech[:48_000], 24_000)
    soundfile.write(folder / "two.flac", np.stack([speech[48_000:80_000]] * 2, axis=1), 16_000)
    (folder / "notes.txt").write_text("not audio")
    return folder


Make = Callable[..., Trainer]


@pytest.fixture
def trainer(voices: Path) -> Make:
    def make(settings: TrainSettings | None = None, init: Encodec | None = None) -> Trainer:
        settings = settings or recipe()
        model = settings.model
        data = TrainingData(
            DataSettings(sources=(Source(str(voices)),)), model.sample_rate, model.channels, settings.crop, False
        )
        return Trainer(settings, data, init)

    return make


def batch(run: Trainer) -> Tensor:
    return torch.from_numpy(run.data.batch(run.settings.batch, run.settings.seed, run.step))


def steps(run: Trainer, to: int) -> list[dict[str, float]]:
    return [run.advance(batch(run)) for _ in range(run.step, to)]


def silent() -> Terminal:
    return Terminal(file=io.StringIO())


def test_a_break_changes_nothing(trainer: Make, tmp_path: Path) -> None:
    """Broken off in the warm-up, after the codebooks have started and with the discriminator at
    work: weights, means and codebooks are equal to the last bit."""
    whole = trainer()
    losses = steps(whole, 9)
    assert losses[0]["used_first"] == 0
    assert losses[-1]["used_first"] > 1
    assert [index for index, row in enumerate(losses) if "adversarial" in row] == [4, 5, 6, 7, 8]
    assert 0 < sum("critic" in row for row in losses) < 5, "choose another seed: the critic learns in some steps only"
    broken = trainer()
    for stop in (1, 5, 7, 9):
        begun = broken.step
        assert steps(broken, stop) == losses[begun:stop]
        Run(broken, tmp_path / "run").save()
        broken = trainer()
        Run(broken, tmp_path / "run").resume()
    assert broken.step == 9
    for part in ("network", "learner", "discriminator"):
        expected, actual = getattr(whole, part).state_dict(), getattr(broken, part).state_dict()
        assert all(torch.equal(actual[key], tensor) for key, tensor in expected.items()), part
    assert all(torch.equal(a, b) for a, b in zip(whole.average, broken.average, strict=True))
    assert broken.balancer.state() == whole.balancer.state()


def test_a_decoder_learns_alone_and_all_codes_stay(trainer: Make, tmp_path: Path) -> None:
    """Codes stay those of the running mean, which listeners had; a break changes nothing."""
    trunk = trainer()
    steps(trunk, 8)
    Run(trunk, tmp_path / "run").save()
    before = trunk.exported()
    settings = recipe(decoder_only=True, schedule={"steps": 12, "decay": 4})
    alone = trainer(settings)
    Run(alone, tmp_path / "run").resume()
    assert not torch.equal(alone.network.quantizer.codebooks, trunk.network.quantizer.codebooks)
    steps(alone, 10)
    Run(alone, tmp_path / "run").save()
    again = trainer(settings)
    Run(again, tmp_path / "run").resume()
    assert steps(again, 12) == steps(alone, 12)
    after = again.exported()
    assert after.digest() == before.digest()
    sound = batch(trunk)
    assert torch.equal(before.encode(sound, 4), after.encode(sound, 4))
    moved = dict(after.decoder.named_parameters())
    assert all(not torch.equal(moved[name], tensor) for name, tensor in before.decoder.named_parameters())


def test_the_loss_turns_and_the_rate_falls(trainer: Make) -> None:
    run = trainer(
        recipe(
            schedule={
                "steps": 1000,
                "rise": 200,
                "decay": 500,
                "unquantized": 100,
                "turn": 100,
                "adversarial_from": 300,
            },
            losses={"waveform": 1.0, "mel": 20.0},
        )
    )
    rates, shares, adversarial = [], [], []
    for run.step in (0, 199, 500, 750, 1000):
        rates.append(run.decayed())
    for run.step in (0, 100, 150, 200, 999):
        shares.append(run.loss_weights()["mel"])
        adversarial.append("features" in run.loss_weights())
    assert rates == pytest.approx([1 / 200, 1, 1, 0.5, 0])
    assert shares == pytest.approx([0.1, 0.1, 0.1 * 200**0.5, 20, 20])
    assert adversarial == [False] * 4 + [True]
    run = trainer(recipe(schedule={"steps": 100, "adversarial_from": 40, "adversarial_rise": 20}))
    risen = []
    for run.step in (40, 50, 60, 99):
        risen.append(run.loss_weights()["features"])
    assert risen == pytest.approx([0, 1.5, 3, 3])
    assert set(trainer(recipe(losses={"adversarial": 0, "features": 0})).loss_weights()) == {"waveform", "mel"}


def test_each_learns_from_its_own_loss_alone(trainer: Make) -> None:
    """A step without the critic's turn leaves the discriminator as it is; with it, its gradient is
    that of the hinge loss on what was heard and spoken, and none of the codec's reaches it."""
    never = trainer(recipe(discriminator={"update_probability": 0.0}))
    before = {key: tensor.clone() for key, tensor in never.discriminator.state_dict().items()}
    rows = steps(never, 6)
    assert "adversarial" in rows[-1]
    assert "critic" not in rows[-1]
    assert all(torch.equal(before[key], tensor) for key, tensor in never.discriminator.state_dict().items())

    always = trainer(recipe(discriminator={"update_probability": 1.0}, optimiser={"discriminator_rate": 1e-9}))
    steps(always, 5)
    spoken = batch(always)
    torch.manual_seed(always.settings.seed * 1_000_003 + always.step)
    n_q = always._bandwidth()
    frozen = [tensor.clone() for tensor in (always.learner.counts, always.learner.sums, always.learner.codebooks)]
    with torch.no_grad():
        latents = always._run(always.network.encoder, spoken)
        heard = always._run(always.network.decoder, always.learner(latents, n_q)[0])
    for tensor, kept in zip(
        (always.learner.counts, always.learner.sums, always.learner.codebooks), frozen, strict=True
    ):
        tensor.copy_(kept)
    real, _ = always.discriminator(spoken)
    fake, _ = always.discriminator(heard)
    per_scale = [torch.relu(1 - r).mean() + torch.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]
    hinge = torch.stack(per_scale).mean()
    expected = torch.autograd.grad(hinge, list(always.discriminator.parameters()))
    row = always.advance(spoken)
    assert row["critic"] == pytest.approx(float(hinge.detach()), rel=1e-5)
    for parameter, gradient in zip(always.discriminator.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


def test_so_many_windows_of_the_discriminator_judge_as_the_recipe_says(trainer: Make) -> None:
    few = {"at_a_time": 1, "windows": (128, 64), "update_probability": 1}
    run = trainer(recipe(schedule={"adversarial_from": 0}, discriminator=few))
    judged = set()
    for _ in range(8):
        before = [[p.detach().clone() for p in scale.parameters()] for scale in run.discriminator.scales]
        run.advance(batch(run))
        moved = [
            any(not torch.equal(p, old) for p, old in zip(scale.parameters(), olds, strict=True))
            for scale, olds in zip(run.discriminator.scales, before, strict=True)
        ]
        assert sum(moved) == 1
        judged.add(moved.index(True))
    assert judged == {0, 1}


def test_the_discriminator_may_hear_all_at_one_volume(trainer: Make) -> None:
    run = trainer(recipe(discriminator={"at_one_volume": True}))
    spoken = 0.1 * torch.randn(2, 1, 2400)
    heard = spoken + 0.01 * torch.randn(2, 1, 2400)
    judged: list[dict[str, Tensor]] = [{}, {}]
    critics = [run._judge(gain * spoken, gain * heard, judged[i], learn=True) for i, gain in enumerate((1, 0.1))]
    for a, b in zip((critics[0], *judged[0].values()), (critics[1], *judged[1].values()), strict=True):
        assert a is not None
        assert b is not None
        torch.testing.assert_close(a, b)
    silence: dict[str, Tensor] = {}
    run._judge(torch.zeros_like(spoken), torch.zeros_like(spoken), silence, learn=False)
    assert all(bool(torch.isfinite(loss)) for loss in silence.values())


def test_a_run_learns_and_its_model_loads(trainer: Make, speech: Pcm, tmp_path: Path) -> None:
    settings = recipe(
        schedule={"steps": 120, "rise": 20, "decay": 20, "unquantized": 20, "turn": 10, "adversarial_from": 110},
        losses={"waveform": 1.0, "mel": 2.0, "relative_waveform": True},
        checkpoint_minutes=4e-3,
    )
    run = trainer(settings)
    Run(run, tmp_path / "run").go(silent())
    rows = [json.loads(row) for row in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [100]
    assert {"waveform", "mel", "commitment", "norm", "lr", "seconds"} <= set(rows[0])
    model = codec.load(str(tmp_path / "run"))
    heard = model.decode(model.encode(speech[:9600], 1.2))
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() > 1e-3
    spoken = batch(run)
    with torch.no_grad():
        decoded = model.network.decode(model.network.encode(spoken, 4))
        assert float(run.mel(decoded, spoken)) < float(run.mel(torch.zeros_like(spoken), spoken))
    assert (tmp_path / "run" / "losses.png").read_bytes().startswith(b"\x89PNG")
    samples = sorted(file.name for file in (tmp_path / "run" / "samples").iterdir())
    assert {"original.wav", "0000120-0.6kbps.wav", "0000120-1.2kbps.wav"} <= set(samples)
    written = sorted({int(name[:7]) for name in samples if name != "original.wav"})
    assert 2 < len(written) < 20
    assert all(later >= 1.25 * earlier for earlier, later in itertools.pairwise(written[:-1]))
    sound, _ = soundfile.read(tmp_path / "run" / "samples" / "0000120-1.2kbps.wav")
    original, rate = soundfile.read(tmp_path / "run" / "samples" / "original.wav")
    assert sound.shape == original.shape == (2 * 4 * (settings.crop + rate // 5) // 2,)


def test_what_is_exported_is_the_mean_of_the_weights(trainer: Make) -> None:
    run = trainer(recipe(optimiser={"average": 0.5}))
    means = [tensor.detach().clone() for tensor in run._averaged()]
    for step in range(3):
        run.advance(batch(run))
        decay = min(0.5, (1 + step) / (10 + step))
        means = [decay * mean + (1 - decay) * now.detach() for mean, now in zip(means, run._averaged(), strict=True)]
    for mean, kept in zip(means, run.average, strict=True):
        torch.testing.assert_close(kept, mean)
    torch.testing.assert_close(run.exported().quantizer.codebooks, means[-1])
    plain = trainer(recipe(optimiser={"average": 0.0}))
    steps(plain, 3)
    latents, _ = plain.network.encoder.step(batch(plain), None, "zeros", last=True)
    exported, _ = plain.exported().encoder.step(batch(plain), None, "zeros", last=True)
    torch.testing.assert_close(exported, latents)


def test_a_run_can_begin_with_another_models_weights(trainer: Make) -> None:
    torch.manual_seed(11)
    trained = Encodec(ModelConfig.from_dict(CONFIG | {"name": "other", "padding": "reflect"}))
    trained.quantizer.codebooks.normal_(std=1e-3)
    run = trainer(recipe(schedule={"unquantized": 5}), trained)
    spoken = batch(run)
    torch.testing.assert_close(
        run.exported().encoder.step(spoken, None, "zeros", last=True)[0],
        trained.encoder.step(spoken, None, "zeros", last=True)[0],
    )
    assert torch.equal(run.exported().quantizer.codebooks, trained.quantizer.codebooks)
    assert run.advance(batch(run))["used_first"] > 1, "it begins with codes"
    with pytest.raises(UsageError, match="another shape than the recipe's: dimension, n_filters differ"):
        trainer(None, Encodec(ModelConfig.from_dict(CONFIG | {"n_filters": 4, "dimension": 16})))


def test_stereo_trains(trainer: Make) -> None:
    model = {"channels": 2, "causal": False, "norm": "time_group", "normalize": True, "window_seconds": 0.1}
    run = trainer(recipe(model=CONFIG | model, discriminator={"filters": 2, "windows": [512, 256]}))
    rows = steps(run, 6)
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert run.exported().encode(batch(run), 4).shape[:2] == (2, 4)


def test_what_is_not_finite_is_not_learned_from(trainer: Make) -> None:
    run = trainer(recipe(discriminator={"update_probability": 1.0}))
    steps(run, 6)
    parts = (run.network, run.discriminator, run.learner)
    before = [tensor.clone() for part in parts for tensor in part.state_dict().values()]
    row = run.advance(torch.full_like(batch(run), torch.nan))
    assert {"critic", "adversarial"} <= row.keys()
    assert not math.isfinite(row["norm"])
    after = [tensor for part in parts for tensor in part.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(map(math.isfinite, run.advance(batch(run)).values()))


def test_a_run_that_learns_nothing_ends(trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("earshot.lab.training.run.REPORT_STEPS", 10)
    monkeypatch.setattr("earshot.lab.training.run.MOST_REFUSED", 8)
    run = trainer(recipe(schedule={"steps": 1000}))
    learn = run.advance

    def advance(spoken: Tensor) -> dict[str, float]:
        return learn(torch.full_like(spoken, torch.nan) if run.step >= 5 and run.step != 7 else spoken)

    monkeypatch.setattr(run, "advance", advance)
    with pytest.raises(TrainingError, match=r"8 steps up to step 16 had losses .* not finite"):
        Run(run, tmp_path / "run").go(silent())
    [row] = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert row["refused"] == 4
    assert all(map(math.isfinite, row.values()))


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_in_the_middle_of_a_step_breaks_nothing(
    trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, raised: type[BaseException]
) -> None:
    whole = trainer()
    steps(whole, 9)
    broken, handler = trainer(), signal.getsignal(number)
    teach = broken._teach_codec

    def teach_codec(*arguments: Any) -> float:
        if broken.step == 5:
            os.kill(os.getpid(), number)
        return teach(*arguments)

    monkeypatch.setattr(broken, "_teach_codec", teach_codec)
    with pytest.raises(raised):
        Run(broken, tmp_path / "run").go(silent())
    assert signal.getsignal(number) is handler
    resumed = Run(trainer(), tmp_path / "run")
    resumed.resume()
    assert resumed.trainer.step == 6
    resumed.go(silent())
    for part in ("network", "learner", "discriminator"):
        expected, actual = getattr(whole, part).state_dict(), getattr(resumed.trainer, part).state_dict()
        assert all(torch.equal(actual[key], tensor) for key, tensor in expected.items()), part


def test_a_second_signal_leaves_at_once(trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer()

    def never_ends(spoken: Tensor) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    monkeypatch.setattr(run, "advance", never_ends)
    with pytest.raises(KeyboardInterrupt):
        Run(run, tmp_path / "run").go(silent())
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_the_log_of_an_older_checkpoint(trainer: Make, tmp_path: Path) -> None:
    """Rows of steps that come again, and one that was cut, are taken away."""
    run = Run(trainer(recipe(schedule={"steps": 1})), tmp_path / "run")
    rows = [json.dumps({"step": step, "mel": 1.0}) for step in (0, 1, 2, 300)]
    log = tmp_path / "run" / "log.jsonl"
    log.write_text("\n".join([*rows, '{"step": 0, "me']))
    run.trainer.step = 1
    run.go(silent())
    assert log.read_text() == f"{rows[0]}\n{rows[1]}\n"


def test_audio_that_goes_away_costs_nothing_learned(trainer: Make, tmp_path: Path, voices: Path) -> None:
    run = trainer()
    take = run.data.batch

    def batches(size: int, seed: int, step: int, rank: int = 0) -> Pcm:
        if step == 4:
            raise UsageError("the training audio cannot be read any more")
        return take(size, seed, step, rank)

    run.data.batch = batches  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="cannot be read any more"):
        Run(run, tmp_path / "run").go(silent())
    resumed = Run(trainer(), tmp_path / "run")
    resumed.resume()
    assert resumed.trainer.step == 4


def test_a_full_disk_leaves_the_checkpoint_before(trainer: Make, tmp_path: Path) -> None:
    run = Run(trainer(), tmp_path / "run")
    run.save()
    data = run.checkpoint.read_bytes()
    (tmp_path / "run" / "checkpoint.part").symlink_to("/dev/full")
    steps(run.trainer, 1)
    with pytest.raises(TrainingError, match="is the disk full"):
        run.save()
    assert run.checkpoint.read_bytes() == data


@pytest.mark.skipif(not supported(), reason="this processor does not multiply bfloat16")
@pytest.mark.timeout(300)
def test_kernels_change_the_speed_alone(trainer: Make) -> None:
    """Losses, gradients and what they lead to are those of torch's layers, within what bfloat16
    rounds; the kernels are really at work."""
    rows, runs = [], []
    for use in (False, True):
        settings = recipe(
            model=CONFIG | {"n_filters": 16, "dimension": 32},
            precision="bf16",
            kernels=use,
            schedule={"steps": 9, "unquantized": 0, "turn": 0, "adversarial_from": 0},
            losses={"mel_windows": [512, 128], "power_mel": 3.0, "power_mel_windows": [256], "compressed": 1.0},
            discriminator={"filters": 16, "windows": [512, 256], "update_probability": 1.0},
        )
        run = trainer(settings)
        assert bool(run._fast) == bool(run._scales) == use
        run.quantizes = True
        run.learner.start(torch.randn(200, 32, generator=torch.Generator().manual_seed(1)))
        rows.append(steps(run, 1)[0])
        runs.append(run)
    assert rows[0].keys() == rows[1].keys()
    assert {"power_mel", "compressed", "adversarial", "features", "critic"} <= rows[0].keys()
    assert rows[1] == pytest.approx(rows[0], rel=0.03)
    slow, fast = ([p.grad for p in run.network.parameters()] for run in runs)
    apart = [float((a - b).norm() / b.norm()) for a, b in zip(fast, slow, strict=True) if a is not None]
    assert sorted(apart)[len(apart) // 2] < 0.05


def test_bandwidths_are_drawn_as_often_as_the_recipe_says(trainer: Make) -> None:
    run = trainer(recipe(bandwidth_odds=(0.0, 1.0)))
    assert {run._bandwidth() for _ in range(20)} == {run.settings.model.n_q(1.2)}
    run = trainer(recipe(bandwidth_odds=(3.0, 1.0)))
    torch.manual_seed(1)
    drawn = [run._bandwidth() for _ in range(400)]
    assert 0.68 < drawn.count(run.settings.model.n_q(0.6)) / 400 < 0.82


def test_the_optimisers_go_on_as_the_recipe_says(trainer: Make, tmp_path: Path) -> None:
    Run(trainer(), tmp_path / "run").save()
    changed = Run(trainer(recipe(optimiser={"betas": (0.7, 0.8), "weight_decay": 0.1})), tmp_path / "run")
    changed.resume()
    for optimizer in (changed.trainer.optimizer, changed.trainer.critic):
        assert [(group["betas"], group["weight_decay"]) for group in optimizer.param_groups] == [((0.7, 0.8), 0.1)]


def test_damaged_and_foreign_checkpoints(trainer: Make, tmp_path: Path) -> None:
    run = Run(trainer(), tmp_path / "run")
    run.save()
    data = run.checkpoint.read_bytes()
    with pytest.raises(UsageError, match="another model"):
        Run(trainer(recipe(model=CONFIG | {"n_filters": 3})), tmp_path / "run").resume()
    for other in ({"filters": 3, "windows": [512, 256]}, {"filters": 2, "windows": [512]}):
        with pytest.raises(UsageError, match=r"discriminator of another shape .* set discriminator\.filters"):
            Run(trainer(recipe(discriminator=other)), tmp_path / "run").resume()
    for bad in (b"", data[: len(data) // 2], data[:-1]):
        run.checkpoint.write_bytes(bad)
        with pytest.raises(WeightsError, match="delete it to start again"):
            run.resume()
    for state in ({"step": 3}, {"config": run.trainer.settings.model.to_dict()}):
        torch.save(state, run.checkpoint)
        with pytest.raises(WeightsError, match="delete it to start again"):
            run.resume()


@pytest.mark.timeout(300)
def test_two_processes_make_one_model(voices: Path, tmp_path: Path) -> None:
    """As torchrun starts them: different examples, gradients and codebook statistics reduced, the
    same weights."""
    text = f"""
        batch = 2
        crop_seconds = 0.1
        seed = 3
        [model]
        {chr(10).join(f"{key} = {json.dumps(value)}" for key, value in CONFIG.items())}
        [schedule]
        steps = 7
        unquantized = 2
        turn = 2
        adversarial_from = 4
        [losses]
        mel_windows = [512, 128]
        [discriminator]
        filters = 2
        windows = [512, 256]
        update_probability = 1.0
        [data]
        sources = [{json.dumps(str(voices))}]
    """
    (tmp_path / "recipe.toml").write_text(text)
    (tmp_path / "rank.py").write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from earshot.codec.terminal import Terminal\n"
        "from earshot.lab.training.command import train\n"
        "torch.set_num_threads(1)\n"
        "folder = Path(sys.argv[1])\n"
        "run = train(Terminal(), str(folder / 'recipe.toml'), [], folder / 'run', device='cpu')\n"
        "trainer = run.trainer\n"
        "parts = [trainer.network, trainer.discriminator, trainer.learner]\n"
        "moved = [tensor for part in parts for tensor in part.state_dict().values()]\n"
        "torch.save(moved, folder / f'rank{trainer.ranks.rank}.pt')\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, str(tmp_path / "rank.py"), str(tmp_path)]
    processes = [
        subprocess.Popen(
            command,
            env=os.environ | common | {"RANK": str(rank), "PYTHONPATH": str(Path(codec.__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        with suppress(subprocess.TimeoutExpired):
            for process in processes:
                process.wait(120)
    finally:  # one that has lost the other may wait for it for half an hour
        for process in processes:
            process.kill()
        said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    one, two = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert "2 processes on cpu" in said[0]
    assert said[1].strip() == ""
