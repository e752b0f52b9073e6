"""Whoever is told what happens in a room."""

from __future__ import annotations

from typing import Protocol

from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.messages import ServerMessage


class Recipient(Protocol):
    """The connection of one client, as the rooms see it."""

    @property
    def address(self) -> str:
        """The network address of the client."""
        ...

    def tell(self, message: ServerMessage) -> None:
        """Queues a control message."""
        ...

    def wake(self) -> None:
        """Says that there is something in the send queue of this client."""
        ...

    def fail(self, error: ProtocolError) -> None:
        """Ends this connection soon, with this error."""
        ...
