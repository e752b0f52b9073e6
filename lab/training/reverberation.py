"""Rooms: impulse responses, measured or synthesised, and their reverberation time.

A response starts with its direct sound, so that what it is convolved with stays where it was in
time, and has unit energy, so that its level stays about what it was. The reverberant signal is what
the codec has to reproduce."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from earshot.codec.audio_files import read_audio
from earshot.codec.errors import AudioError, UsageError
from earshot.codec.pcm import Pcm
from earshot.lab.training.sources import UNREADABLE, Source

SPEED_OF_SOUND = 343.0
LONGEST_S = 2.0
BEFORE_DIRECT_S = 0.0005
"""Kept before the strongest sample of a measured response: the rise of its direct sound."""


def decay_curve(response: Pcm) -> NDArray[np.float64]:
    """What is left of the energy from each sample on, in dB below the whole (Schroeder 1965)."""
    left = np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1]
    return np.asarray(10 * np.log10(np.maximum(left / max(left.max(initial=0), 1e-30), 1e-30)))


def rt60(response: Pcm, sample_rate: int) -> float:
    """Seconds in which reverberation falls by 60 dB; nan if it cannot be told.

    A line through Schroeder's curve from 5 to 25 dB (T20 of ISO 3382-1) below its level 5 ms after
    the direct sound, which a close talker's direct sound would otherwise push out of the range."""
    after = response[int(np.abs(response).argmax()) + int(0.005 * sample_rate) :] if response.size else response
    curve = decay_curve(after)
    chosen = np.flatnonzero((curve <= -5) & (curve >= -25))
    if chosen.size < 8:
        return float("nan")
    slope = np.polyfit(chosen / sample_rate, curve[chosen], 1)[0]
    return float(-60 / slope) if slope < 0 else float("nan")


def synthesise(random: np.random.Generator, sample_rate: int, seconds: float) -> Pcm:
    """The response of a box-shaped room with an RT60 of `seconds`: a talker's early reflections as
    image sources (Allen and Berkley 1979) and, from where these grow dense, noise that decays
    exponentially."""
    size = np.array([random.uniform(2.5, 9), random.uniform(2.5, 7), random.uniform(2.2, 4)])
    microphone = size * random.uniform(0.2, 0.8, 3)
    away = random.standard_normal(3)
    distance = np.exp(random.uniform(np.log(0.3), np.log(3.0)))  # metres: from a headset to across a table
    talker = np.clip(microphone + away / np.linalg.norm(away) * distance, 0.1, size - 0.1)
    volume, surface = size.prod(), 2 * (size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
    # Sabine: each reflection keeps this share of the pressure.
    reflection = np.sqrt(1 - min(0.95, 0.161 * volume / (surface * seconds)))
    direct = max(0.3, float(np.linalg.norm(talker - microphone)))
    length = int(seconds * sample_rate)
    early = np.zeros(length)
    for cell in itertools.product((-1, 0, 1), repeat=3):
        for mirrored in itertools.product((0, 1), repeat=3):
            image = 2 * np.array(cell) * size + np.where(mirrored, -talker, talker)
            bounces = sum(abs(2 * c - m) for c, m in zip(cell, mirrored, strict=True))
            distance = max(0.3, float(np.linalg.norm(image - microphone)))
            at = round((distance - direct) / SPEED_OF_SOUND * sample_rate)
            if bounces <= 3 and 0 <= at < length:
                early[at] += direct / distance * reflection**bounces
    time = np.arange(length) / sample_rate
    decay = np.exp(-3 * np.log(10) * time / seconds)
    rise = 1 - np.exp(-time / (np.sqrt(volume) / 1000))  # the mixing time is about sqrt(V / m^3) ms (Polack)
    tail = random.standard_normal(length) * decay * rise
    damping = np.exp(-2 * np.pi * random.uniform(3000, 9000) / sample_rate)  # air and walls take the treble first
    tail = signal.lfilter([1 - damping], [1, -damping], tail)
    tail /= np.sqrt(np.sum(tail**2))
    # Reverberant over direct energy is (distance / critical distance)^2, the latter 0.057 sqrt(V /
    # RT60).
    ratio = min(direct / (0.057 * np.sqrt(volume / seconds)), 3.0)
    return as_response((early + ratio * tail).astype(np.float32), sample_rate)


def as_response(measured: Pcm, sample_rate: int) -> Pcm:
    """Cut to the direct sound, of unit energy, at most LONGEST_S long; empty if silent."""
    if not measured.size or not np.abs(measured).max() > 0:
        return np.zeros(0, np.float32)
    start = max(0, int(np.abs(measured).argmax()) - int(BEFORE_DIRECT_S * sample_rate))
    cut = measured[start : start + int(LONGEST_S * sample_rate)]
    return np.asarray(cut / np.sqrt(np.sum(cut.astype(np.float64) ** 2)), np.float32)


def synthesised_rooms(seed: int, rooms: int, sample_rate: int, seconds: tuple[float, float]) -> list[Pcm]:
    """`rooms` responses with reverberation times spread evenly over `seconds`, a pure function of
    the arguments."""
    times = np.linspace(*seconds, rooms) if rooms > 1 else [sum(seconds) / 2]
    return [synthesise(np.random.default_rng([seed, i]), sample_rate, float(t)) for i, t in enumerate(times)]


def measured_rooms(pattern: str, sample_rate: int, seconds: tuple[float, float], most: int) -> tuple[list[Pcm], int]:
    """Responses among the files of `pattern` whose reverberation time lies within `seconds`, `most`
    of them spread evenly over the files, and how many files were left out because they are damaged
    or of another time. Raises UsageError if none is left."""
    files = Source(pattern).files()
    files = [files[i * len(files) // most] for i in range(most)] if len(files) > most else files
    responses = []
    for file in files:
        try:
            response = as_response(read_audio(file, sample_rate, seconds=5 * LONGEST_S), sample_rate)
        except (AudioError, *UNREADABLE):
            continue
        if seconds[0] <= rt60(response, sample_rate) <= seconds[1]:
            responses.append(response)
    if not responses:
        raise UsageError(
            f"none of the {len(files)} files under {pattern!r} is an impulse response"
            f" with a reverberation time of {seconds[0]:g} to {seconds[1]:g} s"
        )
    return responses, len(files) - len(responses)


def reverberate(pcm: Pcm, response: Pcm) -> Pcm:
    """[channels, n] in a room: same shape, aligned with the direct sound."""
    heard = signal.oaconvolve(pcm, response[None], axes=1)[:, : pcm.shape[1]]
    return np.asarray(heard, np.float32)
