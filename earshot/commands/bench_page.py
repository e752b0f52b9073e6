"""The command `earshot bench page`; imports the rest when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earshot.commands.extras import require, require_lab
from earshot.commands.targets import Force, check_names, claim


def page(
    rounds: Annotated[int, typer.Option(min=1, help="In each every codec steps a second of speech.")] = 20,
    seconds: Annotated[float, typer.Option(min=1, help="How long each call counts.")] = 10.0,
    latency: Annotated[
        list[str] | None, typer.Option(help="low, balanced or thrift, again for each; the first two if none is given.")
    ] = None,
    codec: Annotated[bool, typer.Option(help="Time the codec in a Worker.")] = True,
    call: Annotated[bool, typer.Option(help="Let two pages talk.")] = True,
    peer: Annotated[bool, typer.Option(help="onnxruntime-web beside the codec; npm gets it.")] = True,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    force: Force = False,
) -> None:
    """Measure the page in a real Chromium: its codec, how it loads, and a call.

    \b
    earshot bench page                          under two minutes
    earshot bench page --no-call --rounds 40    the codec alone

    The codec encodes and decodes a frame at a time in a Worker, in turn with
    onnxruntime-web, which runs the same step as a graph. Then two pages of one
    browser talk through a server on this machine. Run it on an otherwise idle
    machine.
    """
    require_lab()
    require("bench", "playwright", "onnx")
    check_names(figures=json_)
    claim([json_], force=force)

    import json
    import tempfile

    import soundfile

    from earshot.codec.audio_files import read_audio
    from earshot.codec.terminal import Terminal
    from earshot.lab import VOICES
    from earshot.lab.pagebench.browser import open_browser
    from earshot.lab.pagebench.calls import measure_call
    from earshot.lab.pagebench.codecs import measure_codecs
    from earshot.lab.pagebench.report import bound_table, bounds, call_lines, codec_table, to_json

    console = Terminal()
    speech = read_audio(VOICES / "ada.flac", 24_000)
    with tempfile.TemporaryDirectory(prefix="earshot-") as folder:
        microphone = Path(folder) / "microphone.wav"
        soundfile.write(microphone, speech, 24_000, subtype="PCM_16")
        with open_browser(microphone) as browser:
            console.say(f"Chromium {browser.version}")
            codecs = measure_codecs(browser, speech, rounds, peer) if codec else None
            if codecs is not None:
                console.print(codec_table(codecs))
                if codecs.left_out:
                    console.say(codecs.left_out)
            calls = []
            for each in (latency or ["balanced", "low"]) if call else []:
                calls.append(measure_call(browser, each, seconds))
                for line in call_lines(calls[-1]):
                    console.say(line)
    found = bounds(codecs, calls)
    console.print(bound_table(found))
    if json_ is not None:
        json_.write_text(json.dumps(to_json(codecs, calls, found), indent=1) + "\n", "utf-8")
