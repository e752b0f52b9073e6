"""The codec in WebAssembly beside torch, and its committed modules beside the sources that they
were built from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from earshot.codec.weights.load import PRETRAINED, load_model
from tests.web.node import WEB, run_js

ROOT = WEB.parent
HOP, RATE = 320, 24_000


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("default")


@pytest.fixture(scope="module")
def said(speech: Pcm) -> Pcm:
    """Three seconds of each voice."""
    return np.concatenate([speech[: 3 * RATE], speech[-3 * RATE - 137 : -137]])


@pytest.mark.parametrize("module", ["simd.wasm", "relaxed.wasm"])
def test_codes_are_those_of_torch_and_the_sound_is_too(module: str, model: Model, said: Pcm, tmp_path: Path) -> None:
    heard, codes = tmp_path / "heard", tmp_path / "said.f32"
    said.tofile(codes)
    told = run_js("codec.mjs", WEB / "codec" / module, PRETRAINED / "default.safetensors", codes, heard, "16")
    expected = model.frame_encoder(12.0).push(said)  # [16, frames]
    frames = expected.shape[1]
    assert told["frames"] == frames
    own = np.frombuffer(heard.read_bytes(), np.int16, frames * 16).reshape(frames, 16).T
    differ = int((own != expected).sum())
    assert differ == 0, f"{differ} of {own.size} codes"
    sound = np.frombuffer(heard.read_bytes(), np.float32, offset=frames * 32)
    np.testing.assert_allclose(sound, model.frame_decoder().push(expected), atol=1e-4)
    assert told["copied"]
    print(f"{module}: encode {told['encode']:.2f} ms, decode {told['decode']:.2f} ms, load {told['loaded']:.0f} ms")


def test_fewer_codebooks_are_loaded_and_what_cannot_be_is_refused(model: Model, said: Pcm, tmp_path: Path) -> None:
    heard, short = tmp_path / "heard", tmp_path / "said.f32"
    said[: 20 * HOP].tofile(short)
    told = run_js("codec.mjs", WEB / "codec/simd.wasm", PRETRAINED / "default.safetensors", short, heard, "2", "2")
    own = np.frombuffer(heard.read_bytes(), np.int16, 40).reshape(20, 2).T
    np.testing.assert_array_equal(own, model.frame_encoder(1.5).push(said[: 20 * HOP]))
    assert told["refused"] == [
        "pcm must be finite",
        "not an encoder, or no such n_q",
        "a code is out of range",
        "3 codebooks; 2 are loaded",
    ]


@pytest.mark.parametrize("damage", ["no weights", "cut off", "not finite"])
def test_damaged_weights_are_refused_with_a_reason(damage: str, tmp_path: Path) -> None:
    weights = bytearray((PRETRAINED / "default.safetensors").read_bytes())
    if damage == "no weights":
        weights[8] = ord("x")
    elif damage == "cut off":
        del weights[-100:]
    else:
        weights[-2:] = b"\xff\x7f"
    (tmp_path / "weights").write_bytes(weights)
    (tmp_path / "pcm").write_bytes(bytes(4 * HOP))
    with pytest.raises(
        AssertionError,
        match={"no weights": "no weights of Earshot", "cut off": "is cut off"}.get(
            damage, "holds NaN or infinite values"
        ),
    ):
        run_js("codec.mjs", WEB / "codec/simd.wasm", tmp_path / "weights", tmp_path / "pcm", tmp_path / "out", "1")


def test_the_modules_are_built_from_these_sources() -> None:
    lines = (WEB / "codec" / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    changed = [
        name for name, digest in listed.items() if hashlib.sha256((ROOT / name).read_bytes()).hexdigest() != digest
    ]
    assert not changed, f"changed since the modules were built: {changed}; run scripts/build-wasm"
    engine = ROOT / "codec" / "engine" / "native"
    left_out = ("binding", "integer_lm", "peak", "kernels_avx", "vectors_avx512")
    sources = {f"codec/engine/native/{path.name}" for path in engine.glob("*.[ch]*") if path.suffix in (".h", ".cpp")}
    ours = {name for name in sources if not any(part in name for part in left_out)}
    assert {name for name in listed if name.startswith("codec/")} == ours
