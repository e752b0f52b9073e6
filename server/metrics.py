"""What a server shows to Prometheus (docs/monitoring.md). All is read when it is asked for; nothing
names people, rooms or addresses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from earshot.protocol.close_codes import CloseCode
from earshot.server.clock import clock_us
from earshot.server.core.tally import Tally
from earshot.server.hub import Hub

PREFIX = "earshot_"
KINDS_IN = ("pcm", "codes", "windows", "control")
KINDS_OUT = ("pcm", "codes", "control")
PROTOCOL_ERRORS = {1002: "protocol_error", 1007: "invalid_data"}
"""Codes of RFC 6455 that the server itself closes with, besides those of docs/protocol.md."""


class Refuses(Protocol):
    """The door, as far as it is shown here."""

    refused: Counter[str]


class Gives(Protocol):
    """The weights, as far as they are shown here."""

    given_bytes: int


class Metrics(Collector):
    """One look at a server. For the event loop."""

    def __init__(self, hub: Hub, door: Refuses, weights: Gives) -> None:
        self._hub, self._door, self._weights = hub, door, weights

    def collect(self) -> Iterator[Metric]:
        """Yields all metrics."""
        hub = self._hub
        yield InfoMetricFamily(
            PREFIX + "model", "The codec that is served.", {"name": hub.config.name, "digest": hub.digest}
        )
        yield from self._state()
        yield from self._people()
        yield from self._media()
        yield from self._codec()
        yield from self._nodes()
        yield from self._refusals()
        recordings = hub.recorder.stats()
        yield _gauge("recordings", "Rooms that are recorded now.", recordings["active"])
        yield _counter("recorded_bytes", "Bytes of recordings written to disk.", recordings["bytes_written"])
        lost = "Frames that recordings lost because the disk was too slow or full."
        yield _counter("recorded_frames_lost", lost, recordings["frames_lost"])

    def _state(self) -> Iterator[Metric]:
        hub = self._hub
        yield _gauge("uptime_seconds", "Time since the server began.", (clock_us() - hub.started_us) / 1e6)
        yield _gauge("ready", "1 while the server takes calls (/readyz), else 0.", int(not hub.not_ready()))
        yield _gauge("faults", "Threads that are dead or stuck, and the like (/healthz).", len(hub.watchdog.faults()))
        yield _histogram("loop_lag_seconds", "How late the event loop turned, 20 times a second.", {"": hub.lag_s})

    def _people(self) -> Iterator[Metric]:
        hub = self._hub
        peers = [peer for live in hub.rooms.values() for peer in live.room.peers.values()]
        yield _gauge("connections", "Open WebSockets, those before hello too.", len(hub.connections))
        yield _gauge("rooms", "Rooms that somebody is in.", len(hub.rooms))
        speaking = Counter("windows" if peer.model else peer.send for peer in peers)
        yield _gauge("speakers", "Peers that send sound, by what they send.", _of(speaking, KINDS_IN[:3]), "kind")
        hearing = Counter(peer.want for peer in peers)
        yield _gauge("listeners", "Peers that take sound, by what they take.", _of(hearing, KINDS_OUT[:2]), "kind")

    def _media(self) -> Iterator[Metric]:
        hub = self._hub
        total = hub.totals.of_all(peer for live in hub.rooms.values() for peer in live.room.peers.values())
        for name, said in (
            ("frames_received", "Frames that came from speakers."),
            ("frames_discarded", "Those of them that came late or twice, or while muted, or were too many."),
            ("frames_sent", "Frames that went to listeners."),
            ("frames_dropped", "Frames that were dropped because their listener reads too slowly."),
            ("codebooks_cut", "Codebooks cut off frames for the same reason."),
        ):
            yield _counter(name, said, total[name])
        bytes_in = CounterMetricFamily(PREFIX + "received_bytes", "Bytes of messages, by kind.", labels=["kind"])
        bytes_out = CounterMetricFamily(PREFIX + "sent_bytes", "Bytes of messages, by kind.", labels=["kind"])
        for kind in KINDS_IN:
            bytes_in.add_metric([kind], total[f"in_{kind}"])
        for kind in KINDS_OUT:
            bytes_out.add_metric([kind], total[f"out_{kind}"])
        bytes_out.add_metric(["weights"], self._weights.given_bytes)
        yield from (bytes_in, bytes_out)
        waiting = "Age of the oldest frame that waits for a listener, of each once a second."
        yield _histogram("send_queue_seconds", waiting, {"": hub.queue_age_s})

    def _codec(self) -> Iterator[Metric]:
        pool = self._hub.pool
        stats = pool.stats()
        yield _gauge("streams", "Streams that the codec steps, by kind.", pool.streams, "kind")
        yield _gauge("more_speakers", "Speakers to encode for that would still fit.", pool.more_speakers())
        yield _gauge("codec_load", "Part of the codec workers' time that steps took lately.", stats["load"])
        yield _gauge("frames_waiting", "Frames that wait for a codec worker.", stats["frames_waiting"])
        late = "Frames whose result was not there within EARSHOT_LATE_AFTER frames."
        yield _counter("frames_late", late, pool.frames_late)
        dropped = "Frames that were dropped because the codec was behind."
        yield _counter("codec_frames_dropped", dropped, stats["frames_dropped"])
        yield _counter("codec_faults", "Steps of the codec that failed.", pool.faults)
        yield _histogram("step_seconds", "Time of a step of the codec, by kind.", pool.step_s, "kind")
        yield _histogram("step_frames", "Frames in a step of the codec, by kind.", pool.step_frames, "kind")
        yield _histogram("result_seconds", "Time from frame ready to result there.", {"": pool.result_s})

    def _nodes(self) -> Iterator[Metric]:
        """All zero where there is one node, which has no bus."""
        hub = self._hub
        stats = Counter(hub.nodes.stats())
        yield _gauge(
            "guests", "Peers in rooms by way of other nodes.", sum(len(r.room.guests) for r in hub.rooms.values())
        )
        yield _gauge("nodes", "Other nodes that are there.", stats["nodes"])
        yield _gauge("bus_up", "1 while this node is connected to the bus, else 0.", int(stats["connected"]))
        ways = {"in": stats["messages_in"], "out": stats["messages_out"]}
        yield _counters("bus_messages", "Messages of the bus, by direction.", ways, "direction")
        ways = {"in": stats["bytes_in"], "out": stats["bytes_out"]}
        yield _counters("bus_bytes", "Bytes of these messages, by direction.", ways, "direction")
        lost = {"control": stats["control_dropped"], "media": stats["media_dropped"]}
        yield _counters("bus_dropped", "What could not be sent over the bus in time, by kind.", lost, "kind")
        strange = {"bad": stats["bad"], "strange": stats["strange"]}
        yield _counters("bus_ignored", "What came over the bus and was malformed, or of nobody here.", strange, "why")

    def _refusals(self) -> Iterator[Metric]:
        named = {int(code): code.name.lower() for code in CloseCode} | PROTOCOL_ERRORS
        said = "Connections, and requests over HTTP, that ended with a close code."
        closed = CounterMetricFamily(PREFIX + "closed", said, labels=["code", "reason"])
        counted = self._hub.closed
        for code in [*named, *sorted((each for each in counted if each not in named), key=str)]:
            closed.add_metric([str(code), named.get(code, "") if isinstance(code, int) else ""], counted[code])
        yield closed
        away = CounterMetricFamily(
            PREFIX + "turned_away", "Connections and requests refused before they reached a room.", labels=["reason"]
        )
        for reason, count in sorted(self._door.refused.items()):
            away.add_metric([reason], count)
        yield away


def _of(counts: Counter[Any], kinds: tuple[str, ...]) -> dict[str, int]:
    return {kind: counts[kind] for kind in kinds}


def _gauge(name: str, said: str, value: float | Mapping[Any, int], label: str = "") -> Metric:
    if not isinstance(value, Mapping):
        return GaugeMetricFamily(PREFIX + name, said, value)
    family = GaugeMetricFamily(PREFIX + name, said, labels=[label])
    for key, each in value.items():
        family.add_metric([key], each)
    return family


def _counter(name: str, said: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, said, value)


def _counters(name: str, said: str, values: Mapping[str, int], label: str) -> Metric:
    family = CounterMetricFamily(PREFIX + name, said, labels=[label])
    for key, each in values.items():
        family.add_metric([key], each)
    return family


def _histogram(name: str, said: str, tallies: Mapping[Any, Tally], label: str = "") -> Metric:
    family = HistogramMetricFamily(PREFIX + name, said, labels=[label] if label else [])
    for key, tally in tallies.items():
        bounds = [*map(floatToGoString, tally.bounds), "+Inf"]
        buckets = list(zip(bounds, tally.cumulated(), strict=True))
        family.add_metric([key] if label else [], buckets, tally.sum)
    return family
