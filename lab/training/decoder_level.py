"""How the default model's decoder learned to keep the level of noise and music (parts three and
four of its card).

Encoder and codebooks stand still, so codes stay what they are.

    python -m earshot.lab.sounds.general_midi MUSIC
    python -m earshot.lab.training.decoder_level --speech SPEECH... --other MUSIC... \\
        --exclude GLOB... --out FILE \\
        [--init default] [--before default] [--minutes 45] [--threads 1]

Speech is held to its original and to what the decoder `--before` made of the same codes; other
sounds to their original and its level. The result is a running mean of weights, saved every four
minutes. """

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from earshot.codec.model.network import Encodec
from earshot.codec.model.seanet import Conv1d, ConvTranspose1d
from earshot.codec.pcm import Pcm
from earshot.codec.weights.load import load_model, save_native
from earshot.lab.evaluation.signals import at_level, clipped
from earshot.lab.sounds.made_sounds import made_sound
from earshot.lab.training.balancer import Balancer
from earshot.lab.training.data import TrainingData
from earshot.lab.training.initial import copy_weights, fold_weight_norm
from earshot.lab.training.losses import MelLoss
from earshot.lab.training.settings import read_recipe

CROP = 48 * 320
SPEECH, OTHER = 9, 6
"""Crops of each in a batch; half of the others are made, half come from files."""
WEIGHTS = {
    "speech waveform": 2.0, "speech mel": 6.0, "before waveform": 9.0, "before mel": 9.0,
    "other waveform": 0.5, "other mel": 1.5, "level": 1.5,
}  # fmt: skip
CODEBOOKS = (2, 2, 4, 8, 16)
"""As likely as they are often; the fewer there are, the more level is lost."""
SAVE_S = 240.0
PLAIN = {
    "strategies": {"music": 0.0, "other": 1.0, "two": 0.0, "three": 0.0},
    "noise": {"probability": 0.0},
}


def crops(sources: list[str], exclude: list[str], other: bool) -> TrainingData:
    """Speech as in calls, or other sounds as they are in their files."""
    microphone = (
        {"narrow": 0.0, "overload": 0.0, "hush": 0.0} if other else {"narrow": 0.05, "overload": 0.05, "hush": 0.03}
    )
    own = {"normalise": "none", "gain_db": [0, 0]} if other else {"normalise": "crop_peak", "gain_db": [-20, -1]}
    rooms = {"reverberation": {"probability": 0.0 if other else 0.1}, "microphone": microphone, "level_db": 0}
    named = [f"other:{source}" for source in sources] if other else sources
    data = {"sources": named, "exclude": exclude, **PLAIN, **own, **rooms}
    return TrainingData(read_recipe("lite", [f"crop_seconds={CROP / 24_000}"], data).data, 24_000, 1, CROP)


def as_heard(r: np.random.Generator, sound: Pcm) -> Pcm:
    """As it is, overdriven by 20 dB, or at another level."""
    chance = r.random()
    if chance < 0.4 or not sound.any():
        return sound
    return clipped(sound, 20.0) if chance < 0.8 else np.clip(at_level(sound, r.uniform(-38, -6)), -1, 1)


def batches(speech: TrainingData, other: TrainingData) -> Iterator[Tensor]:
    """[SPEECH + OTHER, 1, CROP], speech first."""
    step = 0
    while True:
        filed = other.batch(OTHER, 13, step)
        sounds = []
        for index in range(OTHER):
            r = np.random.default_rng([17, step, index])
            sounds.append(made_sound(r, CROP) if index < OTHER // 2 else as_heard(r, filed[index, 0]))
        yield torch.from_numpy(np.concatenate([speech.batch(SPEECH, 11, step), np.stack(sounds)[:, None]]))
        step += 1


def relative(heard: Tensor, spoken: Tensor) -> Tensor:
    """L1 by example: quiet ones count as much as loud ones."""
    return ((heard - spoken).abs().mean((1, 2)) / spoken.abs().mean((1, 2)).clamp(min=1e-4)).mean()


def level(heard: Tensor, spoken: Tensor) -> Tensor:
    """|dB| between the levels of whole crops, and a little of that between 40 ms that are louder
    than -55 dBFS."""

    def dbfs(x: Tensor, size: int, hop: int) -> Tensor:
        return 10 * torch.log10(x[:, 0].unfold(1, size, hop).square().mean(2) + 1e-7)

    whole = (dbfs(heard, CROP, 1) - dbfs(spoken, CROP, 1)).abs().mean()
    a, b = dbfs(heard, 960, 480), dbfs(spoken, 960, 480)
    counts = (b > -55).float()
    return whole + 0.3 * ((a - b).abs() * counts).sum() / counts.sum().clamp(min=1)


def evened(heard: Tensor, spoken: Tensor) -> Tensor:
    """The same sounds, whose gradient grows with the root of their level: quiet examples do not
    decide alone."""
    weight = (spoken.square().mean((1, 2), keepdim=True).sqrt().clamp(min=3e-3) / 0.1) ** 0.5
    return heard * weight + (heard * (1 - weight)).detach()


def add_weight_norm(decoder: nn.Module) -> None:
    for module in decoder.modules():
        if isinstance(module, Conv1d | ConvTranspose1d):
            weight_norm(module)


class DecoderTrainer:
    def __init__(self, network: Encodec, before: Encodec, rate: float) -> None:
        self.network, self.before, self.rate = Encodec(network.config), before.requires_grad_(False), rate
        copy_weights(self.network, network)
        self.network.requires_grad_(False)
        add_weight_norm(self.network.decoder)
        self.parameters = list(self.network.decoder.requires_grad_(True).parameters())
        self.mean = [parameter.detach().clone() for parameter in self.parameters]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, betas=(0.9, 0.999), weight_decay=0.0)
        self.balancer, self.mel = Balancer(0.99), MelLoss(network.config.sample_rate)
        self.step = 0

    def advance(self, batch: Tensor, done: float) -> dict[str, float]:
        """One step; `done` is how much of the time has passed, after 15 % of which the rate falls
        to 0."""
        generator = torch.Generator().manual_seed(self.step)
        n_q = CODEBOOKS[int(torch.randint(len(CODEBOOKS), (), generator=generator))]
        net, padding = self.network, self.network.config.padding
        with torch.no_grad():
            latents, _ = net.encoder.step(batch, None, padding, last=True)
            latents = net.quantizer.decode(net.quantizer.encode(latents, n_q))
            with torch.autocast("cpu", torch.bfloat16):
                before, _ = self.before.decoder.step(latents[:SPEECH], None, padding, last=True)
        with torch.autocast("cpu", torch.bfloat16):
            heard, _ = net.decoder.step(latents, None, padding, last=True)
        heard, before = heard.float(), before.float()
        even, spoken, other = evened(heard, batch), batch[:SPEECH], batch[SPEECH:]
        losses = {
            "speech waveform": relative(even[:SPEECH], spoken),
            "speech mel": self.mel(even[:SPEECH], spoken),
            "before waveform": relative(even[:SPEECH], before),
            "before mel": self.mel(even[:SPEECH], before),
            "other waveform": relative(even[SPEECH:], other),
            "other mel": self.mel(even[SPEECH:], other),
            "level": level(even[SPEECH:], other),
        }
        gradient = self.balancer.gradient(losses, WEIGHTS, heard)
        self.optimizer.zero_grad()
        torch.autograd.backward([heard], [gradient])
        norm = nn.utils.clip_grad_norm_(self.parameters, 20.0)
        for group in self.optimizer.param_groups:
            falls = 0.5 * (1 + math.cos(math.pi * max(0.0, (done - 0.15) / 0.85)))
            group["lr"] = self.rate * min(1.0, (self.step + 1) / 100) * falls
        if torch.isfinite(norm):
            self.optimizer.step()
        self.step += 1
        decay = min(0.997, self.step / (9 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.mean, self.parameters, strict=True):
                mean.lerp_(now, 1 - decay)
        return {name: float(loss.detach()) for name, loss in losses.items()}

    @torch.no_grad()
    def save(self, path: Path) -> None:
        plain = Encodec(self.network.config)
        add_weight_norm(plain.decoder)
        plain.load_state_dict(self.network.state_dict())
        for parameter, mean in zip(plain.decoder.parameters(), self.mean, strict=True):
            parameter.copy_(mean)
        fold_weight_norm(plain)
        save_native(plain.eval(), path)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m earshot.lab.training.decoder_level",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--speech", nargs="+", required=True)
    parser.add_argument("--other", nargs="+", required=True)
    parser.add_argument("--exclude", nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", default="default")
    parser.add_argument("--before", default="default")
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--rate", type=float, default=6e-5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    trainer = DecoderTrainer(load_model(options.init).network, load_model(options.before).network, options.rate)
    data = batches(
        crops(options.speech, options.exclude, other=False), crops(options.other, options.exclude, other=True)
    )
    began = saved = time.monotonic()
    while (done := (time.monotonic() - began) / 60 / options.minutes) < 1:
        losses = trainer.advance(next(data), done)
        if trainer.step % 25 == 0:
            print(f"{trainer.step} {done:.0%}", *(f"{name} {loss:.3f}" for name, loss in losses.items()), flush=True)
        if time.monotonic() - saved > SAVE_S:
            trainer.save(options.out)
            saved = time.monotonic()
    trainer.save(options.out)


if __name__ == "__main__":
    main()
