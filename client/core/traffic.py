"""What a stream costs: its codec rate beside its wire rate, which may be several times higher."""

from __future__ import annotations

from collections import deque

MESSAGE_OVERHEAD_BYTES = 76
"""Headers of a message: IPv4 20, TCP with time stamps 32, TLS 1.3 record 22, WebSocket 2."""
MASK_BYTES = 4
"""What a message from a client has beside these, and one of more than 125 bytes half of it."""
WINDOW_US = 2_000_000
"""How far back the recent rates look."""


def wire_size(message_bytes: int, masked: bool) -> int:
    """Returns what a message takes on the wire; those of clients are masked."""
    longer = 2 if message_bytes > 125 else 0
    return message_bytes + MESSAGE_OVERHEAD_BYTES + longer + (MASK_BYTES if masked else 0)


class WireMeter:
    """Counts all that goes one way through one WebSocket, control messages too, with an estimate of
    the headers of the network. `masked` is the way from a client to a server."""

    def __init__(self, masked: bool, window_us: int = WINDOW_US) -> None:
        self.messages = self.bytes = 0
        self._masked, self._window_us = masked, window_us
        self._recent: deque[tuple[int, int]] = deque(maxlen=4096)

    def add(self, now_us: int, message_bytes: int) -> None:
        """Counts one message."""
        size = wire_size(message_bytes, self._masked)
        self.messages += 1
        self.bytes += size
        self._recent.append((now_us, size))
        while now_us - self._recent[0][0] > self._window_us:
            self._recent.popleft()

    def recent_kbps(self, now_us: int) -> float:
        """Returns the bits a second over the last two seconds. It is less than the true rate in
        the first two."""
        recent = sum(size for at, size in list(self._recent) if now_us - at <= self._window_us)
        return recent * 8000 / self._window_us


class Traffic:
    """Counts messages and bytes in one direction, in all and over the last two seconds.

    `codec` is what the codec made (codes or PCM). `wire` is that with Earshot's headers and an
    estimate of those of the network."""

    def __init__(self, sample_rate: int, window_us: int = WINDOW_US) -> None:
        self._sample_rate = sample_rate
        self._window_us = window_us
        self._recent: deque[tuple[int, int, int, int]] = deque(maxlen=4096)
        self._recent_bits = self._recent_samples = 0
        self.messages = 0
        self.frames = 0
        self.samples = 0
        self.codec_bits = 0
        """Bits that the codec made, without those that fill up the last byte of a packet."""
        self.wire_bytes = 0

    def add(self, now_us: int, frames: int, samples: int, codec_bits: int, message_bytes: int) -> None:
        """Counts one message of `message_bytes`, whose frames have `samples` samples in all. A part
        of a message that is counted elsewhere has 0 message bytes."""
        wire = message_bytes + MESSAGE_OVERHEAD_BYTES if message_bytes else 0
        self.messages += message_bytes > 0
        self.frames += frames
        self.samples += samples
        self.codec_bits += codec_bits
        self.wire_bytes += wire
        if len(self._recent) == self._recent.maxlen:
            self._drop_oldest()
        self._recent.append((now_us, samples, codec_bits, wire))
        self._recent_samples += samples
        self._recent_bits += codec_bits
        self._forget(now_us)

    @property
    def payload_bytes(self) -> int:
        """`codec_bits`, in whole bytes."""
        return self.codec_bits // 8

    @property
    def codec_kbps(self) -> float:
        """Codec bits a second of audio since the start, 0 before the first frame."""
        return self._rate(self.codec_bits, self.samples)

    @property
    def wire_kbps(self) -> float:
        """Bits on the wire a second of audio since the start, 0 before the first frame."""
        return self._rate(self.wire_bytes * 8, self.samples)

    @property
    def recent_codec_kbps(self) -> float:
        """Codec bits a second of audio over the last two seconds that had any, 0 before the first
        frame."""
        return self._rate(self._recent_bits, self._recent_samples)

    def recent_wire_kbps(self, now_us: int) -> float:
        """Returns the bits on the wire a second of time over the last two seconds. It is less than
        the true rate in the first two seconds."""
        recent = sum(wire for at, _, _, wire in list(self._recent) if now_us - at <= self._window_us)
        return recent * 8000 / self._window_us

    def recent_codec_kbps_of_time(self, now_us: int) -> float:
        """Returns the codec bits a second of time over the last two seconds, in the same way."""
        recent = sum(bits for at, _, bits, _ in list(self._recent) if now_us - at <= self._window_us)
        return recent * 1000 / self._window_us

    def _rate(self, bits: int, samples: int) -> float:
        return bits * self._sample_rate / samples / 1000 if samples else 0.0

    def _forget(self, now_us: int) -> None:
        while self._recent and now_us - self._recent[0][0] > self._window_us:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, samples, bits, _ = self._recent.popleft()
        self._recent_samples -= samples
        self._recent_bits -= bits
