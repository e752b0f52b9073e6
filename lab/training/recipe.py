"""What a training example is made of: the settings, and the decisions drawn from them before any
sound is touched.

Mixing follows arXiv 2210.13438, section 4.1; microphones and noise are ours, for calls from real
rooms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from earshot.codec.errors import UsageError
from earshot.lab.training.sources import Kind, Source

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"{ends[0]:g} is above {ends[1]:g}")
    return ends


Range = Annotated[tuple[float, float], AfterValidator(_rising)]

STRATEGIES = ("music", "other", "two", "three")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Strategies(_Table):
    """How often one music source, one other source, two of any or three without music make an
    example."""

    music: float = Field(default=0.32, ge=0)
    other: float = Field(default=0.32, ge=0)
    two: float = Field(default=0.24, ge=0)
    three: float = Field(default=0.12, ge=0)


class Reverberation(_Table):
    probability: Share = 0.2
    rt60: Range = (0.3, 1.3)
    """Seconds; the synthesised rooms spread evenly over it, measured ones outside are left out."""
    responses: str | None = None
    """Folder, file or pattern of measured impulse responses; synthesised ones if None."""
    rooms: int = Field(default=64, ge=1, le=1024)
    """Kept in memory."""

    @model_validator(mode="after")
    def _audible(self) -> Self:
        if not 0.05 <= self.rt60[0] <= self.rt60[1] <= 5:
            raise ValueError("rt60 must lie within 0.05 to 5 s")
        return self


class Noise(_Table):
    """Sources of kind `noise`, added to the mix."""

    probability: Share = 0.2
    snr_db: Range = (5.0, 40.0)


class Microphone(_Table):
    narrow: Share = 0.05
    """Probability of a low pass, as of 8 and 16 kHz microphones."""
    cutoffs: tuple[float, ...] = (3400.0, 4000.0, 7000.0, 8000.0)
    """Hz; those above 0.45 of the sample rate are left out."""
    overload: Share = 0.02
    """Probability of clipping, hard or soft."""
    overload_db: Range = (1.0, 20.0)
    """How far it is driven over its full scale."""
    hush: Share = 0.03
    """Probability of a stretch with next to nothing; one in four is digital silence."""
    hush_db: Range = (30.0, 60.0)


def _parsed(value: Any) -> Any:
    if isinstance(value, str):
        return Source.parse(value)
    return value


class DataSettings(_Table):
    """What is heard in training. Sources are tables or strings as `Source.parse` reads them."""

    sources: tuple[Annotated[Source, BeforeValidator(_parsed)], ...] = ()
    exclude: tuple[str, ...] = ()
    """Patterns of file names to leave out."""
    strategies: Strategies = Strategies()
    normalise: Literal["file", "file_peak", "crop_peak", "none"] = "file"
    """What comes to `level_db`: a file's level while it sounds, its peak, or the peak of each
    crop."""
    level_db: float = -24.0
    gain_db: Range = (-10.0, 6.0)
    """Drawn for each source of a mix, on top of its normalisation."""
    quietest_db: float = -50.0
    """Crops below this level, normalised by file, or as they are otherwise, are drawn again:
    silence teaches little."""
    reverberation: Reverberation = Reverberation()
    noise: Noise = Noise()
    microphone: Microphone = Microphone()
    made: Share = 0.0
    """Probability of an example that is no recording: noise, notes and waves with edges, up to full
    scale and clipped (lab/sounds/made_sounds.py). Levels of loud sounds are learned from them."""
    memory_gib: float = Field(default=4.0, ge=0)
    """Decoded audio held in memory, smallest sources first; the rest is read from disk as it is
    drawn."""
    seed: int = Field(default=0, ge=0)
    """Of the synthesised rooms; what is drawn depends on the seed of the run."""

    @classmethod
    def plain(cls, sources: Sequence[Source], exclude: Sequence[str] = ()) -> DataSettings:
        """Crops of one source each with peaks of -16 to -1 dBFS, and nothing done to them."""
        music = sum(source.weight for source in sources if source.kind == "music")
        other = sum(source.weight for source in sources if source.kind in ("speech", "other"))
        return cls(
            sources=tuple(sources),
            exclude=tuple(exclude),
            strategies=Strategies(music=music, other=other, two=0, three=0),
            normalise="crop_peak",
            level_db=0,
            gain_db=(-16, -1),
            reverberation=Reverberation(probability=0),
            noise=Noise(probability=0),
            microphone=Microphone(narrow=0, overload=0, hush=0),
        )


@dataclass(frozen=True)
class Pick:
    """Which crop of which source, and how loud."""

    source: int
    clip: float
    """Which of its files, as a share of its hours, 0..1."""
    position: float
    """Where in the file, 0..1."""
    gain_db: float


@dataclass(frozen=True)
class Plan:
    """All decisions about one example; None and empty for what is not done."""

    strategy: str
    picks: tuple[Pick, ...]
    room: float | None = None
    """Which of the rooms, 0..1."""
    noise: Pick | None = None
    snr_db: float = 0.0
    cutoff: float | None = None
    overload_db: float | None = None
    overload_hard: bool = False
    hush: tuple[float, float] | None = None
    """From where to where, as shares of the crop."""
    hush_db: float = 0.0


@dataclass
class _Odds:
    """Sources to choose from, by weight."""

    indices: list[int] = field(default_factory=list)
    cumulative: list[float] = field(default_factory=list)

    def draw(self, random: np.random.Generator) -> int:
        at = np.searchsorted(self.cumulative, random.random() * self.cumulative[-1], side="right")
        return self.indices[min(int(at), len(self.indices) - 1)]


class Recipe:
    """Draws plans; a pure function of the settings and the random generator."""

    def __init__(self, settings: DataSettings, sample_rate: int) -> None:
        self.settings = settings
        self.notes: list[str] = []
        """What of the settings cannot be done with these sources, in words."""
        voices: tuple[Kind, ...] = ("speech", "other")
        self._pools = {
            "music": self._odds(("music",)),
            "other": self._odds(voices),
            "two": self._odds(("music", *voices)),
            "three": self._odds(voices),
        }
        self._noise = self._odds(("noise",))
        self.shares = self._possible()
        """Strategy -> its share of the examples."""
        self._strategies = list(self.shares)
        self._cumulative = np.cumsum(list(self.shares.values()))
        self.noise_probability = settings.noise.probability if self._noise.indices else 0.0
        if settings.noise.probability and not self._noise.indices:
            self.notes.append("no source of kind noise: no noise is added")
        self._cutoffs = [hertz for hertz in settings.microphone.cutoffs if 0 < hertz <= 0.45 * sample_rate]
        if settings.microphone.narrow and not self._cutoffs:
            raise UsageError("microphone.cutoffs: none is between zero and 0.45 of the sample rate")

    def _odds(self, kinds: Sequence[Kind]) -> _Odds:
        chosen = [(i, source.weight) for i, source in enumerate(self.settings.sources) if source.kind in kinds]
        return _Odds([i for i, _ in chosen], np.cumsum([weight for _, weight in chosen]).tolist())

    def _possible(self) -> dict[str, float]:
        wanted = {name: getattr(self.settings.strategies, name) for name in STRATEGIES}
        possible = {name: share for name, share in wanted.items() if share > 0 and self._pools[name].indices}
        total = sum(possible.values())
        if not total:
            raise UsageError("no training example can be made: no source is of a kind that strategies ask for")
        lost = [name for name, share in wanted.items() if share > 0 and name not in possible]
        if lost:
            missing = "music" if "music" in lost else "speech or other"
            left = ", ".join(f"{name} {share / total:.2f}" for name, share in possible.items())
            self.notes.append(f"no source of kind {missing}: strategies are {left}")
        return {name: share / total for name, share in possible.items()}

    def strategy(self, random: np.random.Generator) -> str:
        at = np.searchsorted(self._cumulative, random.random() * self._cumulative[-1], side="right")
        return self._strategies[min(int(at), len(self._strategies) - 1)]

    def plan(self, random: np.random.Generator, strategy: str | None = None) -> Plan:
        """One example's, of a given strategy if one is named."""
        s, u = self.settings, random.random
        strategy = strategy or self.strategy(random)
        odds = self._pools[strategy]
        picks = tuple(
            self._pick(random, odds, random.uniform(*s.gain_db)) for _ in range({"two": 2, "three": 3}.get(strategy, 1))
        )
        values: dict[str, Any] = {}
        # The paper reverberates everything but single music.
        if u() < s.reverberation.probability and strategy != "music":
            values["room"] = u()
        if u() < self.noise_probability:
            values |= {"noise": self._pick(random, self._noise, 0.0), "snr_db": random.uniform(*s.noise.snr_db)}
        if u() < s.microphone.narrow:
            values["cutoff"] = self._cutoffs[int(u() * len(self._cutoffs))]
        if u() < s.microphone.overload:
            values |= {"overload_db": random.uniform(*s.microphone.overload_db), "overload_hard": u() < 0.5}
        if u() < s.microphone.hush:
            length, digital = random.uniform(0.2, 1), u() < 0.25
            start = random.uniform(0, 1 - length)
            attenuation = float("inf") if digital else random.uniform(*s.microphone.hush_db)
            values |= {"hush": (start, start + length), "hush_db": attenuation}
        return Plan(strategy, picks, **values)

    @staticmethod
    def _pick(random: np.random.Generator, odds: _Odds, gain_db: float) -> Pick:
        return Pick(odds.draw(random), random.random(), random.random(), gain_db)
