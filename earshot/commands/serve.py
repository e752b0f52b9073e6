"""The command `earshot serve`; imports the rest when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from earshot.codec.errors import UsageError
from earshot.codec.targets import check_apart, is_special
from earshot.codec.terminal import Terminal
from earshot.commands.checks import check_address, check_file
from earshot.commands.progress import LOADING
from earshot.commands.targets import check_names


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 takes calls from other machines too.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one and prints it.")] = 8765,
    health_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="A second port, for health and figures alone.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The codec of those who talk: default, encodec_24khz or a path.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="auto (native or torch), torch, native (C++) or cuda (one NVIDIA GPU).")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, exact; native has bf16 and int8 too, cuda bf16 and fp16.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Encoder threads; 0 makes one for each core, one for a GPU.")] = 0,
    lm_model: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Language model for `call --entropy lm`; the default model has its own."),
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written once calls are taken: JSON with url, port, model and digest.")
    ] = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Let in only those who have a token; see: earshot token.")
    ] = False,
    token_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Key for tokens: a secret, or Ed25519 in PEM; the user's own if not given."),
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Let everyone in, also where others reach this server; with no warning.")
    ] = False,
    tls: Annotated[
        str, typer.Option(metavar="FILE", help="Certificate in PEM, for calls at wss://; or: self-signed.")
    ] = "",
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Key of the certificate, if that has a file of its own.")
    ] = None,
    record: Annotated[
        str | None,
        typer.Option(
            metavar="ROOMS",
            help="Record these rooms: names or patterns, with commas between ('den,team-*'). Peers are told.",
        ),
    ] = None,
    record_on_request: Annotated[
        bool, typer.Option("--record-on-request", help="Let anybody begin and end a recording of the own room.")
    ] = False,
    record_to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where recordings go; see: earshot export.")
    ] = None,
    record_kbps: Annotated[
        float | None, typer.Option(min=0.1, help="Keep at most this rate of each speaker; all that comes if not given.")
    ] = None,
    bus: Annotated[
        str,
        typer.Option(metavar="URL", help="NATS, over which several servers serve the same rooms: nats://HOST:4222."),
    ] = "",
    node: Annotated[str, typer.Option(help="This server's name on the bus; made from the host's if not given.")] = "",
    public_url: Annotated[
        str, typer.Option(metavar="URL", help="Where clients reach this one of several servers: ws(s)://HOST.")
    ] = "",
    log_level: Annotated[
        str | None,
        typer.Option(help="debug, info (joins, leaves, refusals, recordings), warning or error; info if not given."),
    ] = None,
) -> None:
    """Run a server: people who call the same room name hear each other.

    It prints one line when it is ready. `earshot call ROOM --server URL` calls
    it, `URL/stats` (with http for ws) shows what it does, Ctrl-C or SIGTERM ends
    it after everyone was told. Every limit is an environment variable, for one
    EARSHOT_MAX_PEERS_PER_ROOM=8; docs/deploy.md tells of them, of TLS and of
    calls over the internet.

    \b
    earshot serve                                 for this machine
    earshot serve --host 0.0.0.0 --tokens         for those whom you invite:
    earshot token kitchen --name Ada --for 1h     prints a link for Ada
    """
    from earshot.codec.weights.shape import shape_of

    if ready_file is not None:  # an old one is replaced, as it should be
        check_names(figures=ready_file)
        check_apart([ready_file], [Path(name) for name in (model, lm_model, token_key) if name])
        if is_special(ready_file) or ready_file.is_dir():
            raise UsageError(f"{ready_file} is no file that could be replaced; choose another --ready-file")

    check_file(lm_model)
    check_file(token_key, "key")
    if model:
        shape_of(model)
    check_address(host, port, health_port)
    if ready_file is not None and not ready_file.parent.is_dir():
        raise UsageError(f"there is no folder {ready_file.parent}; choose another --ready-file")

    from pydantic import ValidationError

    from earshot import codec
    from earshot.codec.engine.choice import live_lm_if_any
    from earshot.server.app import create_app
    from earshot.server.audit import logging_to_stderr
    from earshot.server.core.packet_coding import no_entropy
    from earshot.server.entropy.coded_connections import entropy_by
    from earshot.server.net.serve import serve as run_server
    from earshot.server.settings import Settings

    try:
        given: dict[str, Any] = {
            "model": model,
            "engine": engine,
            "precision": precision,
            "workers": workers,
            "tokens": tokens,
            "token_key_file": token_key,
            "open": open_,
            "tls": tls,
            "tls_key": tls_key,
            "record_rooms": record,
            "record_on_request": record_on_request,
            "record_to": record_to,
            "record_max_kbps": record_kbps,
            "bus": bus,
            "node": node,
            "public_url": public_url,
            "log_level": log_level,
        }
        given = {name: value for name, value in given.items() if value}
        if health_port is not None:
            given["health_port"] = health_port
        settings = Settings(**given)  # the environment sets the rest
    except ValidationError as error:
        first = error.errors()[0]
        name = "EARSHOT_" + "_".join(str(part) for part in first["loc"]).upper()
        raise UsageError(f"{name}: {first['msg']}") from error
    with logging_to_stderr(settings.log_level):
        with Terminal(stderr=True).waiting(LOADING):
            loaded = codec.load(settings.model)
            lm = live_lm_if_any(loaded, lm_model)
        served = create_app(loaded, settings, entropy=entropy_by(lm) if lm else no_entropy)
        run_server(served, settings, host, port, ready_file)
