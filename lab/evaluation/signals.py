"""Sounds that are no clean speech, computed from formulas and a seed. All are float32 [n]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from earshot.codec.pcm import Pcm

VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))
"""First three formants in Hz of a, i, u and e of men (Peterson and Barney 1952)."""
CHORDS = ((220.0, 277.18, 329.63), (293.66, 369.99, 440.0), (164.81, 207.65, 246.94, 329.63), (196.0, 246.94, 293.66))
BEATS_A_SECOND = 2


def at_level(sound: NDArray[np.floating], dbfs: float) -> Pcm:
    """Scales a sound to an RMS of `dbfs` (0 dBFS is an RMS of 1); peaks may be over 1."""
    loud = np.sqrt(np.mean(np.square(sound, dtype=np.float64)))
    return np.asarray(sound * (10 ** (dbfs / 20) / loud), np.float32)


def silence(sample_rate: int, seconds: float) -> Pcm:
    return np.zeros(round(sample_rate * seconds), np.float32)


def white_noise(sample_rate: int, seconds: float, dbfs: float, seed: int = 0) -> Pcm:
    return at_level(np.random.default_rng(seed).normal(size=round(sample_rate * seconds)), dbfs)


def chords(sample_rate: int, seconds: float, dbfs: float) -> Pcm:
    """Makes plucked chords of decaying harmonics, one a second."""
    t = np.arange(round(sample_rate * seconds)) / sample_rate
    sound = np.zeros(t.size)
    for index in range(int(np.ceil(seconds))):
        since = np.maximum(t - index, 0)
        decay = np.where(t >= index, np.exp(-3 * since) * np.minimum(1, since / 0.005), 0)
        for note in CHORDS[index % len(CHORDS)]:
            for harmonic in range(1, 9):
                if note * harmonic < sample_rate / 2:
                    sound += decay / harmonic * np.sin(2 * np.pi * note * harmonic * since)
    return at_level(sound, dbfs)


def drums(sample_rate: int, seconds: float, dbfs: float, seed: int = 0) -> Pcm:
    """Makes a bass drum, a snare and a hi-hat in turn: tones that fall and bursts of noise."""
    random = np.random.default_rng(seed)
    t = np.arange(round(sample_rate * seconds)) / sample_rate
    sound = np.zeros(t.size)
    for beat in range(round(seconds * BEATS_A_SECOND * 2)):
        start = beat / (2 * BEATS_A_SECOND)
        since = np.maximum(t - start, 0)
        struck = t >= start
        noise = random.normal(size=t.size)
        if beat % 4 == 0:
            sound += struck * np.exp(-12 * since) * np.sin(2 * np.pi * (50 * since + 6 * (1 - np.exp(-20 * since))))
        elif beat % 4 == 2:
            sound += struck * np.exp(-18 * since) * (0.5 * noise + 0.5 * np.sin(2 * np.pi * 190 * since))
        else:
            sound += struck * np.exp(-60 * since) * 0.4 * np.diff(noise, prepend=0.0)
    return at_level(sound, dbfs)


def voice(sample_rate: int, seconds: float, dbfs: float, hertz: float = 120.0) -> Pcm:
    """Makes vowels of a pulse train through three formants, four a second, with pauses between
    them."""
    t = np.arange(round(sample_rate * seconds)) / sample_rate
    phase = np.cumsum(hertz * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t))) / sample_rate
    pulses = np.diff(np.floor(phase), prepend=0.0)
    spoken = np.zeros(t.size)
    for index in range(int(np.ceil(4 * seconds))):
        window = np.clip(np.minimum(t - index / 4, (index + 0.8) / 4 - t) / 0.02, 0, 1)
        sound = pulses
        for formant in VOWELS[index % len(VOWELS)]:
            radius = np.exp(-np.pi * 90 / sample_rate)
            sound = lfilter(
                [1 - radius], [1, -2 * radius * np.cos(2 * np.pi * formant / sample_rate), radius**2], sound
            )
        spoken += window * sound
    return at_level(spoken, dbfs)


def clipped(sound: Pcm, boost_db: float) -> Pcm:
    """Drives a sound `boost_db` into the limits of -1..1, as an overloaded microphone does."""
    return np.asarray(np.clip(sound * 10 ** (boost_db / 20), -1, 1), np.float32)
