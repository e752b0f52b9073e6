"""A way from clients to a server that a test can break."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from tests.peers import PATIENCE_S, RunningServer


class Pipe:
    """Passes bytes on between clients and a server, and can be broken."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = _always()
        self.url = ""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, far_writer}
        with contextlib.suppress(OSError):
            await asyncio.gather(_pass_on(reader, far_writer, self._flows), _pass_on(far_reader, writer, _always()))
        self._writers -= {writer, far_writer}

    def cut(self) -> None:
        """Breaks all connections."""
        for writer in self._writers:
            writer.transport.abort()

    def stand_still(self) -> None:
        """Passes on nothing to the server until `flow`."""
        self._flows.clear()

    def flow(self) -> None:
        """Passes on what has waited, and what comes."""
        self._flows.set()


def _always() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event) -> None:
    while data := await reader.read(65_536):
        await flows.wait()
        writer.write(data)
        await writer.drain()
    writer.transport.abort()


@contextlib.asynccontextmanager
async def pipe_to(url: str) -> AsyncIterator[Pipe]:
    pipe = Pipe(int(url.rpartition(":")[2]))
    async with await asyncio.start_server(pipe.take, "127.0.0.1", 0) as server:
        pipe.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield pipe
        pipe.cut()


@contextlib.contextmanager
def pipe_beside(server: RunningServer) -> Iterator[Pipe]:
    """A pipe to a server that runs in the server's own thread; its `cut` may be called from any."""
    made = pipe_to(server.url)
    pipe = asyncio.run_coroutine_threadsafe(made.__aenter__(), server.loop).result(PATIENCE_S)
    try:
        yield pipe
    finally:
        asyncio.run_coroutine_threadsafe(made.__aexit__(None, None, None), server.loop).result(PATIENCE_S)
