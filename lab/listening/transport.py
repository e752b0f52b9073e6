"""HTTP of a listening test: a client that holds connections, or sends without end, keeps only its
own address waiting."""

from __future__ import annotations

from earshot.server.net.door import Door, DoorLimits, Proxies
from earshot.server.net.transport.http import PatientHttp

MAX_CONNECTIONS = 256
MAX_CONNECTIONS_PER_ADDRESS = 64
"""Far above the six connections that a browser opens."""
READ_SLICE = 4096
HEAD_S = 5.0
BODY_S = 30.0
"""Longer than the application waits for a body, which it answers when it is late."""
ANSWER_S = 120.0
"""Time that a rater has to load a sound."""


class RaterHttp(PatientHttp):
    """Requests as in front of the rooms, but with bodies."""

    def data_received(self, data: bytes) -> None:
        for at in range(0, len(data), READ_SLICE):
            if self.transport.is_closing():
                return
            super().data_received(data[at : at + READ_SLICE])

    def on_body(self, body: bytes) -> None:
        """Passes a body on: the application bounds its size and time."""
        self._head_bytes = 0
        super().on_body(body)


def rater_door() -> Door:
    """Returns the door of a listening test. Everybody behind one proxy counts as one address."""
    limits = DoorLimits(
        connections=MAX_CONNECTIONS,
        per_address=MAX_CONNECTIONS_PER_ADDRESS,
        half_made_per_address=MAX_CONNECTIONS_PER_ADDRESS,
        waiting_per_address=MAX_CONNECTIONS_PER_ADDRESS,
        interval_s=0.001,
        head_s=HEAD_S,
        body_s=BODY_S,
        answer_s=ANSWER_S,
    )
    return Door(limits, Proxies(""))


def rater_http(door: Door) -> type[RaterHttp]:
    """Returns the protocol of the connections that come by a door."""
    return type("BoundRater", (RaterHttp,), {"door": door})
