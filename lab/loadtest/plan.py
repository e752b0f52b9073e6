"""The steps of a load test, the results of each, and the end of the test. There is no clock and no
process here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from earshot.lab.loadtest.tally import Tally, percentile_ms

STARVED_MS = 3.0
"""A generator that sends later than this, at p99, did not get the processor it needs."""


@dataclass(frozen=True)
class Plan:
    """How many speakers, for how long. Speakers come in pairs, each the other's listener."""

    first: int = 20
    last: int = 240
    step: int = 20
    seconds: float = 10.0
    kbps: float = 6.0

    def steps(self) -> list[int]:
        """Returns the numbers of speakers, each made even."""
        return [count + count % 2 for count in range(self.first, self.last + 1, self.step)]


@dataclass(frozen=True)
class Row:
    """The results of one step. Times are milliseconds, shares of a processor 1.0 for one core."""

    speakers: int
    """How many spoke; fewer than were wanted where the server refused."""
    added_p50: float | None
    """From a frame's last sample sent to its packet in the listener's socket; `Tally.added`."""
    added_p95: float | None
    added_p99: float | None
    inside_p99: float | None
    heard: int
    lost: int
    server_cpu: float | None
    generator_cpu: float
    late_p99: float | None
    batch_mean: float | None
    slack_p50: float | None
    slack_p99: float | None
    refused: str = ""
    closed: str = ""

    def fault(self, frame_ms: float) -> str:
        """Says why this step is one too many; "" if it is not."""
        if self.closed:
            return f"closed: {self.closed}"
        if self.lost or not self.heard:
            return f"{self.lost} frames lost" if self.heard else "nothing was heard"
        if self.added_p99 is None or self.added_p99 >= frame_ms:
            return f"p99 is not below {frame_ms:.1f} ms"
        return ""

    @property
    def starved(self) -> bool:
        """Returns whether the generator, not the server, may have been slow."""
        return self.late_p99 is not None and self.late_p99 > STARVED_MS


@dataclass
class Findings:
    """The results of a whole test."""

    model: str
    digest: str
    kbps: float
    frame_ms: float
    cores: int
    rows: list[Row] = field(default_factory=list)

    @property
    def held(self) -> int:
        """Returns the most speakers that were all heard in time; 0 if not even the first step's
        were."""
        good = [row.speakers for row in self.rows if not row.fault(self.frame_ms)]
        return max(good, default=0)

    @property
    def refused_above(self) -> int | None:
        """Returns how many spoke when the server refused another; None if it never did."""
        return next((row.speakers for row in self.rows if row.refused), None)

    @property
    def over(self) -> bool:
        """Returns whether a further step would tell nothing."""
        return bool(self.rows) and bool(self.rows[-1].fault(self.frame_ms) or self.rows[-1].refused)

    def to_json(self) -> dict[str, Any]:
        rows = [asdict(row) | {"fault": row.fault(self.frame_ms), "starved": row.starved} for row in self.rows]
        about = {name: getattr(self, name) for name in ("model", "digest", "kbps", "frame_ms", "cores", "held")}
        return {**about, "rows": rows}


def row_of(
    speakers: int,
    tally: Tally,
    reports: Sequence[Mapping[str, Any]],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    refused: str,
) -> Row:
    """Makes a row from the counts of listeners, the reports of generators and `/stats` before and
    after."""
    workers, earlier = after["workers"], before["workers"]
    steps, frames = (workers[key] - earlier[key] for key in ("steps", "frames"))
    elapsed = after["uptime_s"] - before["uptime_s"]
    closed = [reason for report in reports for reason in report["closed"]]
    return Row(
        speakers=speakers,
        added_p50=percentile_ms(tally.added, 0.5),
        added_p95=percentile_ms(tally.added, 0.95),
        added_p99=percentile_ms(tally.added, 0.99),
        inside_p99=percentile_ms(tally.inside, 0.99),
        heard=tally.heard,
        lost=tally.lost,
        server_cpu=(after["cpu_s"] - before["cpu_s"]) / elapsed if elapsed > 0 and "cpu_s" in after else None,
        generator_cpu=sum(report["cpu"] for report in reports),
        late_p99=percentile_ms(tally.late, 0.99),
        batch_mean=frames / steps if steps else None,
        slack_p50=workers["slack_ms"]["p50"],
        slack_p99=workers["slack_ms"]["p99"],
        refused=refused,
        closed=f"{len(closed)}, first with {closed[0]}" if closed else "",
    )
