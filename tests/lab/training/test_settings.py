"""Recipes: presets, files, changes, and what is wrong with them in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from earshot import codec
from earshot.codec.config import ENCODEC_24KHZ, ENCODEC_48KHZ, LITE_24KHZ
from earshot.codec.errors import UsageError
from earshot.lab.training.settings import presets, read_recipe


def test_presets_are_the_published_models_and_the_default() -> None:
    assert presets() == ["encodec_24khz", "encodec_48khz", "finetune", "lite", "steep", "voice"]
    assert [read_recipe(name).init for name in presets()] == [None, None, "default", None, None, "default"]
    default = codec.load("default").config
    assert replace(default, postfilter=None) == LITE_24KHZ
    steep = replace(
        default, name="steep_24khz", widths=(16, 128, 320, 320), ratios=(1, 8, 40), n_residual_layers=2,
        dilation_base=1, lstm_layers=1,
    )  # fmt: skip
    models = [ENCODEC_24KHZ, ENCODEC_48KHZ, default, default, steep, default]
    assert [read_recipe(name).model for name in presets()] == models


def test_the_paper() -> None:
    """arXiv 2210.13438, section 4.1 and appendix A."""
    mono, stereo = read_recipe("encodec_24khz"), read_recipe("encodec_48khz")
    for recipe, adversarial, update, longest in ((mono, 3, 2 / 3, 2048), (stereo, 4, 1 / 2, 4096)):
        losses, critic = recipe.losses, recipe.discriminator
        assert (losses.waveform, losses.mel, losses.adversarial, losses.features) == (0.1, 1, adversarial, adversarial)
        assert losses.balancer_decay == 0.999
        assert not losses.relative_waveform
        assert critic.update_probability == pytest.approx(update, abs=1e-3)
        assert critic.windows == tuple(longest >> n for n in range(5))
        assert losses.mel_windows == tuple(longest >> n for n in range(7))
        assert (recipe.optimiser.learning_rate, recipe.optimiser.betas) == (3e-4, (0.5, 0.9))
        assert (recipe.batch, recipe.crop) == (64, recipe.model.sample_rate)
    strategies = mono.data.strategies
    assert (strategies.music, strategies.other, strategies.two, strategies.three) == (0.32, 0.32, 0.24, 0.12)


def test_changes_and_sources(tmp_path: Path) -> None:
    recipe = read_recipe(
        "lite",
        ["schedule.steps=70", "losses.mel = 2", "precision=fp32", 'model.name="mine"'],
        {"sources": ["a=0.5", "noise:b"], "exclude": ["c*"]},
    )
    assert (recipe.schedule.steps, recipe.losses.mel, recipe.precision, recipe.model.name) == (70, 2, "fp32", "mine")
    assert [(s.pattern, s.weight, s.kind) for s in recipe.data.sources] == [("a", 0.5, "speech"), ("b", 1, "noise")]
    assert recipe.data.exclude == ("c*",)
    assert recipe.data.reverberation.probability == read_recipe("lite").data.reverberation.probability
    file = tmp_path / "own.toml"
    file.write_text('crop_seconds = 0.5\n[data]\nsources = ["voices"]\n')
    assert read_recipe(str(file)).crop == 38 * 320
    assert read_recipe(str(file)).data.sources[0].pattern == "voices"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("batch = 0", "batch: .*greater than or equal to 1"),
        ("[losses]\nloudness = 1", "losses.loudness: there is no such key"),
        ("[model]\nfilters = 3", "unknown model settings: filters"),
        ("[model]\nn_filters = 0", "n_filters must be a whole number"),
        ("precision = 'half'", "precision: .*'fp32' or 'bf16'"),
        ("[data]\nsources = ['a=b']", "weight after '=' must be a number"),
        ("crop_seconds = nan", "crop_seconds"),
        ("batch = ", "is not TOML"),
        ("bandwidth_odds = [1, 1]", "bandwidth_odds: one for each of"),
        ("[losses]\npower_mel = 1\npower_mel_windows = [65536]", "crop_seconds must give at least 32769"),
        ("[losses]\nmel_windows = []", "losses.mel_windows: .*at least 1 item"),
        ("[losses]\nmel_windows = [18]", "losses.mel_windows.0: .*multiple of 4"),
        ("[discriminator]\nwindows = [-4]", "discriminator.windows.0: .*greater than or equal to 16"),
        ("[optimiser]\nbetas = [0.5, 1.0]", "optimiser.betas.1: .*less than 1"),
        ("crop_seconds = 0.04", "examples of 960 samples are too short .* crop_seconds must give at least 2048"),
        (
            "crop_seconds = 0.04\n[losses]\nadversarial = 0\nfeatures = 0",
            "crop_seconds must give at least 1025",
        ),
    ],
)
def test_wrong_recipes_say_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(Exception, match=told) as error:
        read_recipe(str(file))
    assert type(error.value).__module__ == "earshot.codec.errors"


def test_unknown_recipes_and_malformed_changes(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no preset \(encodec_24khz, encodec_48khz, finetune, lite, steep, voice\) and no recipe file"
    ):
        read_recipe("light")
    with pytest.raises(UsageError, match="no recipe file that can be read: Is a directory"):
        read_recipe(str(tmp_path))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not TOML"):
        read_recipe(str(tmp_path / "bytes.toml"))
    for change, told in (
        ("steps", "write table.key=value"),
        ("batch.size=3", "batch is no table"),
        ("schedule.stpes=3", "schedule.stpes: there is no such key"),
    ):
        with pytest.raises(UsageError, match=told):
            read_recipe("lite", [change])
