"""The web application: rooms at `/v1/rooms/{room}`, whether it is alive, and what it does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from fastapi import FastAPI, WebSocket
from fastapi.responses import JSONResponse

from codec.bitstream import BITS
from codec.coded_link import LiveLm
from codec.config import ModelConfig
from codec.engine import choice
from codec.engine.base import Engine
from codec.errors import UsageError
from codec.model import Model
from codec.packet import MAX_CODEBOOKS
from server.connection import Connection
from server.encoder_worker import Worker
from server.hub import Hub
from server.settings import Settings
from server.worker_pool import WorkerPool, cores


def engine_factory(model: Model, settings: Settings) -> Callable[[], Engine]:
    """Makes a worker's engine, on the worker's thread. Raises UsageError for an engine that cannot be had here."""
    if settings.engine == "cuda" and settings.worker_count > 1:
        raise UsageError("the engine cuda steps all streams in one worker; leave --workers (EARSHOT_WORKERS) out")
    new_engine = choice.engine_factory(
        model, cast(choice.EngineName, settings.engine), cast(choice.Precision, settings.precision)
    )

    def make() -> Engine:
        import torch

        # For the torch engine; both hold for the calling thread. Workers are as many as cores already, and numbers too
        # small for the fast path of the processor, as fading silence makes them, would slow a step down manifold.
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        return new_engine(settings.encoders_per_worker, settings.decoders_per_worker)

    return make


def check_fits_packets(config: ModelConfig) -> None:
    """Raises UsageError for models without a stream of frames, codes of other than 10 bits, or more of them than a
    packet has codebooks."""
    config.check_streams()
    if config.bits_per_code != BITS:
        raise UsageError(f"packets hold codes of {BITS} bits; {config.name} has codebooks of {config.codebook_size}")
    if config.n_codebooks > MAX_CODEBOOKS:
        raise UsageError(f"packets hold at most {MAX_CODEBOOKS} codebooks; {config.name} has {config.n_codebooks}")


def create_app(
    model: Model,
    settings: Settings | None = None,
    make_engine: Callable[[], Engine] | None = None,
    live_lm: LiveLm | None = None,
) -> FastAPI:
    """An application that serves one model. `make_engine` replaces the engine of each worker; `live_lm` entropy-codes
    for clients that have it too.

    Raises UsageError for a model that cannot stream or whose codes packets cannot hold, and for an engine that is not
    to be had here."""
    check_fits_packets(model.config)
    settings = settings or Settings()
    make = make_engine or engine_factory(model, settings)
    frame_us, own = 1e6 / model.config.frame_rate, cores()
    workers = [
        Worker(
            make,
            model.hop_length,
            settings.encoders_per_worker,
            settings.decoders_per_worker,
            settings.encoder_backlog_frames,
            settings.max_batch,
            own[index % len(own)] if settings.pin_workers and own else None,
            settings.worker_nice,
            frame_us,
        )
        for index in range(settings.worker_count)
    ]
    hub = Hub(model.config, model.digest, settings, WorkerPool(workers, settings.late_after * frame_us), live_lm)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await hub.pool.start()
        await hub.recorder.start()
        try:
            yield
        finally:
            await hub.shut_down()
            await hub.recorder.stop()
            await hub.pool.stop()

    app = FastAPI(title="Earshot", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.hub = hub

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        if not hub.pool.alive:
            return JSONResponse({"status": "a codec worker has ended"}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/stats")
    async def stats() -> dict[str, Any]:
        return hub.stats()

    @app.websocket("/v1/rooms/{room:path}")
    async def room(websocket: WebSocket, room: str) -> None:
        await Connection(websocket, room, hub).run()

    return app
