"""Measures how late the event loop turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from earshot.server.clock import clock_us
from earshot.server.core.lag import Lag

INTERVAL_S = 0.05


async def watch_loop(lag: Lag, seen: Callable[[float], None]) -> None:
    """Tells `lag`, and `seen` in seconds, how late this task is woken, until it is cancelled."""
    while True:
        due_us = clock_us() + int(INTERVAL_S * 1e6)
        await asyncio.sleep(INTERVAL_S)
        now_us = clock_us()
        late_us = max(0, now_us - due_us)
        lag.add(late_us, now_us)
        seen(late_us / 1e6)
