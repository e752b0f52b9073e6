"""The networks: what the line of each client does to packets."""

from __future__ import annotations

from dataclasses import dataclass

LEAD_S = 2.0
"""Silence before the talk, in which play-out settles."""


@dataclass(frozen=True)
class Profile:
    """One network. Each client has a line of this kind to the server, both ways; what one says and
    the other hears goes over two of them."""

    key: str
    label: str
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    """Standard deviation of the delay. Packets stay in order."""
    loss: float = 0.0
    """Share of the packets that are lost, each by itself."""
    rate_kbps: float = 0.0
    """0 for more than a call could fill."""
    queue_ms: float = 2000.0
    """What waits longer than this for the rate is lost."""
    stall_every_s: float = 0.0
    stall_ms: float = 0.0
    """The line passes nothing on for so long, and then everything."""
    cut_every_s: float = 0.0
    cut_ms: float = 0.0
    """What comes in this time is lost."""
    kbps: float = 6.0
    """Codec rate of the call, and how many frames it puts into a message."""
    latency: str = "balanced"
    opus_kbps: float = 12.0

    @property
    def path_ms(self) -> float:
        """What the path from one client to the other takes by itself."""
        return 2 * self.delay_ms

    @property
    def lossless(self) -> bool:
        """Whether everything arrives in the end."""
        return not (self.loss or self.cut_ms or self.rate_kbps)


PROFILES = (
    Profile("lan", "LAN", 0.2),
    Profile("dsl", "DSL, 30 ms, 5 ms jitter", 15, 3.5),
    Profile("wifi", "Wi-Fi, bursts of 60 ms", 2, 1.5, stall_every_s=0.7, stall_ms=60),
    Profile("rtt50", "50 ms round trip", 25),
    Profile("loss1", "50 ms, 1 % loss", 25, loss=0.01),
    Profile("loss3", "50 ms, 3 % loss", 25, loss=0.03),
    Profile("4g", "4G, 0.3 s stall every 10 s", 20, 4, stall_every_s=10, stall_ms=300),
    Profile("thin", "16 kbps", 25, rate_kbps=16, kbps=3.0, latency="thrift"),
    Profile("satellite", "satellite, 200 ms", 100, 2),
    Profile("cut", "1 s cut every 15 s", 25, cut_every_s=15, cut_ms=1000),
)
