"""What a training run does: a recipe, read from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from earshot.codec.config import ModelConfig
from earshot.codec.errors import UsageError
from earshot.lab.training.recipe import DataSettings

PRESETS = Path(__file__).parent / "presets"
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Steps = Annotated[int, Field(ge=0)]
Windows = Annotated[tuple[Annotated[int, Field(ge=16, multiple_of=4)], ...], Field(min_length=1, max_length=16)]
"""Lengths in samples, hop a quarter."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Schedule(_Table):
    """Counted in steps from the beginning of the run."""

    steps: Annotated[int, Field(ge=1)] = 300_000
    rise: Steps = 200
    """Over which the learning rate rises to its value."""
    decay: Steps = 0
    """The last steps, over which it falls to zero along a half cosine."""
    unquantized: Steps = 0
    """First steps without quantizer; the codebooks start from what they lead to."""
    turn: Steps = 0
    """Steps after those over which the loss turns from the waveform to the rest of its weights."""
    adversarial_from: Steps = 0
    """The discriminator learns from this step on."""
    adversarial_rise: Steps = 0
    """Steps over which the codec's losses by the discriminator come to their weights: one that
    knows nothing yet would only do harm to a codec that can speak already."""


class Optimiser(_Table):
    """Adam (AdamW where there is a weight decay), for the codec and for the discriminator."""

    learning_rate: Positive = 3e-4
    discriminator_rate: Positive = 3e-4
    betas: tuple[Decay, Decay] = (0.5, 0.9)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_gradient: Positive | None = None
    """The norm of the codec's gradient is cut to this."""
    average: Decay = 0.0
    """Decay of the running mean of the weights that is exported; 0 exports the weights
    themselves."""


class Losses(_Table):
    """Weights of the balancer, and what the losses look at."""

    waveform: Annotated[float, Field(ge=0)] = 0.1
    mel: Annotated[float, Field(ge=0)] = 1.0
    adversarial: Annotated[float, Field(ge=0)] = 3.0
    features: Annotated[float, Field(ge=0)] = 3.0
    commitment: Annotated[float, Field(ge=0)] = 1.0
    """Outside the balancer: it has no gradient at the output."""
    relative_waveform: bool = False
    """Divides the waveform's error by its level, so that quiet batches count as much as loud
    ones."""
    mel_windows: Windows = (2048, 1024, 512, 256, 128, 64, 32)
    power_mel: Annotated[float, Field(ge=0)] = 0.0
    """Mel magnitudes to the power 0.3, at one loudness. The log-mel loss spends its gradient on
    silence: 2,000 steps of 6 : 0.5 instead of it took STOI at 6 kbps from 0.849 to 0.873, and the
    level above 1 kHz up by 2 to 4 dB."""
    power_mel_windows: Windows = (2048, 1024, 512, 256, 128)
    compressed: Annotated[float, Field(ge=0)] = 0.0
    """Spectra with magnitudes to the power 0.3: with it, PESQ-WB went from 1.77 to 2.02 in 9,000
    steps."""
    compressed_windows: Windows = (512, 256)
    phase: Share = 0.3
    """Share of the compressed loss that minds phases, below `phase_below` Hz. Above, where no phase
    can be coded, it would only make the sound quieter."""
    phase_below: Annotated[float, Field(ge=0)] = 3000.0
    levels: Annotated[float, Field(ge=0)] = 0.0
    """Levels of 24 bands over 0.1 s. Losses of single frames leave what they cannot tell too
    quiet."""
    balancer_decay: Share = 0.999


class DiscriminatorSettings(_Table):
    filters: Annotated[int, Field(ge=1)] = 32
    windows: Windows = (2048, 1024, 512, 256, 128)
    update_probability: Share = 2 / 3
    at_a_time: Annotated[int, Field(ge=0)] = 0
    """Windows that judge in a step, drawn anew for each; 0: all. Without kernels of its own the
    discriminator takes three quarters of a step."""
    at_one_volume: bool = False
    """It hears each example divided by the level of what was spoken, so that quiet ones count as
    much as loud ones. At the level of speech it learned next to nothing in 270 steps of the default
    model's run."""


def _model(value: Any) -> Any:
    return ModelConfig.from_dict(dict(value)) if isinstance(value, Mapping) else value


class TrainSettings(_Table):
    """A recipe; the defaults are the paper's for 24 kHz."""

    model: Annotated[ModelConfig, BeforeValidator(_model)] = ModelConfig()
    data: DataSettings = DataSettings()
    schedule: Schedule = Schedule()
    optimiser: Optimiser = Optimiser()
    losses: Losses = Losses()
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    batch: Annotated[int, Field(ge=1)] = 64
    """Examples a step, in each process."""
    crop_seconds: Positive = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of convolutions and LSTM; losses and codebooks are always float32. A processor that does not
    multiply bfloat16 takes float32, too."""
    kernels: bool = True
    """Own kernels for bf16 on CPUs that have it (lab/training/fast), compiled when a run first
    wants them. Without, or where they do not fit, torch's layers do the same at less than half the
    speed."""
    decoder_only: bool = False
    """Encoder and codebooks stand still, as their running means are: codes stay what they are, and
    a language model for them can be trained while the decoder still learns. For runs and branches
    that start from trained weights."""
    bandwidth_odds: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """How often each of the model's bandwidths is drawn, in their order; all alike if None. Drawn
    evenly, half of all codebooks are rarely heard, and the highest rate is learned to be no better
    than the second."""
    data_workers: Annotated[int, Field(ge=0, le=64)] = 0
    seed: Annotated[int, Field(ge=0)] = 1
    init: str | None = None
    """Weights that a run starts from where `--init` names none; without either, random ones."""
    checkpoint_minutes: Positive = 3.0

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        """The discriminator may begin hours after the run: a window that does not fit is told
        before."""
        judged = self.losses.adversarial or self.losses.features
        losses = self.losses
        spectra = max(
            (
                *losses.mel_windows,
                *(losses.power_mel_windows if losses.power_mel else ()),
                *(losses.compressed_windows if losses.compressed else ()),
            )
        )
        longest = max(spectra // 2 + 1, max(self.discriminator.windows) if judged else 0)
        if self.crop < longest:
            raise ValueError(
                f"examples of {self.crop} samples are too short for the windows of losses and discriminator;"
                f" crop_seconds must give at least {longest}"
            )
        return self

    @model_validator(mode="after")
    def _odds_fit(self) -> Self:
        odds = self.bandwidth_odds
        if odds is not None and (len(odds) != len(self.model.bandwidths) or not sum(odds)):
            raise ValueError(f"bandwidth_odds: one for each of {self.model.bandwidths} kbps, and not all zero")
        return self

    @property
    def crop(self) -> int:
        """Samples in an example: whole frames."""
        hop = self.model.hop_length
        return max(1, round(self.crop_seconds * self.model.sample_rate / hop)) * hop


def presets() -> list[str]:
    return sorted(file.stem for file in PRESETS.glob("*.toml"))


def read_recipe(name: str, changes: Sequence[str] = (), data: Mapping[str, Any] | None = None) -> TrainSettings:
    """A preset or a TOML file. `changes` are `table.key=value` with values as TOML has them, `data`
    replaces keys of the data table. Raises UsageError that names the key that is wrong."""
    path = PRESETS / f"{name}.toml" if name in presets() else Path(name)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{name!r} is no preset ({', '.join(presets())}) and no recipe file that can be read: {error.strerror}"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    for change in changes:
        _change(values, change)
    if data:
        values["data"] = {**values.get("data", {}), **data}
    return check_recipe(values, str(path) if path.parent != PRESETS else f"preset {name}")


def check_recipe(values: Mapping[str, Any], whence: str) -> TrainSettings:
    """Raises UsageError for values that make no recipe."""
    try:
        return TrainSettings.model_validate(values)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False)
        told = "; ".join(f"{'.'.join(map(str, item['loc']))}: {_said(item)}" for item in wrong)
        raise UsageError(f"{whence}: {told}") from error


def _said(wrong: Mapping[str, Any]) -> str:
    if wrong["type"] == "extra_forbidden":
        return "there is no such key (all are in lab/training/settings.py and recipe.py)"
    return str(wrong["msg"])


def _change(values: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals:
        raise UsageError(f"{change!r}: write table.key=value, as in optimiser.learning_rate=1e-4")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = key.strip().split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise UsageError(f"{change!r}: {table} is no table")
    values[last] = value
