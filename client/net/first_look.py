"""Asks the servers of a call before anything is loaded, which takes seconds: that none is there, or
that a token is void, is told at once."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from earshot.client.net.websocket import Lost, open_connection, room_url
from earshot.client.net.weights import ServerModel, server_model
from earshot.codec.errors import CallError


def first_look(
    servers: Sequence[str], room: str, token: str | None, tls: ssl.SSLContext | None = None
) -> tuple[str, ServerModel] | None:
    """Returns the first server that says what its model is, and the model. Returns None where one
    is there and says nothing of models.

    Raises CallError if no server is there, or if the token lets nobody in anywhere."""
    refused: CallError | None = None
    for server in servers:
        try:
            if (model := server_model(server, token, tls)) is not None:
                return server, model
        except CallError as error:
            refused = refused or error
    if refused is not None:
        raise refused
    asyncio.run(_reach(servers, room, tls))
    return None


async def _reach(servers: Sequence[str], room: str, tls: ssl.SSLContext | None) -> None:
    """Opens a connection to one of the servers, as the call will, and closes it again."""
    last: Lost | None = None
    for server in servers:
        try:
            connection = await open_connection(room_url(server, room), tls, patient=len(servers) == 1)
        except Lost as lost:
            last = lost
        else:
            await connection.close()
            return
    if last is not None:
        raise CallError(str(last), last.code) from last
