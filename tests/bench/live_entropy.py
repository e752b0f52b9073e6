"""Entropy coding of calls: bytes on the wire beside plain codes, and the processor that it takes.

    python -m tests.bench.live_entropy CLIPS...
    python -m tests.bench.live_entropy --call [--cores 1]

The first codes clips of speech packet after packet, and prints bytes and time. The second runs two
calls through a server in real time, one without entropy coding and one with it.

A message is counted three ways: its codes, the message, and that with what client/core/traffic.py
adds for WebSocket, TLS, TCP and IP. Messages have no trace. Time is of one core, both ends in one
thread, whose caches nothing else uses: the calls, which do other things between two packets, take
two to three times as much."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import torch

from earshot import codec
from earshot.client.core.traffic import MESSAGE_OVERHEAD_BYTES
from earshot.codec.audio_files import audio_files, read_audio
from earshot.codec.bitstream import Codes, pack
from earshot.codec.engine.choice import live_lm
from earshot.codec.lm.entropy import CodesLm
from earshot.lab import VOICES
from earshot.protocol.entropy_link import LinkDecoder, LinkEncoder
from earshot.protocol.packet import CodedPacket, Packet, encode_codes_up
from tests.end_to_end.earshot_process import EarshotCall, EarshotServer

RATES, FRAMES = (1.5, 3.0, 6.0), (1, 3)


def link(lm: CodesLm, codes: Codes, frames: int) -> np.ndarray:
    """Returns [2 (plain, coded), 3 (codes, message, wire)] bytes, then the processor seconds of
    both ends in [2, 0] and [2, 1]."""
    encoder, decoder = LinkEncoder(lm), LinkDecoder(lm)
    sums = np.zeros((3, 3))
    for first in range(0, codes.shape[1] // frames * frames, frames):
        part = codes[:, first : first + frames]
        plain = Packet(*part.shape, first % 65536, 320 * first, pack(part))
        began = time.process_time()
        coded = encoder.encode(plain)
        between = time.process_time()
        if not isinstance(coded, CodedPacket) or decoder.decode(coded) != plain:
            raise AssertionError("what was decoded is not what was coded")
        sums[2] += between - began, time.process_time() - between, 0
        for row, packet in enumerate((plain, coded)):
            message = len(encode_codes_up(packet))
            sums[row] += len(packet.payload), message, message + MESSAGE_OVERHEAD_BYTES
    return sums


def clips(patterns: list[str]) -> None:
    model = codec.load("default")
    lm = live_lm(model).lm
    files = [file for pattern in patterns for file in audio_files(pattern)]
    streams = [model.encode(read_audio(file, model.sample_rate), model.bandwidths[-1]) for file in files]
    seconds = sum(codes.shape[1] for codes in streams) / model.frame_rate
    print(f"{len(files)} clips, {seconds:.1f} s; kbps plain -> coded")
    for kbps in RATES:
        for frames in FRAMES:
            sums = np.sum([link(lm, codes[: model.config.n_q(kbps)], frames) for codes in streams], axis=0)
            shown = [
                f"{name} {8e-3 * plain / seconds:.2f} -> {8e-3 * coded / seconds:.2f} ({coded / plain - 1:+.1%})"
                for name, plain, coded in zip(("codes", "messages", "wire"), *sums[:2], strict=True)
            ]
            coding, decoding = 100 * sums[2, :2] / seconds
            time_said = f"{coding:.1f} + {decoding:.1f} % of a core"
            print(f"{kbps:g} kbps, {frames} frames a message: {', '.join(shown)}; {time_said}")


def calls(kbps: float, cores: int, seconds: float) -> None:
    """Makes calls with this process and its children kept to so many cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    for entropy in ("none", "lm"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with EarshotServer(folder, "default", env={}) as server:
                common = ("den", "--server", server.url, "--kbps", f"{kbps:g}", "--uplink", "codes", "--loop")
                both = [
                    EarshotCall(
                        *(*common, "--name", who, "--input", VOICES / f"{who}.flac", "--entropy", entropy),
                        *("--output", folder / f"{who}.wav", "--seconds", f"{seconds:g}"),
                        report=folder / f"{who}.json",
                    )
                    for who in ("ada", "ben")
                ]
                with both[0], both[1]:
                    for call in both:
                        call.wait_for(lambda status: status["seconds"] > seconds / 2)
                    with urllib.request.urlopen(server.url.replace("ws", "http", 1) + "/stats") as answer:  # noqa: S310
                        told = json.load(answer)["entropy"]
                    told["seconds"] = both[0].status["seconds"]
                    reports = [call.finish() for call in both]
        print(f"{kbps:g} kbps on {cores} core(s), --entropy {entropy}")
        for report in reports:
            show(report)
        if entropy == "lm":
            print(f"  server: {told['cpu_s'] / told['seconds']:.1%} of a core, {told['saved_share']:.1%} saved")


def show(report: dict[str, Any]) -> None:
    heard = next(iter(report["speakers"].values()), {"underruns": None, "missing": None, "mouth_to_ear_ms": None})
    coded = report["entropy"]
    line = f"  {report['name']}: wire up {report['sent']['wire_kbps']:.1f} kbps, underruns {heard['underruns']}, "
    line += f"missing {heard['missing']}, mouth to ear {heard['mouth_to_ear_ms']}"
    if coded:
        line += f", {100 * coded['cpu_share']:.1f} % of a core; " + ", ".join(
            f"{way} {100 * coded[way]['coded_bytes'] / coded[way]['plain_bytes'] - 100:+.1f} %"
            for way in ("sent", "heard")
        )
    print(line)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m tests.bench.live_entropy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="*")
    parser.add_argument("--call", action="store_true")
    parser.add_argument("--kbps", type=float, default=3.0)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=25.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.clips:
        clips(options.clips)
    if options.call:
        calls(options.kbps, options.cores, options.seconds)


if __name__ == "__main__":
    main()
