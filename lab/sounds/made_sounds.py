"""Sounds that are no speech, made from nothing. lab/training/decoder_level.py trains levels with
them.

They are noise of any colour, whistles, notes, strokes and waves with edges, at levels of -40 dBFS
to full scale; some are clipped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from earshot.codec.pcm import Pcm
from earshot.lab.evaluation.signals import at_level, clipped

RATE = 24_000
HIGHEST_HZ = 11_500.0
Maker = Callable[[Generator, int], np.ndarray]


def log_uniform(r: Generator, low: float, high: float) -> float:
    return float(np.exp(r.uniform(np.log(low), np.log(high))))


def noise(r: Generator, size: int) -> np.ndarray:
    """Makes noise: white in half of the cases, else with a spectrum that falls by up to 7 dB an
    octave or rises a little."""
    spectrum = np.fft.rfft(r.standard_normal(size))
    slope = 0.0 if r.random() < 0.45 else r.uniform(-0.3, 1.1)
    return np.fft.irfft(spectrum / np.maximum(np.fft.rfftfreq(size, 1 / RATE), 30.0) ** slope, size)


def whistles(r: Generator, size: int) -> np.ndarray:
    """Makes one to three tones of 0.8 to 8 kHz that glide and tremble, in silence."""
    t, sound = np.arange(size) / RATE, 1e-5 * r.standard_normal(size)
    for _ in range(r.integers(1, 4)):
        trembling = 1 + r.uniform(0, 0.02) * np.sin(2 * np.pi * r.uniform(3, 12) * t)
        hertz = log_uniform(r, 800, 8000) * np.exp(r.uniform(-0.4, 0.4) * t) * trembling
        start = int(r.integers(0, size // 2))
        end = int(r.integers(start + size // 8, size))
        swell = np.zeros(size)
        swell[start:end] = np.hanning(end - start) ** r.uniform(0.1, 1)
        sound += r.uniform(0.3, 1) * swell * np.sin(2 * np.pi * np.cumsum(hertz) / RATE)
    return sound


def notes(r: Generator, size: int) -> np.ndarray:
    """Makes one to three chords, plucked or held, of one to four notes with up to thirteen
    partials."""
    t, sound = np.arange(size) / RATE, np.zeros(size)
    for _ in range(r.integers(1, 4)):
        start, root, held = int(r.integers(0, size * 2 // 3)), log_uniform(r, 70, 700), r.random() < 0.4
        left = t[: size - start]
        swell = np.minimum(1, left / r.uniform(0.001, 0.03)) * (1 if held else np.exp(-r.uniform(1, 25) * left))
        for ratio in r.permutation([1, 1.189, 1.26, 1.335, 1.498, 1.782, 2])[: r.integers(1, 5)]:
            for partial in range(1, r.integers(3, 14)):
                if root * ratio * partial < HIGHEST_HZ:
                    wave = np.sin(2 * np.pi * root * ratio * partial * left + r.uniform(0, 6.28))
                    sound[start:] += partial ** -r.uniform(0.7, 1.6) * swell * wave
    return sound


def strokes(r: Generator, size: int) -> np.ndarray:
    """Makes one to six drums: noise and a tone that falls, both dying away."""
    sound = np.zeros(size)
    for _ in range(r.integers(1, 7)):
        start = int(r.integers(0, size - 400))
        left = np.arange(size - start) / RATE
        skin = np.sin(2 * np.pi * (r.uniform(40, 250) * left + r.uniform(0, 8) * (1 - np.exp(-20 * left))))
        both = r.random() * r.standard_normal(left.size) + r.random() * skin
        sound[start:] += r.uniform(0.3, 1) * np.exp(-r.uniform(8, 80) * left) * both
    return sound


def edges(r: Generator, size: int) -> np.ndarray:
    """Makes a square wave or a sawtooth."""
    turns = np.arange(size) * log_uniform(r, 80, 900) / RATE
    return np.sign(np.sin(2 * np.pi * turns)) if r.random() < 0.6 else 2 * (turns % 1) - 1


MAKERS: tuple[tuple[Maker, float], ...] = (
    (whistles, 0.12), (noise, 0.44), (notes, 0.26), (strokes, 0.11), (edges, 0.07),
)  # fmt: skip


def made_sound(r: Generator, size: int) -> Pcm:
    """Makes a sound of a random kind and level."""
    makers, shares = zip(*MAKERS, strict=True)
    maker: Maker = makers[int(r.choice(len(makers), p=shares))]
    sound = maker(r, size)
    if maker is edges:
        return np.asarray(sound * 10 ** (-r.choice([0.0, 0.0, r.uniform(0, 30)]) / 20), np.float32)
    sound = at_level(sound, r.uniform(-40, -3) if r.random() < 0.6 else r.uniform(-16, -3))
    return clipped(sound, r.uniform(3, 24)) if r.random() < 0.2 else np.asarray(np.clip(sound, -1, 1), np.float32)
