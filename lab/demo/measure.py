"""Compares what was heard with what was spoken, from the sound alone: the delay, the likeness and
what is missing.

Nothing here knows of packets or of the trace in them, so it can check their figures. The spoken
signal is cut into pieces of a second. For each piece and every delay it is computed how well the
piece fits what was heard, from log-mel spectra, which a codec keeps even where it does not keep the
waveform. The path through these delays is chosen that fits best and changes least, because a jitter
buffer stretches time a little and a stall makes the delay jump. Around the path the waveforms are
correlated, which is exact to a fraction of a sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from earshot.codec.pcm import Pcm, as_pcm, sanitize
from earshot.lab.mel import averaging_mel_filters

Array = NDArray[np.float64]

PIECE_S, PIECE_HOP_S = 1.0, 0.5
FFT, HOP_S, BANDS = 512, 0.005, 32
"""Frames of 21 ms at 24 kHz every 5 ms: short enough to see syllables, long enough for the pitch of
a voice."""
BAND_HZ = (80.0, 7000.0)
RANGE_DB = 50.0
"""What is quieter than the loudest by more than this counts as silence."""
SPEECH_DB = 30.0
"""A piece is speech if it is no more than this below the loud pieces."""
HEARD_SIMILARITY, HEARD_DB = 0.4, 20.0
"""A piece was heard if its similarity is at least this and it is at most so many dB quieter. Two
different sentences of one voice reach 0.3; the untrained codec of this project, hardly
intelligible, 0.6."""
LEAST_COVERAGE = 1 / 3
"""Where less than this was heard, the pieces that fit may do so by chance, and no delay is
named."""
WAVEFORM_HZ = (80.0, 1500.0)
"""The band in which a codec at a low rate still keeps the phase."""
WAVEFORM_SEARCH_MS = 20.0
WEAK_CORRELATION = 0.35
"""Under this a waveform's peak may be one pitch period off; the spectra then say the delay."""
EARLIEST_MS, LATEST_MS = -50.0, 2000.0
"""Sound cannot be heard before it is spoken, but a wrong clock can say so, and that must show."""


@dataclass(frozen=True)
class Piece:
    """One second of speech and where it was heard."""

    start_s: float
    """Where the piece begins in the spoken signal."""
    delay_ms: float
    correlation: float
    """The correlation of the waveforms in `WAVEFORM_HZ`, -1..1."""
    similarity: float
    """The similarity of the log-mel spectra, 0..1."""
    level_db: float
    """Heard level over spoken level."""

    @property
    def heard(self) -> bool:
        return self.similarity >= HEARD_SIMILARITY and self.level_db >= -HEARD_DB


@dataclass(frozen=True)
class Comparison:
    """`latency_ms` is the median of the pieces that were heard, `spread_ms` the distance of their
    10th from their 90th percentile; both None if too little was heard. See `similarity` and
    `coverage` for the others."""

    latency_ms: float | None
    spread_ms: float | None
    similarity: float
    coverage: float
    pieces: tuple[Piece, ...]


def correlation_latency_ms(
    spoken: Pcm, heard: Pcm, sample_rate: int, spoken_start_us: int, heard_start_us: int
) -> tuple[float | None, float | None]:
    """Returns the median delay and its spread in ms; the starts are the times of both first samples
    on one clock."""
    found = compare(spoken, heard, sample_rate, spoken_start_us, heard_start_us)
    return found.latency_ms, found.spread_ms


def similarity(spoken: Pcm, heard: Pcm, sample_rate: int = 24_000) -> float:
    """Returns how like the heard speech is to the spoken, 0..1, wherever it was heard best.

    It is the correlation of both log-mel spectrograms (32 bands of 80 to 7000 Hz, every 5 ms), each
    band less its mean, over all pieces that contain speech. 1 is the same sound; noise and other
    speech stay under 0.3. It does not notice loudness or a fixed filter."""
    return compare(spoken, heard, sample_rate).similarity


def coverage(spoken: Pcm, heard: Pcm, sample_rate: int = 24_000) -> float:
    """Returns the part of the spoken pieces (those that contain speech) that was heard, 0..1; 0 if
    nothing was spoken."""
    return compare(spoken, heard, sample_rate).coverage


def compare(
    spoken: Pcm, heard: Pcm, sample_rate: int = 24_000, spoken_start_us: int = 0, heard_start_us: int = 0
) -> Comparison:
    """Computes all of the above at once. Signals are float32 [n] of one rate; the starts are on one
    clock, in microseconds.

    Raises UsageError for arrays that are not one-dimensional."""
    # The two share a time axis afterwards: what was heard before anything was spoken is cut, a
    # later start is silence.
    late = round((heard_start_us - spoken_start_us) * sample_rate / 1e6)
    remainder_ms = (heard_start_us - spoken_start_us) / 1e3 - late * 1e3 / sample_rate
    early = round(-EARLIEST_MS * sample_rate / 1e3)
    (spoken, _), (heard, _) = sanitize(as_pcm(spoken)), sanitize(as_pcm(heard))
    reach = spoken.size + early + round(LATEST_MS * sample_rate / 1e3)
    ahead = placed(heard, late + early, reach)  # ahead[early + i] was heard when spoken[i] was spoken

    hop = round(HOP_S * sample_rate)
    said, got = _features(spoken, sample_rate, hop), _features(ahead, sample_rate, hop)
    starts = _speech(spoken, round(PIECE_S * sample_rate), round(PIECE_HOP_S * sample_rate) // hop * hop)
    if not starts or not got.any():
        return Comparison(None, None, 0.0, 0.0, tuple(_silent(start / sample_rate) for start in starts))
    length = min(round(PIECE_S * sample_rate), spoken.size)
    frames, first = length // hop, [start // hop for start in starts]
    scores = np.stack([_fit(said[a : a + frames], got[a:], _lags(hop, sample_rate)) for a in first])
    path = _smoothest(scores)

    bands = _band(spoken, sample_rate), _band(ahead, sample_rate)
    pieces, pairs = [], []
    for start, a, lag, score in zip(starts, first, path, scores, strict=True):
        pairs.append((said[a : a + frames], got[a + lag : a + lag + frames]))
        near = (lag + _parabola(score, lag)) * hop
        exact, correlation = _waveform_lag(bands[0][start : start + length], bands[1], start, near, sample_rate)
        at = exact if correlation >= WEAK_CORRELATION else near
        level = _level_db(ahead[start + round(at) :][:length]) - _level_db(spoken[start : start + length])
        delay_ms = (at - early) * 1e3 / sample_rate + remainder_ms
        pieces.append(Piece(start / sample_rate, delay_ms, correlation, max(0.0, float(score[lag])), level))
    delays = [piece.delay_ms for piece in pieces if piece.heard]
    found = len(delays) >= len(pieces) * LEAST_COVERAGE
    return Comparison(
        float(np.median(delays)) if found else None,
        float(np.subtract(*np.percentile(delays, [90, 10]))) if found else None,
        _likeness(*(np.concatenate(side) for side in zip(*pairs, strict=True))),
        len(delays) / len(pieces),
        tuple(pieces),
    )


def _lags(hop: int, sample_rate: int) -> int:
    """Returns how many delays are tried, one a hop."""
    return round((LATEST_MS - EARLIEST_MS) / 1e3 * sample_rate) // hop + 1


def _likeness(said: Array, got: Array) -> float:
    x, y = said - said.mean(axis=0), got - got.mean(axis=0)
    return max(0.0, float((x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum() + 1e-12)))


def _silent(start_s: float) -> Piece:
    return Piece(start_s, math.nan, 0.0, 0.0, -math.inf)


def placed(pcm: Pcm, at: int, size: int) -> Pcm:
    """Returns `size` samples of silence with `pcm` in it from sample `at` on, which may be
    negative."""
    out = np.zeros(size, np.float32)
    kept = pcm[max(0, -at) : max(0, size - at)]
    out[max(0, at) :][: kept.size] = kept
    return out


def _level_db(pcm: Pcm) -> float:
    return float(10 * np.log10(np.mean(np.square(pcm, dtype=np.float64)) + 1e-12)) if pcm.size else -120.0


def _speech(pcm: Pcm, length: int, hop: int) -> list[int]:
    """Returns where the pieces begin that are neither silent nor much quieter than the loud
    ones."""
    starts = list(range(0, max(1, pcm.size - length + 1), hop))
    levels = np.array([_level_db(pcm[start : start + length]) for start in starts])
    least = max(float(np.percentile(levels, 90)) - SPEECH_DB, -70.0)
    return [start for start, level in zip(starts, levels, strict=True) if level >= least]


def _features(pcm: Pcm, sample_rate: int, hop: int) -> Array:
    """Returns the log-mel spectrum [frames, bands] of `pcm`, limited to `RANGE_DB`, each band less
    its mean; frame i is centred on i * hop."""
    padded = np.pad(pcm, (FFT // 2, FFT))
    frames = sliding_window_view(padded, FFT)[: pcm.size + 1 : hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(FFT).astype(np.float32))) ** 2
    bands = power @ averaging_mel_filters(FFT, BANDS, sample_rate, *BAND_HZ).T  # [frames, bands]
    loud = float(np.percentile(bands.max(axis=1), 95))
    if loud <= 1e-9:
        return np.zeros(bands.shape)
    decibels = 10 * np.log10(np.maximum(bands, loud * 10 ** (-RANGE_DB / 10)))
    sounding = bands.max(axis=1) > loud * 10 ** (-RANGE_DB / 10)  # so that silence around a clip does not shift it
    return np.asarray(decibels - decibels[sounding].mean(axis=0), np.float64)


def _fit(piece: Array, ahead: Array, lags: int) -> Array:
    """Correlates a piece [frames, bands] with what was heard, for each of `lags` delays in hops."""
    frames = len(piece)
    ahead = np.pad(ahead, ((0, max(0, frames + lags - len(ahead))), (0, 0)))[: frames + lags - 1]
    windows = sliding_window_view(ahead, frames, axis=0)  # [lags, bands, frames]
    products = np.tensordot(windows, piece.T, axes=2)
    energy = np.cumsum(np.concatenate([[0.0], np.square(ahead).sum(axis=1)]))
    norms = np.sqrt((energy[frames:] - energy[:-frames]) * np.square(piece).sum())
    return np.asarray(products / np.maximum(norms, 1e-6))


def _smoothest(scores: Array) -> list[int]:
    """Chooses the lag of each piece [pieces, lags] such that the scores, less the cost of changes,
    are highest (Viterbi).

    A change costs 0.01 a millisecond and at most 1: drift is nearly free, a jump must explain two
    pieces or more."""
    lags = np.arange(scores.shape[1])
    cost = np.minimum(np.abs(lags[:, None] - lags) * (HOP_S * 1e3 * 0.01), 1.0)
    total, back = scores[0], []
    for score in scores[1:]:
        candidates = total - cost  # [to, from]
        back.append(candidates.argmax(axis=1))
        total = score + candidates.max(axis=1)
    path = [int(total.argmax())]
    for pointers in reversed(back):
        path.append(int(pointers[path[-1]]))
    return path[::-1]


def _parabola(values: Array, peak: int) -> float:
    """Returns where between its neighbours a peak really is, -0.5..0.5."""
    if not 0 < peak < len(values) - 1:
        return 0.0
    left, middle, right = values[peak - 1 : peak + 2]
    bend = left - 2 * middle + right
    return float(np.clip((left - right) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def _band(pcm: Pcm, sample_rate: int) -> Array:
    """Returns the signal within `WAVEFORM_HZ`, with edges half an octave wide and no change of
    phase."""
    size = 1 << max(1, (pcm.size + 1).bit_length())
    hertz = np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), 1e-3)
    low, high = (np.log2(hertz / edge) * 2 for edge in WAVEFORM_HZ)
    gain = np.clip(0.5 + low, 0, 1) * np.clip(0.5 - high, 0, 1)
    return np.asarray(np.fft.irfft(np.fft.rfft(pcm, size) * gain, size)[: pcm.size])


def _waveform_lag(piece: Array, heard: Array, start: int, near: float, sample_rate: int) -> tuple[float, float]:
    """Returns the lag in samples, within `WAVEFORM_SEARCH_MS` of `near`, at which the waveforms
    correlate best, and how well they do.

    Nearer lags are preferred a little, so that of two pitch periods the right one is taken."""
    reach = round(WAVEFORM_SEARCH_MS * sample_rate / 1e3)
    first = max(0, round(near) - reach)
    region = heard[start + first : start + first + piece.size + 2 * reach]
    if region.size <= piece.size:
        return near, 0.0
    size = 1 << (region.size + piece.size).bit_length()
    products = np.fft.irfft(np.fft.rfft(region, size) * np.conj(np.fft.rfft(piece, size)), size)
    products = products[: region.size - piece.size + 1]
    energy = np.cumsum(np.concatenate([[0.0], region**2]))
    norms = np.sqrt((energy[piece.size :] - energy[: -piece.size]) * (piece**2).sum())
    correlation = products / np.maximum(norms, 1e-9)
    distance = (np.arange(correlation.size) + first - near) / reach
    peak = int(np.argmax(correlation - 0.1 * distance**2))
    return first + peak + _parabola(correlation, peak), float(correlation[peak])
