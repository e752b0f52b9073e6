"""Chooses the engine: the fastest exact one on this machine, unless another is asked for. Modules
of the engines native and cuda are imported only when they are chosen."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np

from earshot.codec.engine.base import Engine
from earshot.codec.engine.torch.sessions import TorchSessionFactory
from earshot.codec.engine.torch.step import CPU, lay_out
from earshot.codec.errors import ModelError, UsageError
from earshot.codec.lm.entropy import CodesLm, EntropyEncoder, LiveLm
from earshot.codec.lm.integer_lm import IntegerLm, LmWeights
from earshot.codec.model.model import Model
from earshot.codec.weights.lm import BUNDLED, digest, load_integer_lm

if TYPE_CHECKING:
    from earshot.codec.engine.native.engine import NativePrecision

log = logging.getLogger(__name__)

EngineName = Literal["auto", "torch", "native", "cuda"]
"""`auto` is native or torch, never cuda: how many streams a GPU carries has not been measured
(docs/engine.md)."""
Precision = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "torch": ("fp32",),
    "native": ("fp32", "bf16", "int8"),
    "cuda": ("fp32", "bf16", "fp16"),
}
"""Precisions that the engines compute in. Only fp32 gives the codes of the reference."""
KERNELS = "EARSHOT_KERNELS"
"""Environment variable that forces a set of kernels of the native engine: avx512_bf16, avx512,
avx2, portable."""
HOW_TO_GET_IT = "install a C++ compiler (Debian and Ubuntu: apt-get install g++), then install Earshot again"


def engine_factory(
    model: Model, name: EngineName = "auto", precision: Precision = "fp32"
) -> Callable[[int, int], Engine]:
    """Returns a function that makes an engine from its numbers of encoder and decoder slots. The
    weights are packed here, once for all engines that are made on any thread. Raises UsageError for
    an engine or a precision that is unknown or not available, and for models that do not stream."""
    model.config.check_streams()
    native = _native_precision(name, precision)
    if name == "cuda":
        from earshot.codec.engine.cuda.engine import CudaEngine, gpu

        lay_out(model.network, gpu(precision))
        return lambda encoders, decoders: CudaEngine(model, encoders, decoders, precision)
    if native:
        from earshot.codec.engine.native.engine import NativeEngine, pack

        network = pack(model, _kernels(), native)
        return lambda encoders, decoders: NativeEngine(model, encoders, decoders, network)
    from earshot.codec.engine.torch.engine import TorchEngine

    lay_out(model.network)
    return lambda encoders, decoders: TorchEngine(model, encoders, decoders)


def use_engine(
    model: Model, name: EngineName = "auto", precision: Precision = "fp32", decode_precision: Precision | None = None
) -> Model:
    """Makes the sessions of `model` step in an engine; decoders compute in `decode_precision` if it
    is given. Raises UsageError for an engine or a precision that is unknown or not available.
    Models that do not stream are left as they are."""
    native, decoding = _native_precision(name, precision), _native_precision(name, decode_precision or precision)
    if not native and decode_precision not in (None, precision):
        raise UsageError(f"the engine {name} decodes in {precision} too, if it encodes in that")
    place = CPU
    if name == "cuda":
        from earshot.codec.engine.cuda.engine import gpu

        place = gpu(precision)
    try:
        model.config.check_streams()
    except UsageError:
        return model
    if native and decoding:
        from earshot.codec.engine.native.sessions import NativeSessionFactory

        model.sessions = NativeSessionFactory(model.network, _kernels(), native, decoding)
    else:
        model.sessions = TorchSessionFactory(model.network, place)
    return model


def listening_precision() -> Precision:
    """Returns the precision that listeners decode in: int8, which costs about 0.001 PESQ
    (docs/engine.md), but fp32 where that is faster: with portable kernels and in torch."""
    if not native_is_built():
        return "fp32"
    from earshot.codec.engine.native.engine import find_kernels

    return "fp32" if find_kernels(_kernels()) == "portable" else "int8"


def integer_lm(weights: LmWeights) -> CodesLm:
    """Returns an integer language model in C++ where it is built, else in numpy. Both give the same
    numbers."""
    try:
        from earshot.codec.engine.native.lm import NativeLm
    except ImportError:
        return IntegerLm(weights)
    return NativeLm(weights, _kernels().removesuffix("_bf16"))  # it has no bf16 kernels


def live_lm(model: Model, path: Path | None = None) -> LiveLm:
    """Returns the language model that entropy-codes the packets of a model: the one in this file,
    or the one that comes with Earshot. Raises ModelError as `load_integer_lm` does, and UsageError
    without the native engine, because numpy is too slow for a live call."""
    weights = load_integer_lm(model.digest, path or BUNDLED)
    if not native_is_built():
        raise UsageError(f"entropy coding in calls needs the native engine; {HOW_TO_GET_IT}")
    lm = integer_lm(weights)
    EntropyEncoder(lm).encode(
        np.zeros((weights.shape.n_q, 1), np.int16)
    )  # the first step is the slowest, so it is done here
    return LiveLm(lm, digest(weights))


def live_lm_if_any(model: Model, path: Path | None = None) -> LiveLm | None:
    """Returns what `live_lm` returns, or None instead of an error if no file was named."""
    try:
        return live_lm(model, path)
    except (ModelError, UsageError):
        if path is not None:
            raise
        return None


def _native_precision(name: EngineName, precision: Precision) -> NativePrecision | None:
    """Returns the precision that the native engine will compute in, or None if another engine
    serves."""
    if name not in get_args(EngineName):
        raise UsageError(f"there is no engine {name!r}; choose one of {', '.join(get_args(EngineName))}")
    if precision not in get_args(Precision):
        raise UsageError(f"there is no precision {precision!r}; choose one of {', '.join(get_args(Precision))}")
    if name == "native" and not native_is_built():
        raise UsageError(f"the native engine is not built here; {HOW_TO_GET_IT}")
    if name == "auto":
        name = "native" if native_is_built() else "torch"
    if precision not in PRECISIONS[name]:
        raise UsageError(f"the engine {name} has the precision {' or '.join(PRECISIONS[name])}, not {precision}")
    return cast("NativePrecision", precision) if name == "native" else None


def _kernels() -> str:
    return os.environ.get(KERNELS) or "auto"


@cache
def native_is_built() -> bool:
    """Returns whether the native engine is built. If it is not, a warning says once how to get
    it."""
    try:
        from earshot.codec.engine.native import engine  # noqa: F401
    except ImportError as error:
        log.warning("torch codes, which is several times slower than the native engine (%s); %s", error, HOW_TO_GET_IT)
        return False
    return True
