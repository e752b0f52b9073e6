"""The integer language model: bits of files and packets compared with plain codes, and what it
costs.

    python -m tests.bench.language_model CLIPS... [--lm-model FILE] [--run RUN]

CLIPS are speech that was in no training. With --run, the folder of a run of `earshot train-lm`, the
same weights in floating point are compared too. Rates count payload only: no headers of files or
messages."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from earshot import codec
from earshot.codec.audio_files import audio_files, read_audio
from earshot.codec.bitstream import Codes, packed_size
from earshot.codec.engine.choice import integer_lm
from earshot.codec.lm.entropy import CodesLm, EntropyDecoder, EntropyEncoder
from earshot.codec.model.model import Model
from earshot.codec.weights.lm import BUNDLED, load_integer_lm
from earshot.lab.training.lm_run import LmRun
from earshot.lab.training.lm_trainer import LmSettings, bits_of


def packets(lm: CodesLm, codes: Codes, frames: int) -> tuple[int, int, float]:
    """Returns bytes with the model, bytes without it, and seconds that coding and decoding took."""
    encoder, decoder = EntropyEncoder(lm), EntropyDecoder(lm)
    coded = plain = 0
    began = time.process_time()
    for first in range(0, codes.shape[1], frames):
        part = codes[:, first : first + frames]
        sections = encoder.encode(part)
        heard = decoder.decode(sections, part.shape[0], part.shape[1])
        if not np.array_equal(heard, part):
            raise AssertionError("what was decoded is not what was coded")
        coded += sum(map(len, sections))
        plain += packed_size(*part.shape)
    return coded, plain, time.process_time() - began


def floating(model: Model, run: Path, streams: list[Codes]) -> np.ndarray:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    made = LmRun(model, LmSettings(**state["settings"]), run, torch.device("cpu"))
    made.resume()
    return bits_of(made.trainer.exported(), streams)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m tests.bench.language_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("clips", nargs="+")
    parser.add_argument("--lm-model", type=Path, default=BUNDLED)
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = codec.load("default")
    weights = load_integer_lm(model.digest, options.lm_model)
    lm = integer_lm(weights)
    files = [file for pattern in options.clips for file in audio_files(pattern)]
    streams = [model.encode(read_audio(file, model.sample_rate), model.bandwidths[-1]) for file in files]
    seconds = sum(codes.shape[1] for codes in streams) / model.frame_rate
    print(f"{len(files)} clips, {seconds:.1f} s")
    wide = floating(model, options.run, [codes[: weights.shape.n_q] for codes in streams]) if options.run else None
    for kbps in model.bandwidths:
        n_q = model.config.n_q(kbps)
        shares = []
        for codes in streams:
            coded, plain, _ = packets(lm, codes[:n_q], codes.shape[1])
            shares.append(coded / plain)
        line = f"{kbps:4g} kbps: {kbps * np.mean(shares):.3f} ({100 * np.mean(shares) - 100:+.1f} %) as one packet"
        if wide is not None and n_q <= weights.shape.n_q:
            line += f", {kbps * wide[:n_q].mean() / 10:.3f} in floating point"
        print(line)
        for frames in (1, 2, 4, 8):
            coded, plain, took = (
                sum(each) for each in zip(*(packets(lm, c[:n_q], frames) for c in streams), strict=True)
            )
            print(
                f"           packets of {frames} frames: {8 * coded / seconds / 1000:.2f} kbps, plain "
                f"{8 * plain / seconds / 1000:.2f} ({100 * coded / plain - 100:+.1f} %); coding and decoding "
                f"{100 * took / seconds:.1f} % of a core"
            )


if __name__ == "__main__":
    main()
