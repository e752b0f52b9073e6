"""A stereo model that tests can see through: one-second windows whose sound says which codes it was
made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from earshot.client.core.clock import ServerClock
from earshot.codec.bitstream import Window, pack
from earshot.codec.errors import UsageError
from earshot.codec.pcm import Pcm
from earshot.protocol.messages import Pong, WindowModel
from earshot.protocol.packet import Packet, Trace
from earshot.protocol.sequence import CLOCK_MODULUS, SEQUENCE_MODULUS, TIMESTAMP_MODULUS

RATE, HOP, FRAMES = 48_000, 320, 150
WINDOW, STRIDE = FRAMES * HOP, 47_520
MODEL = WindowModel(
    **{"name": "see_through", "digest": "f" * 16, "sample_rate": RATE, "channels": 2, "hop_length": HOP},
    **{"n_codebooks": 16, "bandwidths": [3.0, 6.0, 12.0, 24.0], "window_frames": FRAMES, "window_stride": STRIDE},
)
OFFSET_US = CLOCK_MODULUS - 6_000_000
"""The server's clock minus ours."""


def us(samples: float) -> int:
    return round(samples * 1e6 / RATE)


def known_clock() -> ServerClock:
    clock = ServerClock()
    clock.ping(1_000)
    clock.pong(Pong(ping_us=1_000, received_us=1_000 + OFFSET_US, sent_us=1_000 + OFFSET_US), 1_000)
    return clock


class LevelDecoder:
    """The left channel is the first code in thousandths times the scale, the right one half of
    that. As the real one does, it holds what the next window covers too, and takes nothing after a
    window that is shorter than a stride."""

    def __init__(self, channels: int = 2) -> None:
        self.channels = channels
        self.resets = 0
        self._held: Pcm = np.zeros((channels, 0), np.float32)
        self._ended = False

    def push(self, windows: list[Window], /) -> Pcm:
        parts = [np.zeros((self.channels, 0), np.float32)]
        for window in windows:
            if self._ended:
                raise UsageError("a window after the last of a stream")
            level = np.repeat(window.codes[0] / 1000, HOP).astype(np.float32) * np.float32(window.scale or 1)
            pcm = np.stack([level, level / 2])[: self.channels]
            pcm[:, : self._held.shape[1]] = self._held
            self._ended = pcm.shape[1] < STRIDE
            parts.append(pcm[:, :0] if self._ended else pcm[:, :STRIDE])
            self._held = pcm if self._ended else pcm[:, STRIDE:]
        return np.concatenate(parts, axis=1)

    def flush(self) -> Pcm:
        rest, self._held = self._held, self._held[:, :0]
        self._ended = True
        return rest

    def reset(self) -> None:
        self.resets += 1
        self._held, self._ended = self._held[:, :0], False


class LevelEncoder:
    """The reverse: the first code of each frame is its mean on the left in thousandths, the others
    are the rate."""

    def __init__(self) -> None:
        self.kbps = 6.0
        self._held: Pcm = np.zeros((2, 0), np.float32)
        self._ended = False

    def push(self, pcm: Pcm, /) -> list[Window]:
        assert not self._ended
        self._held = np.concatenate([self._held, np.broadcast_to(pcm, (2, pcm.shape[-1]))], axis=1)
        windows = []
        while self._held.shape[1] >= WINDOW:
            windows.append(self._code())
        return windows

    def flush(self) -> list[Window]:
        windows = []
        while self._held.shape[1]:
            windows.append(self._code())
        self._ended = True
        return windows

    def reset(self) -> None:
        self._held, self._ended = self._held[:, :0], False

    def _code(self) -> Window:
        part, self._held = self._held[:, :WINDOW], self._held[:, STRIDE:]
        frames = -(-part.shape[1] // HOP)
        codes = np.full((int(self.kbps / 1.5), frames), round(self.kbps), np.int16)
        codes[0] = [np.rint(1000 * part[0, at : at + HOP].mean()) for at in range(0, part.shape[1], HOP)]
        return Window(codes, 0.5)


def packet(number: int, code: int, source: int = 1, frames: int = FRAMES, **changes: object) -> Packet:
    """Window `number` of a stream, all of one code."""
    codes: NDArray[np.int16] = np.full((2, frames), code, np.int16)
    made = Packet(
        *codes.shape,
        (number * FRAMES) % SEQUENCE_MODULUS,
        (number * STRIDE) % TIMESTAMP_MODULUS,
        pack(codes),
        source=source,
        scale=1.0,
    )
    return made._replace(**changes)  # type: ignore[arg-type]


def trace_of(captured_us: int, framed_us: int, encoded_us: int, received_us: int, relayed_us: int) -> Trace:
    """Of times on our clock."""
    first = (captured_us + OFFSET_US) % CLOCK_MODULUS
    return Trace(first, *((at - captured_us) // 100 for at in (framed_us, encoded_us, received_us, relayed_us)))
