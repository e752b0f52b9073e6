"""Feeds mutated `.ecdc` files, packets of the language model and messages with these packets to
their readers: each must give a result or an error of Earshot.

python -m tests.fuzz --count 100000 # the long run; `make test` has a short one
(tests/codec/test_fuzz.py)"""

from __future__ import annotations

import argparse
import collections
import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from earshot.codec.bitstream import pack, unpack
from earshot.codec.config import ENCODEC_48KHZ, ModelConfig
from earshot.codec.ecdc.coding import coding_to_write
from earshot.codec.ecdc.files import decode_file, encode_file
from earshot.codec.ecdc.format import FRONT
from earshot.codec.errors import EarshotError
from earshot.codec.lm.entropy import EntropyDecoder, EntropyEncoder
from earshot.codec.lm.integer_lm import IntegerLm, LmShape
from earshot.codec.lm.transformer import LanguageModel, context_frames
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from earshot.codec.weights.lm import save_integer_lm
from earshot.lab.training.initial import initialise
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.entropy_link import LinkDecoder, LinkEncoder
from earshot.protocol.packet import CodedPacket, Packet, decode_down, decode_up, encode_codes_down, encode_codes_up
from tests.codec.lm.test_transformer import saved
from tests.integer_lm import random_weights

Rng = np.random.Generator
ODD = (-1, 0, 1, 2, 3, 31, 32, 33, 1 << 15, 1 << 31, 1 << 48, 1 << 63, 10**30, 0.5, 1e300, True, None, "", "x", [], {})


@dataclass
class Case:
    """A good file, and the model that reads it."""

    name: str
    model: Model
    data: bytes
    lm: Path | None


class Fuzz:
    """Holds models so small that a file takes some milliseconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        torch.manual_seed(0)
        self.lm = IntegerLm(random_weights(LmShape((2, 4), ((1, 2), (1,)), 1024, 8, 8, 8)))
        self.cases = list(self._cases())

    def _cases(self) -> list[Case]:
        rng = np.random.default_rng(0)
        cases = []
        talk = ModelConfig(name="fuzzed", n_filters=2, n_codebooks=4, bandwidths=(1.5, 3.0), padding="zeros")
        music = replace(ENCODEC_48KHZ, n_filters=2, n_codebooks=4, bandwidths=(3.0, 6.0))
        for config in (talk, music):
            network = Encodec(config)
            initialise(network)
            with torch.no_grad():
                network.quantizer.codebooks.normal_()
            model = Model(network)
            clip = self.folder / "clip.wav"
            samples = 6_000 if config is talk else 50_000
            soundfile.write(clip, 0.1 * rng.standard_normal((samples, config.channels)), config.sample_rate)
            integer, official = (
                self.folder / f"{config.name}.safetensors",
                LanguageModel(4, 1024, context_frames(config.frame_rate), 8, 8, 1),
            )
            weights = random_weights(LmShape((2, 4), ((1, 2), (1,)), 1024, 8, 8, 8))
            save_integer_lm(weights, model.digest, integer)
            floating = saved(official.state_dict(), self.folder, config.name)
            for kind, lm in (("plain", None), ("integer", integer), ("floating", floating)):
                coded = self.folder / "coded"
                model.official = kind == "floating"
                encode_file(model, clip, coded, config.bandwidths[0], None, coding_to_write(model, lm is not None, lm))
                kept = Model(network)
                kept.official = model.official
                cases.append(Case(f"{config.name} {kind}", kept, coded.read_bytes(), lm))
        return cases

    def file(self, rng: Rng) -> str:
        """Decodes one mutated file and returns the result. Raises any exception that is not an
        expected error."""
        # The floating-point model takes ten times as long as the others, the stereo model several
        # times.
        case = self.cases[rng.choice(6, p=[0.3, 0.4, 0.05, 0.1, 0.1, 0.05])]
        path = self.folder / "mutated.ecdc"
        path.write_bytes(mutated(case.data, rng))
        try:
            done = decode_file(case.model, path, self.folder / "out.wav", None, case.lm)
        except EarshotError as error:
            return f"file: {type(error).__name__}"
        return "file: decoded up to the damage" if done.damage else "file: decoded"

    def packet(self, rng: Rng) -> str:
        """Decodes some mutated packets of a stream."""
        encoder, decoder = EntropyEncoder(self.lm), EntropyDecoder(self.lm)
        outcome = "packets: codes"
        for _ in range(3):
            n_q, frames = int(rng.integers(1, 8)), int(rng.integers(0, 4))
            sections = encoder.encode(rng.integers(0, 1024, (n_q, frames), np.int16))
            sections = [mutated(section, rng) if rng.random() < 0.5 else section for section in sections]
            if rng.random() < 0.1:
                n_q, frames = int(rng.integers(0, 40)), int(rng.integers(0, 33))
            try:
                codes = decoder.decode(sections, n_q, frames)
                if codes.shape != (n_q, frames) or (codes.size and not 0 <= codes.min() <= codes.max() < 1024):
                    raise AssertionError("codes that there cannot be")
            except EarshotError as error:
                outcome = f"packets: {type(error).__name__}"
                decoder.reset()
                encoder.reset()
        return outcome

    def link(self, rng: Rng) -> str:
        """Sends messages of entropy-coded packets, some of them mutated, over a link."""
        encoder, decoder = LinkEncoder(self.lm), LinkDecoder(self.lm)
        outcome = "links: codes"
        for number in range(4):
            n_q, frames = int(rng.integers(1, 17)), int(rng.integers(1, 5))
            payload = pack(rng.integers(0, 1024, (n_q, frames), np.int16))
            sent = [encoder.encode(Packet(n_q, frames, number, 320 * number, payload, source=at)) for at in (1, 2)]
            up = rng.random() < 0.5
            message = encode_codes_up(sent[0]) if up else encode_codes_down(sent)
            if number and rng.random() < 0.5:
                message = mutated(message, rng)
            try:
                come: list[Any] = [decode_up(message)] if up else list(decode_down(message))
                for part in come:
                    if isinstance(part, CodedPacket):
                        plain = decoder.decode(part)
                        unpack(plain.payload, part.n_q, part.frames)
            except ProtocolError:
                outcome = "links: ProtocolError"
        return outcome


def mutated(data: bytes, rng: Rng) -> bytes:
    """Returns `data` after a random mutation: cut, flipped, filled up, spliced, or with another
    header."""
    kind = rng.integers(7)
    at = int(rng.integers(len(data) + 1))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + rng.bytes(int(rng.integers(1, 40))) + data[at:]
    if kind == 2:
        return data[:at] + data[int(rng.integers(at, len(data) + 1)) :]
    if kind == 3 and data.startswith(b"ECDC"):
        length = FRONT.unpack(data[: FRONT.size])[2]
        values = json.loads(data[FRONT.size : FRONT.size + length])
        key = str(rng.choice([*values, "li", "ld", "d", "new"]))
        if rng.random() < 0.2:
            values.pop(key, None)
        else:
            values[key] = ODD[rng.integers(len(ODD))]
        text = json.dumps(values).encode()
        return FRONT.pack(b"ECDC", 0, len(text)) + text + data[FRONT.size + length :]
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6)) if changed else 0):
        place = int(rng.integers(len(changed)))
        changed[place] = int(rng.integers(256)) if kind == 4 else changed[place] ^ 1 << int(rng.integers(8))
    return bytes(changed)


def run(fuzz: Fuzz, count: int, seed: int, said: Callable[[str], None] = lambda _: None) -> collections.Counter[str]:
    """Runs `count` cases: half of them files, the others packets and links in turn. Any wrong
    result raises, with the number of the case."""
    outcomes: collections.Counter[str] = collections.Counter()
    longest, first = 0.0, 0
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        began = time.process_time()
        try:
            kind = fuzz.file if number % 2 else fuzz.link if number % 4 else fuzz.packet
            outcomes[kind(rng)] += 1
        except Exception as error:
            raise AssertionError(f"case {number} of seed {seed}: {type(error).__name__}: {error}") from error
        longest = max(longest, time.process_time() - began)
        if number == count // 2:  # torch keeps what it prepares for each window length, up to a thousand
            first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if number % 10_000 == 9_999:
            said(f"{number + 1}: {dict(outcomes)}, longest {longest:.2f} s")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - first
    said(f"memory grew by {grown / 1024:.1f} MiB in the second half; the longest case took {longest:.2f} s")
    if grown > 64 * 1024:
        raise AssertionError(f"memory grew by {grown} KiB")
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        for outcome, times in sorted(run(Fuzz(Path(name)), options.count, options.seed, print).items()):
            print(f"{times:8d} {outcome}")
