"""Which engine serves: the fastest exact one that this machine has, unless somebody says otherwise."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from typing import Literal, get_args

from codec.engine.base import Engine
from codec.errors import UsageError
from codec.model import Model, Sessions

log = logging.getLogger(__name__)

EngineName = Literal["auto", "torch", "native"]
KERNELS = "EARSHOT_KERNELS"
"""Environment variable that forces a set of kernels of the native engine: avx512, avx2, portable."""
HOW_TO_GET_IT = "install a C++ compiler (Debian and Ubuntu: apt-get install g++), then install Earshot again"


def engine_factory(model: Model, name: EngineName = "auto") -> Callable[[int, int], Engine]:
    """(encoder slots, decoder slots) -> an engine. Weights are packed here, once for all engines that are made, on any
    thread. Raises UsageError for names that are unknown or not to be had here, and for models that do not stream."""
    model.config.check_streams()
    if _is_native(name):
        from codec.engine.native_engine import NativeEngine, pack

        network = pack(model, _kernels())
        return lambda encoders, decoders: NativeEngine(model, encoders, decoders, network)
    from codec.engine.torch_engine import TorchEngine

    return lambda encoders, decoders: TorchEngine(model, encoders, decoders)


def use_engine(model: Model, name: EngineName = "auto") -> Model:
    """Makes the sessions of `model` step in an engine. Raises UsageError for names that are unknown or not to be
    had here. Models that do not stream are left as they are."""
    native = _is_native(name)
    try:
        model.config.check_streams()
    except UsageError:
        return model
    if native:
        from codec.engine.native_sessions import NativeSessions

        model.sessions = NativeSessions(model.network, _kernels())
    else:
        model.sessions = Sessions(model.network)
    return model


def _is_native(name: EngineName) -> bool:
    if name not in get_args(EngineName):
        raise UsageError(f"there is no engine {name!r}; choose one of {', '.join(get_args(EngineName))}")
    if name == "native" and not native_is_built():
        raise UsageError(f"the native engine is not built here; {HOW_TO_GET_IT}")
    return name != "torch" and native_is_built()


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
