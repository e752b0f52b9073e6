"""Opus as calls use it, through PyAV: constant bit rate, application `voip`, complexity 10, frames
of 20 ms."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import soxr

from earshot.codec.errors import AudioError
from earshot.codec.pcm import Pcm
from earshot.lab.evaluation.systems import best_shift, shifted

PACKAGE = "av"
RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
"""What libopus takes; anything else is resampled to the last."""
DECODED_HZ = 48_000
FRAME_SECONDS = 0.02
MOST_SHIFT_SECONDS = 0.005
"""The decoder drops the encoder's announced delay (RFC 7845 pre-skip); what is left depends on the
rate and is under 0.2 ms. It is found by correlation, in favour of Opus."""


def installed() -> bool:
    return importlib.util.find_spec(PACKAGE) is not None


@dataclass(frozen=True)
class Opus:
    kbps: float
    family: str = "opus"

    def process(self, pcm: Pcm, sample_rate: int) -> Pcm:
        decoded = self.decode(*self.encode(pcm, sample_rate))
        fine = pcm if sample_rate == DECODED_HZ else soxr.resample(pcm, sample_rate, DECODED_HZ)
        late = best_shift(decoded, fine, round(MOST_SHIFT_SECONDS * DECODED_HZ))
        decoded = shifted(decoded, late, fine.size)
        if sample_rate != DECODED_HZ:
            decoded = soxr.resample(decoded, DECODED_HZ, sample_rate)
        return shifted(decoded, 0, pcm.size)

    def encode(self, pcm: Pcm, sample_rate: int) -> tuple[bytes, list[bytes]]:
        """Returns the stream's header and packets.

        There are two packets more than the sound needs, so that nothing of it stays in the
        encoder."""
        import av

        rate = sample_rate if sample_rate in RATES_HZ else RATES_HZ[-1]
        if rate != sample_rate:
            pcm = soxr.resample(pcm, sample_rate, rate)
        try:
            encoder = av.CodecContext.create("libopus", "w")
            encoder.sample_rate, encoder.layout, encoder.format = rate, "mono", "s16"
            encoder.bit_rate, encoder.time_base = round(1000 * self.kbps), Fraction(1, rate)
            encoder.options = {
                "vbr": "off",
                "application": "voip",
                "compression_level": "10",
                "frame_duration": f"{1000 * FRAME_SECONDS:g}",
            }
            encoder.open()
            size = round(FRAME_SECONDS * rate)
            samples = np.rint(np.clip(pcm, -1, 1) * 32767).astype(np.int16)
            samples = np.pad(samples, (0, 2 * size - samples.size % size))
            packets = []
            for at in range(0, samples.size, size):
                frame = av.AudioFrame.from_ndarray(samples[None, at : at + size], format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
                packets += encoder.encode(frame)
            packets += encoder.encode(None)
            return bytes(encoder.extradata or b""), [bytes(packet) for packet in packets]
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(f"Opus at {self.kbps:g} kbps: {error}") from error

    def decode(self, header: bytes, packets: list[bytes]) -> Pcm:
        """Returns the sound at DECODED_HZ."""
        import av

        try:
            decoder = av.CodecContext.create("libopus", "r")
            decoder.sample_rate, decoder.layout, decoder.extradata = DECODED_HZ, "mono", header
            decoder.open()
            frames = [frame for packet in packets for frame in decoder.decode(av.Packet(packet))]
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(f"Opus at {self.kbps:g} kbps: {error}") from error
        pieces = [frame.to_ndarray().reshape(-1).astype(np.float32) for frame in frames]
        return np.concatenate(pieces) / np.float32(32768) if pieces else np.zeros(0, np.float32)
