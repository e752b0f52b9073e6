"""HTTP of a listening test: a client that holds connections, or sends without end, keeps only its
own address waiting."""

from __future__ import annotations

import asyncio

from earshot.server.net.transport import PatientHttp
from earshot.server.settings import Settings

MAX_CONNECTIONS = 256
MAX_CONNECTIONS_PER_ADDRESS = 64
"""Far above the six connections that a browser opens."""
READ_SLICE = 4096


class RaterHttp(PatientHttp):
    """Requests as in front of the rooms, but with bodies."""

    settings = Settings.model_construct(max_connections=MAX_CONNECTIONS // 2)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client and self.client[0]
        others = (getattr(other, "client", None) for other in self.connections)
        if [client and client[0] for client in others].count(address) > MAX_CONNECTIONS_PER_ADDRESS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        for at in range(0, len(data), READ_SLICE):
            if self.transport.is_closing():
                return
            super().data_received(data[at : at + READ_SLICE])

    def on_body(self, body: bytes) -> None:
        """Passes a body on: the application bounds its size and time."""
        self._head_bytes = 0
        super().on_body(body)
