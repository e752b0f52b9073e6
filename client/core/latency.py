"""Where the time from mouth to ear goes, stage by stage, for every packet that carries a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from earshot.client.core.clock import ServerClock
from earshot.protocol.packet import TRACE_TICK_US, Trace

STAGES = ("framing", "uplink", "encode", "server", "network", "jitter", "decode", "output")
"""The stages in the order of tables. Encoding comes after `uplink` where the speaker sends PCM, and
before it where the speaker sends codes."""
TOTAL = "total"


class Stages(NamedTuple):
    """Microseconds that a sample spent in each stage. They add up to play time minus capture
    time."""

    framing: float
    """The wait for the last sample of the frame, and for the device's block."""
    uplink: float
    """The way from the speaker's side to the server, with the wait in both ends' buffers."""
    encode: float
    """Encoding, wherever that is done."""
    server: float
    """The time in the server, apart from encoding there."""
    network: float
    """The way from the server to here."""
    jitter: float
    """The wait in the jitter buffer, and that of samples which are decoded ahead."""
    decode: float
    """Decoding."""
    output: float
    """The time from decoding, or from the pull if that was later, until the sample is heard."""

    @property
    def total(self) -> float:
        """The age of the sample when it is heard."""
        return sum(self)


@dataclass(frozen=True)
class Path:
    """A packet's trace in local microseconds. Where a time is not known, the time of the step
    before stands for it."""

    capture_us: int
    """When the first sample of the packet was spoken."""
    framed_us: int
    encoded_us: int
    received_us: int
    relayed_us: int
    codes_up: bool
    """Whether the speaker encoded, not the server."""

    @classmethod
    def of(cls, trace: Trace, clock: ServerClock, arrival_us: int) -> Path:
        """Converts a trace by the server's clock. Raises UsageError before the clock's first
        pong."""
        capture = clock.from_server_wrapped(trace.capture_us, arrival_us)
        codes_up = bool(trace.encoded) and trace.encoded <= trace.received
        framed = trace.framed
        if codes_up or not trace.received:
            encoded = trace.encoded or framed
            received = trace.received or encoded
            last = received
        else:
            received = trace.received
            encoded = trace.encoded or received
            last = encoded
        relayed = trace.relayed or last
        framed, encoded, received, relayed = (
            capture + TRACE_TICK_US * tick for tick in (framed, encoded, received, relayed)
        )
        return cls(capture, framed, encoded, received, relayed, codes_up)

    def stages(
        self, capture_us: float, arrival_us: float, taken_us: float, decoded_us: float, heard_us: float
    ) -> Stages:
        """Returns the stages of a sample of the packet's first frame that was spoken at
        `capture_us` and is heard at `heard_us`."""
        if self.codes_up:
            uplink, encode = self.received_us - self.encoded_us, self.encoded_us - self.framed_us
            server = self.relayed_us - self.received_us
        else:
            uplink, encode = self.received_us - self.framed_us, self.encoded_us - self.received_us
            server = self.relayed_us - self.encoded_us
        return Stages(
            framing=self.framed_us - capture_us,
            uplink=uplink,
            encode=encode,
            server=server,
            network=arrival_us - self.relayed_us,
            jitter=taken_us - arrival_us,
            decode=decoded_us - taken_us,
            output=heard_us - decoded_us,
        )

    def stages_when_played(
        self, capture_us: float, arrival_us: int, taken_us: int, decoded_us: int, pulled_us: int, heard_us: float
    ) -> Stages:
        """Returns the stages of a sample that was decoded before the output device pulled it.

        What is decoded ahead waits in place of the jitter buffer, so that its wait counts there."""
        ahead = max(pulled_us - decoded_us, 0)
        return self.stages(capture_us, arrival_us, taken_us + ahead, decoded_us + ahead, heard_us)


class LatencyLog:
    """Keeps the stages of the last `keep` packets that were played. 16,384 packets of one frame are
    3.6 minutes of one speaker."""

    def __init__(self, keep: int = 16_384) -> None:
        self._rows: NDArray[np.float64] = np.zeros((keep, len(STAGES) + 1))
        self.added = 0
        """Packets measured since the start, with those that are forgotten by now."""

    def __len__(self) -> int:
        return min(self.added, len(self._rows))

    def add(self, heard_us: float, stages: Stages) -> None:
        """Adds a packet whose first sample is heard at `heard_us`."""
        self._rows[self.added % len(self._rows)] = (heard_us, *stages)
        self.added += 1

    def rows(self) -> NDArray[np.float64]:
        """Returns [packets, 1 + stages] in the order of playing: when each was heard, then the
        STAGES, all in microseconds."""
        split = self.added % len(self._rows)
        if self.added <= len(self._rows):
            return self._rows[: self.added].copy()
        return np.concatenate([self._rows[split:], self._rows[:split]])

    def percentiles(self, points: tuple[int, ...] = (50, 95, 99)) -> dict[str, dict[str, float]]:
        """Returns {"framing": {"p50": ms, ...}, ..., "total": {...}}, or {} before the first
        packet. The percentiles of stages do not add up to that of the total."""
        rows = self.rows()
        if not len(rows):
            return {}
        columns = np.column_stack([rows[:, 1:], rows[:, 1:].sum(axis=1)]) / 1000
        values = np.percentile(columns, points, axis=0)  # [points, stages + 1]
        return {
            name: {f"p{point}": float(values[row, column]) for row, point in enumerate(points)}
            for column, name in enumerate((*STAGES, TOTAL))
        }

    def timeline(self, max_rows: int = 500) -> list[dict[str, float]]:
        """Returns at most `max_rows` rows for a plot: `t_s` since the first packet kept, then every
        stage and `total` in ms. Packets that share a row are averaged."""
        rows = self.rows()
        if not len(rows):
            return []
        table = []
        for part in np.array_split(rows, min(max_rows, len(rows))):
            mean = part.mean(axis=0)
            stages = dict(zip(STAGES, (float(value) / 1000 for value in mean[1:]), strict=True))
            at = float(part[0, 0] - rows[0, 0]) / 1e6
            table.append({"t_s": at, **stages, TOTAL: float(mean[1:].sum()) / 1000})
        return table
