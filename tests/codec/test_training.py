"""Training: each loss against its formula, codebooks that learn, and a break that changes nothing."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from rich.console import Console
from torch import Tensor

import codec
from codec.config import ModelConfig
from codec.errors import UsageError, WeightsError
from codec.pcm import Pcm
from codec.quantizer import ResidualVectorQuantizer
from codec.training.balancer import Balancer
from codec.training.codebooks import CodebookLearner
from codec.training.data import CropSource, Source
from codec.training.losses import MelLoss, mel_filters, relative_l1
from codec.training.trainer import Trainer, TrainSettings

CONFIG = ModelConfig(
    name="tiny", n_filters=2, dimension=8, n_codebooks=4, codebook_size=16, bandwidths=(0.6, 1.2), padding="zeros"
)
SETTINGS = TrainSettings(
    model=CONFIG, steps=9, batch=2, crop_frames=8, decay_steps=4, warmup_steps=2, turn_steps=3, bfloat16=False, seed=3
)


@pytest.fixture
def voices(tmp_path: Path, speech: Pcm) -> Path:
    """A folder of audio: two files of speech, of which one at another rate and in stereo."""
    folder = tmp_path / "voices"
    folder.mkdir()
    soundfile.write(folder / "one.wav", speech[:48_000], 24_000)
    soundfile.write(folder / "two.flac", np.stack([speech[48_000:80_000]] * 2, axis=1), 16_000)
    (folder / "notes.txt").write_text("not audio")
    return folder


@pytest.fixture
def trainer(voices: Path, tmp_path: Path) -> Callable[..., Trainer]:
    def make(name: str, settings: TrainSettings = SETTINGS) -> Trainer:
        data = CropSource([Source(str(voices))], 24_000, settings.crop_frames * 320, progress=False)
        return Trainer(settings, data, tmp_path / name)

    return make


def test_balancer_gives_each_loss_its_share() -> None:
    balancer = Balancer(decay=0.5)
    output = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    losses = {"a": 1000 * output[:, 0].sum(), "b": 0.001 * output[:, 1].sum(), "c": output.sum()}
    gradient = balancer.gradient(losses, {"a": 3.0, "b": 1.0, "c": 0.0}, output)
    torch.testing.assert_close(gradient, torch.tensor([[0.75, 0.25], [0.75, 0.25]]))
    assert balancer.norms == pytest.approx({"a": 1000, "b": 0.001})
    balancer.gradient({"a": 3000 * output[:, 0].sum()}, {"a": 1.0}, output)
    assert balancer.norms["a"] == pytest.approx(2000)


def test_relative_l1() -> None:
    assert float(relative_l1(torch.tensor([1.0, 2.0]), torch.tensor([2.0, -2.0]))) == pytest.approx(2.5 / 2)


def test_mel_filters_are_triangles_on_the_mel_scale() -> None:
    filters = mel_filters(2048, 64, 24_000)
    assert filters.shape == (64, 1025)
    top = 2595 * math.log10(1 + 12_000 / 700)
    for band in (10, 63):
        centre = 700 * (10 ** (top * (band + 1) / 65 / 2595) - 1)
        assert abs(float(filters[band].argmax()) * 24_000 / 2048 - centre) <= 24_000 / 2048
    assert float(filters.sum(1).min()) > 0
    assert 0.9 < float(filters.max()) <= 1


def test_mel_loss_is_the_formula() -> None:
    random = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 4000, generator=random) * 0.1, torch.randn(2, 4000, generator=random) * 0.2
    window, filters = torch.hann_window(256), mel_filters(256, 64, 24_000)

    def mel(x: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(x[:, None], (128, 128), mode="reflect")[:, 0]
        frames = padded.unfold(1, 256, 64) * window
        magnitude = (torch.fft.rfft(frames).abs().pow(2) / 256 + 1e-9).sqrt()
        return magnitude @ filters.t()  # [B, frames, bands]

    log_error = (mel(a) + 1e-4).log() - (mel(b) + 1e-4).log()
    expected = (mel(a) - mel(b)).abs().mean() + log_error.pow(2).mean(dim=2).sqrt().mean()
    loss = MelLoss(24_000, windows=(256,))
    torch.testing.assert_close(loss(a, b), expected, rtol=1e-4, atol=1e-6)
    assert float(loss(a, a)) == 0


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
    learner = CodebookLearner(quantizer, decay=0.9, dead_below=0.5)
    quantizer.codebooks[0] = 1000.0  # never chosen
    quantizer.codebooks[0, 0], quantizer.codebooks[0, 1] = 0.0, 5.0
    learner.sums[0] = quantizer.codebooks[0]
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


def test_crops_are_a_function_of_seed_and_step(voices: Path) -> None:
    one, same = (CropSource([Source(str(voices))], 24_000, 2560, progress=False) for _ in range(2))
    assert one.hours * 3600 == pytest.approx(2 + 2)
    batch = one.batch(5, seed=1, step=7)
    assert (batch.shape, batch.dtype) == ((5, 2560), np.float32)
    np.testing.assert_array_equal(same.batch(5, seed=1, step=7), batch)
    assert not np.array_equal(one.batch(5, seed=1, step=8), batch)
    assert not np.array_equal(one.batch(5, seed=2, step=7), batch)
    peaks = 20 * np.log10(np.abs(batch).max(axis=1))
    assert ((peaks >= -16.01) & (peaks <= -0.99)).all()


def test_sources_are_drawn_by_weight_and_names_can_be_excluded(tmp_path: Path) -> None:
    time = np.arange(24_000) / 24_000
    for name, hertz in (("low.wav", 100), ("high.wav", 5000), ("not-this.wav", 1000)):
        soundfile.write(tmp_path / name, 0.5 * np.sin(2 * np.pi * hertz * time), 24_000)
    sources = [Source.parse(f"{tmp_path}/low.wav=3"), Source.parse(f"{tmp_path}/*.wav=1")]
    crops = CropSource(sources, 24_000, 2400, exclude=["not-*", "low*"][:1], progress=False).batch(400, 1, 1)
    hertz = np.abs(np.fft.rfft(crops)).argmax(axis=1) * 10
    assert set(hertz) == {100, 5000}
    assert np.mean(hertz == 5000) == pytest.approx(1 / 4 / 2, abs=0.05)
    with pytest.raises(UsageError, match="no audio under"):
        CropSource(sources, 24_000, 2400, exclude=["*"], progress=False)
    with pytest.raises(UsageError, match="must be a number"):
        Source.parse("folder=often")


def test_silence_is_passed_over(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(24_000), 24_000)
    with pytest.raises(UsageError, match="silent nearly everywhere"):
        CropSource([Source(str(tmp_path))], 24_000, 320, progress=False).batch(1, 1, 1)


def test_a_break_changes_nothing(trainer: Callable[..., Trainer]) -> None:
    """Broken off in the warm-up, and again after the codebooks have started: weights equal to the last bit."""
    whole = trainer("whole")
    losses = [whole.advance() for _ in range(SETTINGS.steps)]
    assert losses[0]["used_first"] == 0
    assert losses[-1]["used_first"] > 1
    broken = trainer("broken")
    for stop in (1, 5, SETTINGS.steps):
        while broken.step < stop:
            assert broken.advance() == losses[broken.step - 1]
        broken.save()
        broken = trainer("broken")
        broken.resume()
    expected, actual = whole.network.state_dict(), broken.network.state_dict()
    assert all(torch.equal(actual[key], tensor) for key, tensor in expected.items())
    assert torch.equal(broken.learner.sums, whole.learner.sums)


def test_the_loss_turns_and_the_rate_falls(trainer: Callable[..., Trainer]) -> None:
    run = trainer("schedule", replace(SETTINGS, steps=1000, warmup_steps=100, turn_steps=100, decay_steps=500))
    rates, shares = [], []
    for run.step in (0, 199, 500, 750, 1000):
        rates.append(run.learning_rate())
    for run.step in (0, 100, 150, 200, 999):
        shares.append(run.loss_weights()["mel"])
    assert rates == pytest.approx([1e-3 / 200, 1e-3, 1e-3, 0.5e-3, 0])
    assert shares == pytest.approx([0.1, 0.1, 0.1 * 200**0.5, 20, 20])


def test_a_run_learns_and_its_model_loads(trainer: Callable[..., Trainer], speech: Pcm) -> None:
    run = trainer("run", replace(SETTINGS, steps=120, warmup_steps=20, decay_steps=20))
    run.run(Console(file=io.StringIO()))
    rows = (run.folder / "log.jsonl").read_text().splitlines()
    assert len(rows) == 1
    model = codec.load(str(run.folder))
    assert model.config == CONFIG
    heard = model.decode(model.encode(speech[:9600], 1.2))
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() > 1e-3
    batch = run._batch(1)
    with torch.no_grad():
        latents, _ = run.network.encoder.step(batch, None, "zeros", last=True)
        exported, _ = model.network.encoder.step(batch, None, "zeros", last=True)
        decoded = run._run(run.network.decoder, run.learner.eval()(latents, n_q=4)[0])
        silence = torch.zeros_like(batch[:, 0])
        assert float(run.mel(decoded[:, 0], batch[:, 0])) < float(run.mel(silence, batch[:, 0]))
    torch.testing.assert_close(exported, latents)


def test_damaged_and_foreign_checkpoints(trainer: Callable[..., Trainer]) -> None:
    run = trainer("run")
    run.save()
    data = run.checkpoint.read_bytes()
    with pytest.raises(UsageError, match="another model"):
        trainer("run", replace(SETTINGS, model=replace(CONFIG, n_filters=3))).resume()
    for bad in (b"", data[: len(data) // 2], data[:-1]):
        run.checkpoint.write_bytes(bad)
        with pytest.raises(WeightsError, match="delete it to start again"):
            run.resume()
    for state in ({"step": 3}, {"config": CONFIG.to_dict()}):
        torch.save(state, run.checkpoint)
        with pytest.raises(WeightsError, match="delete it to start again"):
            run.resume()
