"""The `earshot` command line: the one place that wires codec, server and client together."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from rich.console import Console

from earshot.codec.errors import EarshotError, UsageError
from earshot.commands.bench import bench
from earshot.commands.bench_server import server_command
from earshot.commands.evaluate import evaluate
from earshot.commands.export import export
from earshot.commands.files import decode, encode, info
from earshot.commands.listen import listen
from earshot.commands.train import train_command
from earshot.commands.train_lm import train_lm

if TYPE_CHECKING:
    from earshot.codec.engine.choice import Precision

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # as older typers do: pages of arrays, and what somebody said
    help="Voice chat at 1.5 to 12 kbps with a streaming EnCodec.",
)
console = Console()


def _voices() -> Path:
    """Earshot's own clips."""
    from earshot import lab

    return Path(lab.__path__[0]) / "voices"


class Entropy(StrEnum):
    """How codes are made smaller on their way."""

    none = "none"
    lm = "lm"


class Uplink(StrEnum):
    """What a client sends."""

    pcm = "pcm"
    codes = "codes"


class DecodePrecision(StrEnum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    int8 = "int8"


app.command("train")(train_command(console, _voices))
app.command("train-lm")(train_lm)
app.command()(evaluate)
app.command()(export)
app.command()(listen)
app.command()(encode)
app.command()(decode)
app.command()(info)
app.add_typer(bench, name="bench")
bench.command("server")(server_command(_voices))

_KBPS = Annotated[float, typer.Option(help="Codec rate of the speech.")]
_MODEL = Annotated[str, typer.Option(help="default, encodec_24khz or a path.")]


@app.command()
def call(
    room: Annotated[str, typer.Argument(help="Whoever names the same room of the same server hears each other.")],
    server: Annotated[str, typer.Option(help="ws://HOST:PORT, or wss://HOST behind TLS.")] = "ws://127.0.0.1:8765",
    kbps: Annotated[float, typer.Option(help="Codec rate: 1.5, 3, 6 or 12; of music 3, 6, 12 or 24.")] = 6.0,
    max_kbps: Annotated[float, typer.Option(help="The most to take of each speaker.")] = 12.0,
    input_: Annotated[
        str | None, typer.Option("--input", help="Microphone (number or part of its name), audio file, or none.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Loudspeaker (number or part of its name), audio file to write, or none.")
    ] = None,
    uplink: Annotated[
        Uplink, typer.Option(help="pcm: the server encodes (384 kbps up); codes: this machine does.")
    ] = Uplink.pcm,
    entropy: Annotated[
        Entropy, typer.Option(help="lm: codes go and come smaller by a language model, where the server can too.")
    ] = Entropy.none,
    lm_model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another language model, the same as the server's.")
    ] = None,
    name: Annotated[str, typer.Option(help="What the others see; your user name if not given.")] = "",
    model: Annotated[
        str,
        typer.Option(
            help="default, encodec_24khz or a path: the same as the server's. encodec_48khz, or the path of another"
            " stereo model, sends music, always as codes and a second late."
        ),
    ] = "default",
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="Another model to hear with, for those who play music: encodec_48khz or a path; repeat it. It is"
            " loaded at the start, and what is heard is then in stereo at 48 kHz."
        ),
    ] = None,
    decode_precision: Annotated[
        DecodePrecision,
        typer.Option(help="auto: int8 where that is faster; it costs about 0.001 PESQ (docs/engine.md)."),
    ] = DecodePrecision.auto,
    seconds: Annotated[float | None, typer.Option(min=0, help="Leave after so long.")] = None,
    linger: Annotated[float, typer.Option(min=0, help="Seconds to go on listening after an input file's end.")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Play the input file again and again.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write the figures of the call to this JSON file.")] = None,
    status_json: Annotated[
        bool, typer.Option("--status-json", help="A line of JSON ten times a second instead of the view.")
    ] = False,
) -> None:
    """Talk in a room, from the microphone to the loudspeaker or from file to file.

    Keys: m mutes, + and - change the rate, r asks for a recording or its end,
    q leaves.

    \b
    earshot call den                              on this machine's server
    earshot call den --server ws://192.168.1.20:8765
    earshot call den --kbps 1.5 --uplink codes    over a very thin line
    earshot call den --uplink codes --entropy lm  a third fewer bits of codes
    earshot call den --input 3 --output headset   see: earshot devices
    earshot call den --input me.flac --output you.wav
    earshot call den --input none                 only listen
    earshot call den --model encodec_48khz --input song.flac
    earshot call den --also encodec_48khz         talk, and hear the music too
    """
    import asyncio
    import gc
    import getpass
    import json
    import sys

    import torch

    from earshot import codec
    from earshot.client.audio.choice import open_sink, open_source
    from earshot.client.call import CallSettings
    from earshot.client.music.models import format_of, in_windows
    from earshot.client.ui.display import run_in_terminal
    from earshot.client.ui.figures import call_report
    from earshot.client.wiring import make_call
    from earshot.codec.engine.choice import listening_precision, live_lm

    torch.set_num_threads(1)  # one frame is too little work to share
    sys.setswitchinterval(0.001)  # the thread that plays must not wait 5 ms for another
    try:
        who = name or getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        who = "guest"
    who = "".join(filter(str.isprintable, who))[:64]
    settings = CallSettings(room, server, who, uplink.value, kbps, max_kbps, seconds, linger)
    wished = cast("Precision", decode_precision.value)
    load = partial(codec.load, decode_precision=listening_precision() if decode_precision == "auto" else wished)
    mine, others = load(model), [load(other) for other in also or ()]
    if all(map(in_windows, (mine, *others))) and output != "none":
        others.append(load("default"))  # for those who talk
    source = open_source(input_, loop, format_of(mine))
    speech = next((each for each in (mine, *others) if not in_windows(each)), mine)
    lm = live_lm(speech, lm_model) if entropy is Entropy.lm else None
    talk = make_call(settings, mine, source, open_sink(output, format_of(mine, *others)), others, lm)
    gc.collect()
    gc.freeze()  # the thread that plays must not wait 0.2 s for a collection that walks over all that is loaded
    try:
        asyncio.run(run_in_terminal(talk, console, status_json))
    finally:
        if report and talk.began_us is not None:
            report.write_text(json.dumps(call_report(talk), indent=1))


@app.command()
def devices() -> None:
    """List the microphones and loudspeakers of this machine, for `earshot call --input` and
    `--output`."""
    from rich.table import Table

    from earshot.client.audio.devices import list_devices
    from earshot.codec.errors import AudioError

    found = list_devices()
    if not found:
        raise AudioError("this machine has no sound device; `earshot call` takes files as --input and --output too")
    table = Table("", "device", "system", "in", "out", "Hz")
    for device in found:
        default = " ".join(word for word, yes in [("in", device.default_input), ("out", device.default_output)] if yes)
        table.add_row(
            str(device.index),
            device.name + (f" (default {default})" if default else ""),
            device.host_api,
            str(device.inputs or ""),
            str(device.outputs or ""),
            f"{device.rate:g}",
        )
    console.print(table)
    console.print("Choose by number or by part of the name: earshot call ROOM --input 3 --output headset")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 takes calls from other machines too.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one and prints it.")] = 8765,
    model: Annotated[
        str, typer.Option(help="The codec of those who talk: default, encodec_24khz or a path.")
    ] = "default",
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
) -> None:
    """Run a server: people who call the same room name hear each other.

    It prints one line when it is ready. `earshot call ROOM --server URL` calls
    it, `URL/stats` (with http for ws) shows what it does, Ctrl-C or SIGTERM ends
    it after everyone was told. Every limit is an environment variable, for one
    EARSHOT_MAX_PEERS_PER_ROOM=8; server/settings.py lists them. For calls over
    the internet put a proxy with TLS in front of it.
    """
    from pydantic import ValidationError

    from earshot import codec
    from earshot.codec.engine.choice import live_lm_if_any
    from earshot.server.net.serve import serve as run_server
    from earshot.server.settings import Settings

    try:
        given: dict[str, Any] = {
            "engine": engine,
            "precision": precision,
            "workers": workers,
            "record_rooms": record,
            "record_on_request": record_on_request,
            "record_to": record_to,
            "record_max_kbps": record_kbps,
        }
        settings = Settings(**{name: value for name, value in given.items() if value})  # the rest by the environment
    except ValidationError as error:
        first = error.errors()[0]
        name = "EARSHOT_" + "_".join(str(part) for part in first["loc"]).upper()
        raise UsageError(f"{name}: {first['msg']}") from error
    loaded = codec.load(model)
    run_server(loaded, settings, host, port, ready_file, live_lm_if_any(loaded, lm_model))


@app.command()
def demo(
    live: Annotated[
        bool, typer.Option("--live", help="From the microphone to the loudspeaker of this machine.")
    ] = False,
    kbps: _KBPS = 6.0,
    out: Annotated[Path, typer.Option(help="Folder for recordings, pictures and report.json.")] = Path("out/demo"),
    seconds: Annotated[float | None, typer.Option(min=1, help="How long to talk; about 20 s if not given.")] = None,
    model: _MODEL = "default",
) -> None:
    """Two voices talk through a server on this machine: hear it, see it, and read what was
    measured.

    Exit status 1 if anything was not heard.
    """
    import sys

    from earshot.lab.demo.conversation import DEMO, Plan
    from earshot.lab.demo.live import live as run_live
    from earshot.lab.demo.show import demo as run_demo

    if live:
        good = run_live(console, out, kbps, model, seconds or 20.0)
    else:
        good = run_demo(console, Plan(DEMO, out, kbps=kbps, model=model, seconds=seconds))
    sys.exit(0 if good else 1)


class LatencyUplink(StrEnum):
    both = "both"
    pcm = "pcm"
    codes = "codes"


@app.command()
def latency(
    server: Annotated[
        str | None, typer.Option(help="ws://HOST:PORT; a server of its own on this machine if not given.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long to talk.")] = 20.0,
    uplink: Annotated[
        LatencyUplink, typer.Option(help="What the two send; both: one PCM, the other codes.")
    ] = LatencyUplink.both,
    kbps: _KBPS = 6.0,
    out: Annotated[Path, typer.Option(help="Folder for recordings, picture and report.json.")] = Path("out/latency"),
    model: _MODEL = "default",
) -> None:
    """Measure the time from mouth to ear, stage by stage, between two clients of a server.

    It is measured twice, by time stamps in the packets and from the recorded
    sound. Exit status 1 if these differ by more than 5 ms or anything was not
    heard.
    """
    import sys
    from dataclasses import replace
    from uuid import uuid4

    from earshot.lab.demo.conversation import DEMO, Plan
    from earshot.lab.demo.show import measure_latency

    first, second = DEMO
    if uplink is not LatencyUplink.both:
        only: Literal["pcm", "codes"] = "pcm" if uplink is LatencyUplink.pcm else "codes"
        first, second = replace(first, uplink=only), replace(second, uplink=only)
    room = f"latency-{uuid4().hex[:12]}"  # nobody else's
    plan = Plan((first, second), out, server, room, kbps, model, seconds)
    sys.exit(0 if measure_latency(console, plan) else 1)


def main() -> None:
    """Runs the command line; errors that Earshot raises on purpose, and what the system refuses (a
    folder that cannot be written, a full disk), become one line and exit status 1."""
    try:
        app()
    except (EarshotError, OSError) as error:
        said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        shown = Console(stderr=True)
        shown.print("[bold red]error:[/]", end=" ")
        shown.print(said, markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
