"""The command `earshot latency`; imports the rest when it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from earshot.codec.errors import UsageError
from earshot.codec.terminal import Terminal
from earshot.commands.extras import require_lab
from earshot.commands.options import Kbps, Model
from earshot.commands.targets import Force, claim_folder

console = Terminal()


class MeasuredFormat(StrEnum):
    """What the two clients send."""

    both = "both"
    pcm = "pcm"
    codes = "codes"


class Pacing(StrEnum):
    """What the two clients save."""

    low = "low"
    balanced = "balanced"
    thrift = "thrift"


def latency(
    server: Annotated[
        str | None, typer.Option(help="ws://HOST:PORT; a server of its own on this machine if not given.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long to talk.")] = 20.0,
    uplink: Annotated[
        MeasuredFormat, typer.Option(help="What the two send; both: one PCM, the other codes.")
    ] = MeasuredFormat.both,
    kbps: Kbps = 6.0,
    pacing: Annotated[
        Pacing, typer.Option("--latency", help="low, balanced or thrift: 1, 3 or 7 frames (13 ms each) in a message.")
    ] = Pacing.balanced,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for recordings, picture and report.json; out/latency if not given, written anew."),
    ] = None,
    model: Model = "default",
    devices: Annotated[
        bool, typer.Option("--devices", help="From one virtual sound device to another, codes up; needs PulseAudio.")
    ] = False,
    force: Force = False,
) -> None:
    """Measure the time from mouth to ear, stage by stage, between two clients of a server.

    \b
    earshot latency
    earshot latency --latency low --uplink codes
    earshot latency --server wss://HOST --seconds 60
    earshot latency --devices            buffers of sound devices count, too

    It is measured twice, by time stamps in the packets and from the recorded
    sound. Exit status 1 if these differ by more than 5 ms or anything was not
    heard. With --devices it is 1 if less than half was heard.
    """
    require_lab()

    from earshot.codec.weights.shape import check_rate

    check_rate(model, kbps)
    if devices:
        if server is not None or out is not None:
            raise UsageError("--devices takes a server of its own and writes no files: leave out --server and --out")
        from earshot.lab.devices.show import measure_devices

        measure_devices(console, seconds, kbps, pacing.value, model)
        return
    folder = claim_folder(out, Path("out/latency"), force)

    import sys
    from dataclasses import replace
    from uuid import uuid4

    from earshot.lab.demo.conversation import DEMO, Plan
    from earshot.lab.demo.show import measure_latency

    ways: dict[MeasuredFormat, tuple[Literal["pcm", "codes"], Literal["pcm", "codes"]]] = {
        MeasuredFormat.both: ("pcm", "codes"),
        MeasuredFormat.pcm: ("pcm", "pcm"),
        MeasuredFormat.codes: ("codes", "codes"),
    }
    first, second = (replace(peer, uplink=way) for peer, way in zip(DEMO, ways[uplink], strict=True))
    room = f"latency-{uuid4().hex[:12]}"  # a room that nobody else is in
    plan = Plan((first, second), folder, server, room, kbps, model, seconds, pacing.value, all_traces=True)
    sys.exit(0 if measure_latency(console, plan) else 1)
