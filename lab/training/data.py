"""Training audio: mixed examples from folders of sound, a pure function of seed, step and rank."""

from __future__ import annotations

from collections import Counter

import numpy as np

from earshot.codec.errors import UsageError
from earshot.codec.pcm import Pcm
from earshot.codec.terminal import Terminal
from earshot.lab.sounds.made_sounds import made_sound
from earshot.lab.training.library import Library
from earshot.lab.training.microphone import hush, low_pass, overload
from earshot.lab.training.prefetch import Batches
from earshot.lab.training.recipe import DataSettings, Pick, Plan, Recipe
from earshot.lab.training.reverberation import measured_rooms, reverberate, synthesised_rooms
from earshot.lab.training.sources import UNREADABLE, Source

__all__ = ["DataSettings", "Source", "TrainingData"]

QUIETEST_RMS = 0.003
"""Crops below this are drawn again: silence teaches nothing."""

MOST_TRIES = 1000
"""Draws for one example before the audio is called silent everywhere."""

MOST_CLIPPED = 8
"""Draws that clip before one is scaled down instead."""

FULL_SCALE = 0.99
MOST_GAIN_DB = 40.0
"""Of a file's normalisation: a file with nothing but hiss is not brought to the level of speech."""


class TrainingData:
    """Draws batches as `settings` say. Raises UsageError if a source has no audio that can be read.

    `counts` says what has happened so far: examples, those drawn again because they were silent or
    clipped, those scaled down because they clipped again and again, noise left out because it was
    silent, segments that could not be read. `notes` are sentences a user should see once; with
    `progress` they are printed."""

    def __init__(
        self, settings: DataSettings, sample_rate: int, channels: int = 1, crop: int = 24_000, progress: bool = True
    ) -> None:
        if not settings.sources:
            raise UsageError(
                "no audio to train from: name folders, files or patterns as sources, as in `earshot train lite voices/`"
            )
        if channels not in (1, 2) or crop < 1:
            raise UsageError(f"cannot make crops of {crop} samples and {channels} channels")
        self.settings, self.sample_rate, self.channels, self.crop = settings, sample_rate, channels, crop
        self.recipe = Recipe(settings, sample_rate)
        self.library = Library(
            settings.sources, settings.exclude, sample_rate, channels, settings.memory_gib * 2**30, progress
        )
        self.counts: Counter[str] = Counter()
        self.notes = [*self.recipe.notes]
        self.rooms = self._rooms()
        self._note_library()
        for note in self.notes if progress else ():
            Terminal(stderr=True).say(f"note: {note}")

    @property
    def hours(self) -> float:
        return self.library.hours

    def _rooms(self) -> list[Pcm]:
        reverberation = self.settings.reverberation
        if not reverberation.probability:
            return []
        if reverberation.responses is None:
            return synthesised_rooms(self.settings.seed, reverberation.rooms, self.sample_rate, reverberation.rt60)
        rooms, left_out = measured_rooms(
            reverberation.responses, self.sample_rate, reverberation.rt60, reverberation.rooms
        )
        if left_out:
            self.notes.append(f"{left_out} impulse responses left out: damaged, or of another reverberation time")
        return rooms

    def _note_library(self) -> None:
        library = self.library
        if library.unreadable:
            some = ", ".join(file.name for file in library.unreadable[:3])
            self.notes.append(f"{len(library.unreadable)} files cannot be read and are left out: {some}")
        narrow = library.narrow_share()
        if narrow > 0.5:
            self.notes.append(
                f"{narrow:.0%} of the audio was recorded at 16 kHz or less: the codec will learn little of the treble"
            )
        if library.hours_in_memory < library.hours:
            self.notes.append(
                f"{library.hours - library.hours_in_memory:.1f} of {library.hours:.1f} hours are read from disk"
                f" as they are drawn: more than {self.settings.memory_gib:g} GiB"
            )

    # -- batches --------------------------------------------------------------

    def batch(self, size: int, seed: int, step: int, rank: int = 0) -> Pcm:
        """[size, channels, crop] in -1..1. Raises UsageError if all is silent or nothing can be
        read any more."""
        batch = np.empty((size, self.channels, self.crop), np.float32)
        for i in range(size):
            batch[i] = self.example(np.random.default_rng([seed, step, rank, i]))
        return batch

    def batches(self, size: int, seed: int, first_step: int = 0, rank: int = 0, workers: int = 0) -> Batches:
        """What `batch` gives for `first_step` and all steps after it, without end; see Batches."""
        return Batches(self, size, seed, first_step, rank, workers)

    def example(self, random: np.random.Generator) -> Pcm:
        """[channels, crop]; silent and clipped ones are drawn again, of the same strategy."""
        if self.settings.made and random.random() < self.settings.made:
            self.counts["made"] += 1
            return np.repeat(made_sound(random, self.crop)[None], self.channels, axis=0)
        strategy = self.recipe.strategy(random)
        clipped = 0
        for _ in range(MOST_TRIES):
            example = self.render(self.recipe.plan(random, strategy), random)
            if example is None:
                continue
            peak = float(np.abs(example).max())
            if peak > 1 and clipped < MOST_CLIPPED:
                clipped += 1
                self.counts["drawn again, clipped"] += 1
                continue
            self.counts["examples"] += 1
            if peak > 1:
                self.counts["scaled down"] += 1
                example *= np.float32(FULL_SCALE / peak)
            return example
        if self.counts["unreadable"]:
            raise UsageError("the training audio cannot be read any more; has a folder been moved?")
        raise UsageError("the training audio is silent nearly everywhere")

    def render(self, plan: Plan, random: np.random.Generator) -> Pcm | None:
        """The example of a plan, [channels, crop], None if a part of it is silent. `random` draws
        other noise where the planned one is silent. It may exceed full scale."""
        room = None if plan.room is None else self.rooms[int(plan.room * len(self.rooms))]
        before = 0 if room is None else room.size
        mix = np.zeros((self.channels, before + self.crop), np.float32)
        for pick in plan.picks:
            part = self._part(pick, before)
            if part is None:
                return None
            mix += part
        if room is not None:
            mix = reverberate(mix, room)[:, before:]
        if plan.noise is not None:
            mix = self._add_noise(mix, plan.noise, plan.snr_db, random)
        if plan.cutoff is not None:
            mix = low_pass(mix, plan.cutoff, self.sample_rate)
        if plan.overload_db is not None:
            mix = overload(mix, plan.overload_db, plan.overload_hard)
        if plan.hush is not None:
            mix = hush(mix, *plan.hush, plan.hush_db, self.sample_rate)
        return mix

    def _part(self, pick: Pick, before: int) -> Pcm | None:
        """[channels, before + crop] at its level, None if silent or unreadable."""
        s = self.settings
        clip = self.library.clip(pick.source, pick.clip)
        try:
            pcm = self.library.crop(pick.source, clip, pick.position, self.crop, before)
            level, peak = (1.0, 1.0) if s.normalise in ("crop_peak", "none") else self.library.level(pick.source, clip)
        except UNREADABLE:
            self.counts["unreadable"] += 1
            return None
        heard = pcm[:, before:]
        if s.normalise == "crop_peak":
            level = float(np.abs(heard).max())
        elif s.normalise == "file_peak":
            level = peak
        normal_db = 0.0 if s.normalise == "none" else min(s.level_db - 20 * np.log10(max(level, 1e-9)), MOST_GAIN_DB)
        judged_db = 20 * np.log10(max(float(np.sqrt(np.mean(heard**2))), 1e-9))
        if judged_db + (normal_db if s.normalise == "file" else 0) < s.quietest_db:
            self.counts["drawn again, silent"] += 1
            return None
        return pcm * np.float32(10 ** ((normal_db + pick.gain_db) / 20))

    def _add_noise(self, mix: Pcm, pick: Pick, snr_db: float, random: np.random.Generator) -> Pcm:
        for _ in range(10):
            clip = self.library.clip(pick.source, pick.clip)
            try:
                noise = self.library.crop(pick.source, clip, pick.position, self.crop)
            except UNREADABLE:
                self.counts["unreadable"] += 1
                noise = np.zeros_like(mix)
            power = float(np.mean(noise**2))
            if power > 1e-8:
                wanted = float(np.mean(mix**2)) * 10 ** (-snr_db / 10)
                return mix + noise * np.float32(np.sqrt(wanted / power))
            pick = Pick(pick.source, random.random(), random.random(), 0.0)
        self.counts["noise left out, silent"] += 1
        return mix
