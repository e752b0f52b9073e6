"""The web application: rooms at `/v1/rooms/{room}`, whether it is alive, and what it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

from fastapi import FastAPI, WebSocket

from earshot import codec
from earshot.codec.bitstream import BITS
from earshot.codec.config import ModelConfig
from earshot.codec.engine import choice
from earshot.codec.engine.base import Engine
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.weights.load import native_bytes
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.packet import MAX_CODEBOOKS
from earshot.server.core.packet_coding import StartEntropy, no_entropy
from earshot.server.encoding.pool import WorkerPool, cpu_affinity
from earshot.server.figures import Figures
from earshot.server.gate import Gate
from earshot.server.hub import Hub
from earshot.server.loop_watch import watch_loop
from earshot.server.net.connection import Connection
from earshot.server.net.door import new_door
from earshot.server.routes import drain, figures, health, page, rooms, weights
from earshot.server.routes.bearer import refuse
from earshot.server.settings import Settings


def engine_factory(model: Model, settings: Settings) -> Callable[[], Engine]:
    """Makes the engine of all workers. Raises UsageError for one that cannot be had here."""
    workers = settings.worker_count
    if settings.engine == "cuda" and workers > 1:
        raise UsageError("the engine cuda steps all streams in one worker; leave --workers (EARSHOT_WORKERS) out")
    new_engine = choice.engine_factory(
        model, cast(choice.EngineName, settings.engine), cast(choice.Precision, settings.precision)
    )
    return lambda: new_engine(settings.encoders_per_worker * workers, settings.decoders_per_worker * workers)


def check_fits_packets(config: ModelConfig) -> None:
    """Raises UsageError for models without a stream of frames, codes of other than 10 bits, or more
    of them than a packet has codebooks."""
    config.check_streams()
    if config.bits_per_code != BITS:
        raise UsageError(f"packets hold codes of {BITS} bits; {config.name} has codebooks of {config.codebook_size}")
    if config.n_codebooks > MAX_CODEBOOKS:
        raise UsageError(f"packets hold at most {MAX_CODEBOOKS} codebooks; {config.name} has {config.n_codebooks}")


def create_app(
    model: Model | None = None,
    settings: Settings | None = None,
    make_engine: Callable[[], Engine] | None = None,
    entropy: StartEntropy = no_entropy,
) -> FastAPI:
    """Returns an application that serves one model. `make_engine` replaces the workers' engine;
    `entropy` makes what entropy-codes packets, if anything does (server/entropy).

    All may be left out, for `uvicorn --factory earshot.server.app:create_app`: the environment then
    says what is to be served.

    Raises UsageError for a model that cannot stream or whose codes packets cannot hold, and for an
    engine that is not to be had here, and what `codec.load` raises."""
    settings = settings or Settings()
    model = model or codec.load(settings.model)
    check_fits_packets(model.config)
    make = make_engine or engine_factory(model, settings)
    frame_us, workers = 1e6 / model.config.frame_rate, settings.worker_count
    pool = WorkerPool(
        make,
        model.hop_length,
        settings.encoders_per_worker * workers,
        settings.decoders_per_worker * workers,
        settings.encoder_backlog_frames,
        settings.max_batch,
        settings.late_after * frame_us,
        frame_us,
        settings.worker_nice,
        cpu_affinity(workers, settings.pin_workers),
        settings.stuck_after_s,
    )
    coding = entropy(pool, settings.max_entropy_links, settings.max_address_share, frame_us)
    hub = Hub(model.config, model.digest, settings, pool, coding)
    if settings.bus.get_secret_value():
        from earshot.server.nodes.cluster import Cluster  # with NATS, which one node does not need

        hub.nodes = Cluster(hub, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await hub.pool.start()
        await hub.recorder.start()
        await hub.watchdog.start()
        await hub.nodes.start()
        tasks = [asyncio.create_task(hub.tend()), asyncio.create_task(watch_loop(hub.lag, hub.lag_s.add))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await hub.shut_down()
            await hub.nodes.stop()
            await hub.watchdog.stop()
            await hub.recorder.stop()
            await hub.pool.stop()

    app = FastAPI(title="Earshot", lifespan=lifespan, docs_url="/docs", redoc_url=None, openapi_url="/openapi.json")
    app.state.hub, app.state.figures = hub, Figures(hub)
    app.state.door, app.state.health_door = new_door(settings, hub.audit), new_door(settings, hub.audit)
    app.state.health_ports = set[int]()
    """Ports at which the figures are for everyone."""
    app.state.weights = weights.Weights(native_bytes(model), settings.weights_mb_per_second)
    app.add_middleware(Gate, settings=settings, refused=app.state.door.refuse)
    app.exception_handler(ProtocolError)(refuse)
    app.include_router(health.router)
    app.include_router(figures.router)
    app.include_router(page.router)
    app.include_router(rooms.router)
    app.include_router(weights.router)
    app.include_router(drain.router)

    @app.websocket("/v1/rooms/{room:path}")
    async def room(websocket: WebSocket, room: str) -> None:
        await Connection(websocket, room, hub).run()

    return app
