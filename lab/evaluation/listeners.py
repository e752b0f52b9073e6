"""What listeners would say of a sound, predicted by networks that other people trained: DistillMOS,
DNSMOS, and PLCMOS for gaps and how they are concealed.

Their packages import torchaudio, librosa and requests for what is not used here: reading files, and
DNSMOS's second opinion (P.808). Where these are not installed, empty modules stand in for them
while the packages are imported."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from earshot.codec.pcm import Pcm

SAMPLE_RATE = 16_000
"""Of what all of them hear."""


def predicted_by_distillmos(pcm: Pcm) -> float:
    """Returns DistillMOS's prediction of a sound [n] at SAMPLE_RATE, 1..5."""
    with torch.inference_mode():
        return float(_distillmos()(torch.from_numpy(np.asarray(pcm, np.float32))[None]))


def predicted_by_dnsmos(pcm: Pcm) -> float:
    """Returns DNSMOS's prediction (P.835, overall) of a sound [n] at SAMPLE_RATE, about 1..5."""
    found = _dnsmos()(np.clip(np.asarray(pcm, np.float32), -1, 1), SAMPLE_RATE, False)
    return float(found["ovrl_mos"])


def predicted_by_plcmos(pcm: Pcm) -> float:
    """Returns PLCMOS's prediction of a sound [n] at SAMPLE_RATE, about 1..5. Its raters are drawn
    by chance; here they are always the same."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        return float(_plcmos().get_mos(np.clip(np.asarray(pcm, np.float32), -1, 1), SAMPLE_RATE))
    finally:
        np.random.set_state(state)


@cache
def _plcmos() -> Any:
    with _stand_ins("librosa", "requests"):
        from speechmos import plcmos
    import onnxruntime

    class OneThread(plcmos.PLCMOS):  # type: ignore[misc]
        """Its own code, in one thread."""

        def __init__(self) -> None:
            one = onnxruntime.SessionOptions()
            one.intra_op_num_threads = one.inter_op_num_threads = 1
            self.model_name, self.max_lens, self.embed_rounds = "plcmos_v2", 999_999_999_999, 15
            models = Path(plcmos.__file__).parent / "plcmos_models"
            self.session = onnxruntime.InferenceSession(models / "plcmos_v2.onnx", one)

    return OneThread()


@cache
def _distillmos() -> Any:
    with _stand_ins("torchaudio"):
        import distillmos
    with contextlib.redirect_stdout(io.StringIO()):  # it tells where its weights are
        return distillmos.ConvTransformerSQAModel().eval()


@cache
def _dnsmos() -> Any:
    with _stand_ins("librosa", "requests"):
        from speechmos import dnsmos

    models = Path(dnsmos.__file__).parent / "dnsmos_models"
    import onnxruntime

    class Overall(dnsmos.DNSMOS):  # type: ignore[misc]
        """Its own code but for the second opinion, and in one thread."""

        def __init__(self) -> None:
            one = onnxruntime.SessionOptions()
            one.intra_op_num_threads = one.inter_op_num_threads = 1
            self.onnx_sess, self.p808_onnx_sess = (
                onnxruntime.InferenceSession(models / name, one) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")
            )

        def audio_melspec(self, audio: Pcm, *args: Any, **options: Any) -> Pcm:
            return np.zeros((audio.size // 160, 120), np.float32)

    return Overall()


@contextlib.contextmanager
def _stand_ins(*names: str) -> Iterator[None]:
    """Lets those of the modules that are not installed be imported inside, with nothing in them."""
    missing = [name for name in names if not _installed(name)]
    for name in missing:
        module = ModuleType(name)
        module.session = None  # type: ignore[attr-defined]  # the one name that is imported from one of them
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


def _installed(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None
