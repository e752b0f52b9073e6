"""Where the time from mouth to ear goes, stage by stage, for every packet that carries a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from earshot.client.core.clock import ServerClock
from earshot.protocol.packet import TRACE_TICK_US, Trace
from numpy.typing import NDArray

STAGES = ("framing", "uplink", "encode", "server", "network", "jitter", "decode", "output")
"""In table order. For a PCM uplink encoding comes after `uplink`, for a codes uplink before it."""
TOTAL = "total"


class Stages(NamedTuple):
    """Microseconds a sample spent in each stage. They add up to play time minus capture time."""

    framing: float
    """Waiting for the last sample of its frame, and for the device's block."""
    uplink: float
    """From the speaker's side to the server, with the wait in both ends' buffers."""
    encode: float
    server: float
    """In the server, apart from encoding there."""
    network: float
    """From the server to here."""
    jitter: float
    """In the jitter buffer, until taken for decoding, or decoded ahead and waiting."""
    decode: float
    output: float
    """From decoded, or from the pull if that was later, to heard."""

    @property
    def total(self) -> float:
        return sum(self)


@dataclass(frozen=True)
class Path:
    """A packet's trace in local microseconds. A time that is not known is that of the step before
    it."""

    capture_us: int
    """When the first sample of the packet was spoken."""
    framed_us: int
    encoded_us: int
    received_us: int
    relayed_us: int
    codes_up: bool
    """Whether the speaker encoded (else the server did)."""

    @classmethod
    def of(cls, trace: Trace, clock: ServerClock, arrival_us: int) -> Path:
        """Raises UsageError before the clock's first pong."""
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
        """For a sample of the packet's first frame that was spoken at `capture_us` and is heard at
        `heard_us`."""
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


class LatencyLog:
    """The stages of the last `keep` packets played (16384 are 3.6 minutes of one speaker at a frame
    a packet)."""

    def __init__(self, keep: int = 16_384) -> None:
        self._rows: NDArray[np.float64] = np.zeros((keep, len(STAGES) + 1))
        self.added = 0
        """Packets measured since the start, those forgotten since included."""

    def __len__(self) -> int:
        return min(self.added, len(self._rows))

    def add(self, heard_us: float, stages: Stages) -> None:
        self._rows[self.added % len(self._rows)] = (heard_us, *stages)
        self.added += 1

    def rows(self) -> NDArray[np.float64]:
        """[packets, 1 + stages] in the order of playing: when heard, then the STAGES, all in
        microseconds."""
        split = self.added % len(self._rows)
        if self.added <= len(self._rows):
            return self._rows[: self.added].copy()
        return np.concatenate([self._rows[split:], self._rows[:split]])

    def percentiles(self, points: tuple[int, ...] = (50, 95, 99)) -> dict[str, dict[str, float]]:
        """{"framing": {"p50": ms, ...}, ..., "total": {...}}; {} before the first packet.
        Percentiles of stages do not add up to that of the total."""
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
        """At most `max_rows` rows for a plot: `t_s` since the first packet kept, then every stage
        and `total` in ms, averaged over the packets that share a row."""
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
