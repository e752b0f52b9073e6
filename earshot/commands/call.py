"""The command `earshot call`; imports the rest when it runs."""

from __future__ import annotations

from contextlib import nullcontext
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from earshot.codec.audio_formats import written_as
from earshot.codec.terminal import Terminal
from earshot.commands.options import TlsFingerprint
from earshot.commands.targets import Force, check_names, claim

if TYPE_CHECKING:
    from earshot.codec.engine.choice import Precision

console = Terminal()


class Entropy(StrEnum):
    """How codes are made smaller on their way."""

    none = "none"
    lm = "lm"


class Uplink(StrEnum):
    """What a client sends."""

    auto = "auto"
    pcm = "pcm"
    codes = "codes"


class Latency(StrEnum):
    """What a call saves: time, or bits on the wire."""

    low = "low"
    balanced = "balanced"
    thrift = "thrift"


class DecodePrecision(StrEnum):
    """How exactly the decoder computes."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    int8 = "int8"


def call(
    room: Annotated[
        str, typer.Argument(help="Whoever names the same room of the same server hears each other. Or a link.")
    ],
    server: Annotated[
        str,
        typer.Option(
            envvar="EARSHOT_SERVER",
            help="ws://HOST:PORT, or wss://HOST behind TLS; several with commas between, if they serve the same rooms.",
        ),
    ] = "ws://127.0.0.1:8765",
    token: Annotated[
        str | None, typer.Option(envvar="EARSHOT_TOKEN", help="What lets you in; that of the link if not given.")
    ] = None,
    tls_fingerprint: TlsFingerprint = None,
    kbps: Annotated[float, typer.Option(help="Codec rate: 1.5, 3, 6 or 12; of music 3, 6, 12 or 24.")] = 6.0,
    max_kbps: Annotated[float, typer.Option(help="The most to take of each speaker.")] = 12.0,
    input_: Annotated[
        str | None, typer.Option("--input", help="Microphone (number or part of its name), audio file, or none.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Loudspeaker (number or part of its name), audio file to write, or none.")
    ] = None,
    uplink: Annotated[
        Uplink,
        typer.Option(help="codes: this machine encodes; pcm: the server does (384 kbps up); auto: who easily can."),
    ] = Uplink.auto,
    latency: Annotated[
        Latency, typer.Option(help="low, balanced or thrift: 1, 3 or 7 frames (13 ms each) in a message, both ways.")
    ] = Latency.balanced,
    dtx: Annotated[bool, typer.Option(help="Send no silence, where codes are sent.")] = True,
    entropy: Annotated[
        Entropy, typer.Option(help="lm: codes go and come smaller by a language model, where the server can too.")
    ] = Entropy.none,
    lm_model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another language model, the same as the server's.")
    ] = None,
    name: Annotated[str, typer.Option(help="What the others see; your user name if not given.")] = "",
    model: Annotated[
        str | None,
        typer.Option(
            help="default, encodec_24khz or a path; if not given the server's, fetched from it if need be."
            " encodec_48khz, or the path of another stereo model, sends music, always as codes and a second late."
        ),
    ] = None,
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
    arrivals: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write down when each packet came; `earshot arrivals` plays it again."),
    ] = None,
    trace_every: Annotated[
        float, typer.Option(min=0, help="Seconds of speech between packets that say when what happened; 0: all do.")
    ] = 0.5,
    status_json: Annotated[
        bool, typer.Option("--status-json", help="A line of JSON ten times a second instead of the view.")
    ] = False,
    force: Force = False,
) -> None:
    """Talk in a room, from the microphone to the loudspeaker or from file to file.

    Keys: m mutes, p is push-to-talk with the space bar, + and - change the rate
    that you send, [ and ] the one that you take, a digit and then , or . the
    volume of a person, l saves time or bits, r asks for a recording or its
    end, ? shows all keys, q leaves.

    \b
    earshot call den                              on this machine's server
    earshot call den --server ws://192.168.1.20:8765
    earshot call 'https://HOST/?room=den#TOKEN'   as you were invited
    earshot call den --server ws://one:8765,ws://two:8765
    earshot call den --kbps 1.5 --latency thrift  over a very thin line
    earshot call den --uplink codes --entropy lm  a third fewer bits of codes
    earshot call den --input 3 --output headset   see: earshot devices
    earshot call den --input me.flac --output you.wav
    earshot call den --input none                 only listen
    earshot call den --model encodec_48khz --input song.flac
    earshot call den --also encodec_48khz         talk, and hear the music too
    """
    from earshot.client.audio.choice import check_devices, is_file, open_sink, open_source
    from earshot.client.net.link import name_in, parse_link
    from earshot.commands.checks import check_call

    to_file = Path(output) if output is not None and is_file(output) else None
    if to_file is not None:
        written_as(to_file, live=True)
    check_names(figures=report, text=arrivals)
    from_file = Path(input_) if input_ and is_file(input_) else None
    claim([to_file, report, arrivals], [from_file, lm_model, model], force)
    if (link := parse_link(room)) is not None:
        server, room, token = link.server, link.room, token or link.token
    check_call(server, room, model or "default", also or (), kbps, max_kbps, from_file, loop, lm_model)

    waiting = nullcontext() if status_json else console.waiting("getting ready to call")
    with waiting:  # torch and a model take seconds
        import asyncio
        import gc
        import getpass
        import json
        import sys
        from contextlib import ExitStack

        from earshot.client.net.first_look import first_look
        from earshot.client.net.tls import pinned

        check_devices(input_, output)
        context = pinned(server, tls_fingerprint) if tls_fingerprint else None
        theirs = first_look([each.strip() for each in server.split(",")], room, token, context)

        import torch

        from earshot import codec
        from earshot.client.core.replay import ArrivalRecorder
        from earshot.client.music.models import format_of, in_windows
        from earshot.client.net.weights import fetched
        from earshot.client.settings import CallSettings
        from earshot.client.ui.display import run_in_terminal
        from earshot.client.ui.figures import call_report
        from earshot.client.wiring import make_call
        from earshot.codec.engine.choice import listening_precision, live_lm

        torch.set_num_threads(1)  # one frame is too little work to share
        sys.setswitchinterval(0.001)  # the thread that plays must not wait 5 ms for another
        try:
            who = name_in(token) or name or getpass.getuser()  # the token's goes before
        except (KeyError, OSError):  # a user without a name, as in containers
            who = "guest"
        who = "".join(filter(str.isprintable, who))[:64]
        settings = CallSettings(
            *(room, server, who, uplink.value, kbps, max_kbps, seconds, linger),
            token=token,
            tls=context,
            latency=latency.value,
            dtx=dtx,
            trace_every_s=trace_every,
        )
        wished = cast("Precision", decode_precision.value)
        load = partial(codec.load, decode_precision=listening_precision() if decode_precision == "auto" else wished)
        mine, others = load(model or "default"), [load(other) for other in also or ()]
        if model is None and theirs is not None and theirs[1].digest != mine.digest:
            mine = load(str(fetched(*theirs, token, context)))
        if all(map(in_windows, (mine, *others))) and output != "none":
            others.append(load("default"))  # for people who talk
        source = open_source(input_, loop, format_of(mine))
        speech = next((each for each in (mine, *others) if not in_windows(each)), mine)
        lm = live_lm(speech, lm_model) if entropy is Entropy.lm else None
    stack = ExitStack()
    talk = make_call(settings, mine, source, open_sink(output, format_of(mine, *others)), others, lm)
    heard = talk.models.talk
    if arrivals is not None and heard is not None:
        trace = stack.enter_context(arrivals.open("w", encoding="utf-8"))
        talk.arrivals = ArrivalRecorder(heard.config.sample_rate, heard.config.hop_length, trace.write)
    gc.collect()
    gc.freeze()  # the thread that plays must not wait 0.2 s for a collection that walks over all that is loaded
    try:
        asyncio.run(run_in_terminal(talk, console, status_json))
    finally:
        stack.close()
        if report and talk.began_us is not None:
            report.write_text(json.dumps(call_report(talk), indent=1), "utf-8")
