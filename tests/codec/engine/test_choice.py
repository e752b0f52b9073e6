"""The choice of an engine, by name and by default, with and without the native engine."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest

from earshot.codec.engine import choice
from earshot.codec.engine.native.engine import NativeEngine, kernel_names
from earshot.codec.engine.torch.engine import TorchEngine
from earshot.codec.errors import EngineFull, UsageError
from earshot.codec.model.model import Model


def test_the_fastest_exact_engine_serves_unless_another_is_asked_for(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(choice.KERNELS, raising=False)
    for name in ("auto", "native"):
        engine = choice.engine_factory(tiny_model, name)(1, 2)
        assert isinstance(engine, NativeEngine)
        assert engine.network.kernels == kernel_names()[0]
    assert isinstance(choice.engine_factory(tiny_model, "torch")(1, 1), TorchEngine)
    with pytest.raises(UsageError, match="choose one of"):
        choice.engine_factory(tiny_model, "steam")  # type: ignore[arg-type]


def test_engines_of_one_factory_share_weights_and_nothing_else(tiny_model: Model) -> None:
    make = choice.engine_factory(tiny_model)
    one, two = make(1, 1), make(2, 0)
    assert isinstance(one, NativeEngine)
    assert isinstance(two, NativeEngine)
    assert one.network is two.network
    one.open_decoder()
    with pytest.raises(EngineFull):
        two.open_decoder()


def test_the_environment_forces_kernels(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.KERNELS, "portable")
    engine = choice.engine_factory(tiny_model)(1, 1)
    assert isinstance(engine, NativeEngine)
    assert engine.network.kernels == "portable"
    monkeypatch.setenv(choice.KERNELS, "abacus")
    with pytest.raises(UsageError, match="abacus"):
        choice.engine_factory(tiny_model)


def test_listeners_decode_in_int8_where_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.KERNELS, "portable")
    assert choice.listening_precision() == "fp32"
    monkeypatch.delenv(choice.KERNELS)
    assert choice.listening_precision() == ("fp32" if kernel_names() == ["portable"] else "int8")
    monkeypatch.setenv(choice.KERNELS, "abacus")
    with pytest.raises(UsageError, match="abacus"):
        choice.listening_precision()


def test_without_the_native_engine_torch_serves_and_says_so_once(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "earshot.codec.engine.native.engine", None)
    monkeypatch.delattr(sys.modules["earshot.codec.engine.native"], "engine", raising=False)
    choice.native_is_built.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            engines = [choice.engine_factory(tiny_model)(1, 1) for _ in range(3)]
        assert all(isinstance(engine, TorchEngine) for engine in engines)
        assert len(caplog.records) == 1
        assert "C++ compiler" in caplog.text
        codes = engines[0].encode([engines[0].open_encoder()], np.zeros((1, 320), np.float32), [4])
        assert codes[0].shape == (4,)
        assert choice.listening_precision() == "fp32"
        with pytest.raises(UsageError, match="C\\+\\+ compiler"):
            choice.engine_factory(tiny_model, "native")
    finally:
        choice.native_is_built.cache_clear()


def test_cuda_is_imported_only_where_it_is_chosen() -> None:
    program = """
import sys
from earshot import codec
codec.load(engine="auto").encoder()
assert not any(name.startswith("earshot.codec.engine.cuda") for name in sys.modules)
try:
    codec.load(engine="cuda")
except codec.EarshotError:
    pass  # there is no GPU
assert "earshot.codec.engine.cuda.engine" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
