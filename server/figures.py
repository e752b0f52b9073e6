"""What `/stats` shows to anyone: no names of peers, and none of rooms, which are the only key to
them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from earshot.server.clock import clock_us
from earshot.server.hub import Hub


class Figures:
    """The figures of a server as JSON, made once for all who ask within `stats_age_s`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._rendered = b""
        self.rendered_us: int | None = None
        """When they were last made."""

    def rendered(self, more: Callable[[], dict[str, Any]] = dict) -> bytes:
        """Returns them and `more` as JSON, not older than a setting says."""
        now_us = clock_us()
        if self.rendered_us is None or now_us - self.rendered_us >= self._hub.settings.stats_age_s * 1e6:
            self._rendered = json.dumps(figures(self._hub) | more(), separators=(",", ":")).encode()
            self.rendered_us = now_us
        return self._rendered


def figures(hub: Hub) -> dict[str, Any]:
    """Returns the figures of this moment."""
    now = clock_us()
    return {
        "uptime_s": round((now - hub.started_us) / 1e6, 1),
        "cpu_s": round(time.process_time(), 3),
        "model": {"name": hub.config.name, "digest": hub.digest},
        "frame": {"sample_rate": hub.config.sample_rate, "samples": hub.config.hop_length},
        "connections": len(hub.connections),
        "addresses": len(hub.addresses),
        "closed": {str(code): hub.closed[code] for code in sorted(hub.closed, key=str)},
        "changes": dict(hub.change_counts),
        "rooms": [live.stats(now) for live in hub.rooms.values()],
        "seats": {"away": len(hub.seats), "resumed": hub.seats.resumed, "expired": hub.seats.expired},
        "more_speakers": hub.pool.more_speakers(),
        "workers": hub.pool.stats(),
        "entropy": hub.entropy.stats(),
        "recordings": hub.recorder.stats(),
        "watchdog": hub.watchdog.stats(),
        "nodes": hub.nodes.stats(),
    }
