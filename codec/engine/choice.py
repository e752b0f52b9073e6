"""Which engine serves: the fastest exact one that this machine has, unless somebody says otherwise."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from typing import Literal, get_args

from codec.engine.base import Engine
from codec.engine.torch_sessions import TorchSessions
from codec.engine.torch_step import CPU, lay_out
from codec.entropy import CodesLm
from codec.errors import UsageError
from codec.integer_lm import IntegerLm, LmWeights
from codec.model import Model

log = logging.getLogger(__name__)

EngineName = Literal["auto", "torch", "native", "cuda"]
"""`auto` is native or torch. It never takes a GPU, as long as nobody has measured what one carries (docs/engine.md)."""
Precision = Literal["fp32", "bf16", "fp16"]
KERNELS = "EARSHOT_KERNELS"
"""Environment variable that forces a set of kernels of the native engine: avx512, avx2, portable."""
HOW_TO_GET_IT = "install a C++ compiler (Debian and Ubuntu: apt-get install g++), then install Earshot again"


def engine_factory(
    model: Model, name: EngineName = "auto", precision: Precision = "fp32"
) -> Callable[[int, int], Engine]:
    """(encoder slots, decoder slots) -> an engine. Weights are packed here, once for all engines that are made, on any
    thread. Raises UsageError for names that are unknown or not to be had here, for a precision that the engine does not
    have, and for models that do not stream."""
    model.config.check_streams()
    native = _is_native(name, precision)
    if name == "cuda":
        from codec.engine.cuda_engine import CudaEngine, gpu

        lay_out(model.network, gpu(precision))
        return lambda encoders, decoders: CudaEngine(model, encoders, decoders, precision)
    if native:
        from codec.engine.native_engine import NativeEngine, pack

        network = pack(model, _kernels())
        return lambda encoders, decoders: NativeEngine(model, encoders, decoders, network)
    from codec.engine.torch_engine import TorchEngine

    lay_out(model.network)
    return lambda encoders, decoders: TorchEngine(model, encoders, decoders)


def use_engine(model: Model, name: EngineName = "auto", precision: Precision = "fp32") -> Model:
    """Makes the sessions of `model` step in an engine. Raises UsageError for names that are unknown or not to be
    had here, and for a precision that the engine does not have. Models that do not stream are left as they are."""
    native = _is_native(name, precision)
    place = CPU
    if name == "cuda":
        from codec.engine.cuda_engine import gpu

        place = gpu(precision)
    try:
        model.config.check_streams()
    except UsageError:
        return model
    if native:
        from codec.engine.native_sessions import NativeSessions

        model.sessions = NativeSessions(model.network, _kernels())
    else:
        model.sessions = TorchSessions(model.network, place)
    return model


def integer_lm(weights: LmWeights) -> CodesLm:
    """An integer language model in C++ where it is built, else in numpy: the same numbers."""
    try:
        from codec.engine.native_lm import NativeLm
    except ImportError:
        return IntegerLm(weights)
    return NativeLm(weights, _kernels())


def _is_native(name: EngineName, precision: Precision) -> bool:
    if name not in get_args(EngineName):
        raise UsageError(f"there is no engine {name!r}; choose one of {', '.join(get_args(EngineName))}")
    if name == "native" and not native_is_built():
        raise UsageError(f"the native engine is not built here; {HOW_TO_GET_IT}")
    if name != "cuda" and precision != "fp32":
        raise UsageError(f"the engine {name} computes in fp32; the engine cuda has other precisions")
    return name in ("auto", "native") and native_is_built()


def _kernels() -> str:
    return os.environ.get(KERNELS) or "auto"


@cache
def native_is_built() -> bool:
    """Says how to get the native engine, once, where it is not."""
    try:
        from codec.engine import native_engine  # noqa: F401
    except ImportError as error:
        log.warning("torch codes, which is several times slower than the native engine (%s); %s", error, HOW_TO_GET_IT)
        return False
    return True
