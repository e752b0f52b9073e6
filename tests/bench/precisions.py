"""What bf16 and int8 change in the native engine: codes, sound, and measures of speech.

    python -m tests.bench.precisions CLIPS... [--model default] [--kbps 1.5 3 6 12]

Encoder and decoder are changed one at a time. `equal codes` compares with the fp32 encoder; `SNR`
compares the sound of the decoder with that of the fp32 decoder, for the same codes. STOI and PESQ
compare with the original; `less than fp32` is the mean loss over clips, with half its 95 %
confidence interval. It needs the extra `evaluate`."""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np

from earshot import codec
from earshot.codec.audio_files import audio_files, read_audio
from earshot.codec.engine.choice import Precision
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from earshot.lab.confidence import weighted_mean
from earshot.lab.evaluation.measures import MEASURES, decibels, rms
from earshot.lab.evaluation.systems import through_stream

PAIRS: tuple[tuple[Precision, Precision], ...] = (
    ("fp32", "fp32"), ("bf16", "fp32"), ("int8", "fp32"), ("fp32", "bf16"), ("fp32", "int8"), ("int8", "int8"),
)  # fmt: skip
COMPARED = ("stoi", "pesq")


def codes_of(model: Model, pcm: Pcm, kbps: float) -> np.ndarray:
    encoder = model.frame_encoder(kbps)
    return np.concatenate([encoder.push(pcm), encoder.flush()], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m tests.bench.precisions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="+", help="files, folders or globs")
    parser.add_argument("--model", default="default")
    parser.add_argument("--kbps", type=float, nargs="+", default=[1.5, 3.0, 6.0, 12.0])
    options = parser.parse_args()
    models = {pair: codec.load(options.model, "native", *pair) for pair in PAIRS}
    reference = models["fp32", "fp32"]
    measures = [measure for measure in MEASURES if measure.key in COMPARED and measure.compute]
    files = [file for pattern in options.clips for file in audio_files(pattern)]
    print("kbps encoder decoder  equal codes      SNR  " + "".join(f"{m.label:>10} less than fp32" for m in measures))
    for kbps in options.kbps:
        values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        equal: dict[str, list[np.ndarray]] = defaultdict(list)
        for file in files:
            pcm = read_audio(file, reference.sample_rate)
            exact = codes_of(reference, pcm, kbps)
            heard = reference.frame_decoder().push(exact)
            for pair, model in models.items():
                if pair[1] == "fp32":
                    equal[pair[0]].append((codes_of(model, pcm, kbps) == exact).ravel())
                else:
                    apart = model.frame_decoder().push(exact) - heard
                    values[*pair, "snr"].append(decibels(rms(heard) / max(rms(apart), 1e-9)))
                decoded = through_stream(model, pcm, kbps)
                for measure in measures:
                    assert measure.compute is not None
                    values[*pair, measure.key].append(measure.compute(pcm, decoded, model.sample_rate) or np.nan)
        for pair in PAIRS:
            codes = np.concatenate(equal[pair[0]]) if equal[pair[0]] else np.zeros(0)
            snr = values[*pair, "snr"]
            line = f"{kbps:4g} {pair[0]:7} {pair[1]:7} {100 * codes.mean():9.2f} %  "
            line += f"{np.mean(snr):4.1f} dB  " if snr else f"{'':9}"
            for measure in measures:
                own = np.array(values[*pair, measure.key])
                lost = weighted_mean(list(np.array(values["fp32", "fp32", measure.key]) - own))
                line += f"{np.nanmean(own):10.4f} {lost.mean:+.4f} +- {lost.half_width or 0:.4f}"
            print(line, flush=True)
        print(f"     {len(files)} clips, {equal['bf16'][0].size and sum(map(len, equal['bf16']))} codes")


if __name__ == "__main__":
    main()
