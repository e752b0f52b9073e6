"""What a run sounds like so far: a few of its own examples, decoded at the lowest and a middle
rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch

from earshot.codec.model.network import Encodec
from earshot.codec.model.windows import volume
from earshot.codec.pcm import Pcm
from earshot.lab.training.data import TrainingData

EXAMPLES = 4
SEED = 2**31
"""Not one a run trains with."""
APART = 1.25
"""Between two steps with samples: a run however long leaves some fifty files."""
PAUSE_S = 0.2


class Samples:
    """The same examples each time, one after the other in one file: `original.wav`, then
    `STEP-KBPS.wav`."""

    def __init__(self, data: TrainingData, folder: Path) -> None:
        self._folder, self._rate = folder, data.sample_rate
        self._spoken = torch.from_numpy(data.batch(EXAMPLES, SEED, 0))
        folder.mkdir(parents=True, exist_ok=True)
        self._write("original", self._spoken.numpy())

    @torch.inference_mode()
    def write(self, network: Encodec, step: int, always: bool = False) -> None:
        """If not `always`, only where there are none of a step close by. Overwrites those of the
        same step."""
        steps = (file.name.partition("-")[0] for file in self._folder.glob("*-*.wav"))
        before = [int(text) for text in steps if text.isdecimal()]
        if not always and any(earlier != step and step < APART * earlier for earlier in before):
            return
        config = network.config
        scale = volume(self._spoken) if config.normalize else torch.ones(())
        for kbps in {config.bandwidths[0], config.bandwidths[len(config.bandwidths) // 2]}:
            codes = network.encode(self._spoken / scale, config.n_q(kbps))
            heard = network.decode(codes)[..., : self._spoken.shape[-1]] * scale
            self._write(f"{step:07d}-{kbps:g}kbps", heard.numpy())

    def _write(self, name: str, examples: Pcm) -> None:
        pause = np.zeros((examples.shape[1], round(PAUSE_S * self._rate)), np.float32)
        row = np.concatenate([part for example in examples for part in (example, pause)], axis=1)
        soundfile.write(self._folder / f"{name}.wav", np.clip(row.T, -1, 1), self._rate)
