"""Every source gives the codes of the program that saved it, and every error says what is wrong."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from earshot import codec
from earshot.codec.config import ModelConfig
from earshot.codec.errors import ModelError, WeightsError
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from earshot.codec.pcm import Pcm
from earshot.codec.weights import load as weights
from earshot.codec.weights.load import read_state_dict, save_native


@pytest.fixture(scope="module")
def small(random_encodec: Callable[..., Any]) -> Any:
    """Returns an official model with a shape that was never released."""
    return random_encodec(n_filters=4, n_q=4, seed=5, ratios=(6, 5, 4, 3))


@pytest.fixture
def official_file(small: Any, save_official: Callable[[Any, Path], Path], tmp_path: Path) -> Path:
    return save_official(small, tmp_path)


@pytest.fixture
def native_file(tiny_model: Model, tmp_path: Path) -> Path:
    path = tmp_path / "native.safetensors"
    save_native(tiny_model.network, path)
    return path


@pytest.fixture(scope="module")
def huggingface(tmp_path_factory: pytest.TempPathFactory, random_encodec: Callable[..., Any]) -> tuple[Any, Path]:
    """Returns a small model of transformers with weights that matter, and the folder that its
    save_pretrained wrote."""
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig(num_filters=4, target_bandwidths=[1.5, 3.0], pad_mode="constant")
    model = EncodecModel(config).eval()
    source = random_encodec(n_filters=4, n_q=4, padding="constant", seed=6).state_dict()
    spelled = {}
    for key, tensor in source.items():
        key = key.replace(".model.", ".layers.").replace(".conv.conv.", ".conv.").replace(".convtr.convtr.", ".conv.")
        key = key.replace("quantizer.vq.layers", "quantizer.layers").replace("._codebook.", ".codebook.")
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            key = key.replace(f".{old}", f".parametrizations.weight.{new}")
        spelled[key] = tensor
    model.load_state_dict(spelled)
    folder = tmp_path_factory.mktemp("huggingface") / "encodec-tiny"
    model.save_pretrained(folder)
    return model, folder


def huggingface_codes(model: Any, pcm: Pcm, kbps: float) -> Any:
    with torch.no_grad():
        return model.encode(torch.from_numpy(pcm)[None, None], bandwidth=kbps).audio_codes[0, 0].numpy()


def old_spelling(folder: Path, target: Path) -> Path:
    """Returns the folder as older versions of transformers wrote it."""
    target.mkdir()
    (target / "config.json").write_text((folder / "config.json").read_text())
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    for old, new in (("original0", "weight_g"), ("original1", "weight_v")):
        tensors = {key.replace(f"parametrizations.weight.{old}", new): value for key, value in tensors.items()}
    safetensors.torch.save_file(tensors, target / "model.safetensors")
    return target


def test_official_file_of_any_shape(small: Any, official_file: Path, speech: Pcm) -> None:
    model = codec.load(str(official_file))
    assert model.config.ratios == (6, 5, 4, 3)
    assert (model.config.n_filters, model.config.n_codebooks, model.hop_length) == (4, 4, 360)
    with torch.no_grad():
        latents = small.encoder(torch.from_numpy(speech[:50_000])[None, None])
        expected = small.quantizer.vq.encode(latents, n_q=4)[:, 0].numpy()
    np.testing.assert_array_equal(model.encode(speech[:50_000], model.bandwidths[-1]), expected)


def test_official_release_is_known_by_its_shape(
    random_encodec: Callable[..., Any], save_official: Callable[[Any, Path], Path], tmp_path: Path
) -> None:
    model = codec.load(str(save_official(random_encodec(), tmp_path)))
    assert model.config == ModelConfig()


@pytest.mark.parametrize("spelling", ["parametrized", "weight_g"])
def test_huggingface_folder(huggingface: tuple[Any, Path], speech: Pcm, tmp_path: Path, spelling: str) -> None:
    official, folder = huggingface
    if spelling == "weight_g":
        folder = old_spelling(folder, tmp_path / "old")
    model = codec.load(str(folder))
    assert (model.bandwidths, model.config.padding) == ((1.5, 3.0), "zeros")
    for kbps in model.bandwidths:
        codes = huggingface_codes(official, speech, kbps)
        np.testing.assert_array_equal(model.encode(speech, kbps), codes)
        session = model.encoder(kbps, "zeros")
        streamed = np.concatenate([session.push(speech), session.flush()], axis=1)
        np.testing.assert_array_equal(streamed, codes)
    with torch.no_grad():
        expected = official.decode(torch.from_numpy(codes)[None, None], [None]).audio_values[0, 0]
    np.testing.assert_allclose(model.decode(codes), expected, rtol=0, atol=1e-5)


def test_full_size_huggingface_folder(
    random_encodec: Callable[..., Any], encodec: Any, speech: Pcm, tmp_path: Path
) -> None:
    """Loads transformers' own random weights, in the released shape; its codebooks are as wide as
    its latents."""
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(8)
    official = EncodecModel(EncodecConfig()).eval()
    with torch.no_grad():
        for module in official.modules():
            if hasattr(module, "parametrizations"):
                module.parametrizations.weight.original0.mul_(1.7)
        latents = official.encoder(torch.from_numpy(speech[:48_000])[None, None])
        for layer in official.quantizer.layers:
            layer.codebook.embed.copy_(torch.randn_like(layer.codebook.embed) * latents.std() * 0.3)
    official.save_pretrained(tmp_path / "full")
    model = codec.load(str(tmp_path / "full"))
    assert model.config.n_codebooks == 32
    session = model.encoder(24.0, "reflect")
    streamed = np.concatenate([session.push(speech), session.flush()], axis=1)
    with torch.no_grad():
        latents = official.encoder(torch.from_numpy(speech)[None, None])
        for kbps in model.bandwidths:
            expected = official.quantizer.encode(latents, kbps)[:, 0].numpy()
            np.testing.assert_array_equal(streamed[: len(expected)], expected)


def test_native_file_and_folder(tiny_model: Model, native_file: Path, speech: Pcm) -> None:
    native_file.rename(native_file.with_name("model.safetensors"))
    for name in (str(native_file.parent), str(native_file.with_name("model.safetensors"))):
        model = codec.load(name)
        assert (model.digest, model.config) == (tiny_model.digest, tiny_model.config)
    np.testing.assert_array_equal(model.encode(speech[:9000]), tiny_model.encode(speech[:9000]))


def test_default_is_verified(tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path)
    with pytest.raises(WeightsError, match=r"missing .*install Earshot again"):
        codec.load()
    path = tmp_path / "default.safetensors"
    save_native(tiny_model.network, path, torch.float16)
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  default.safetensors\n")
    model = codec.load()
    assert {tensor.dtype for tensor in model.network.state_dict().values()} == {torch.float32}
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="damaged: its sha256"):
        codec.load()


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model 'encodec_32khz': give 'default'"):
        codec.load("encodec_32khz")
    with pytest.raises(WeightsError, match="holds neither"):
        codec.load(str(tmp_path))


Tensors = dict[str, torch.Tensor]
CONV = "encoder.layers.3.weight"


def drop(tensors: Tensors) -> None:
    del tensors[CONV]


def add(tensors: Tensors) -> None:
    tensors["encoder.layers.99.weight"] = torch.zeros(3)


def reshape(tensors: Tensors) -> None:
    tensors[CONV] = tensors[CONV][..., :-1].contiguous()


def poison(tensors: Tensors) -> None:
    tensors["quantizer.codebooks"][2, 7, 5] = torch.nan


def make_whole(tensors: Tensors) -> None:
    tensors[CONV] = tensors[CONV].to(torch.int32)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop, r"encoder\.layers\.3\.weight is missing"),
        (add, r"encoder\.layers\.99\.weight does not belong"),
        (reshape, r"encoder\.layers\.3\.weight is \(8, 4, 3\), not \(8, 4, 4\)"),
        (poison, r"quantizer\.codebooks holds NaN or infinite"),
        (make_whole, "not floating point"),
    ],
)
def test_wrong_tensors(native_file: Path, damage: Callable[[Tensors], None], message: str) -> None:
    tensors = safetensors.torch.load_file(native_file)
    with safetensors.safe_open(native_file, "pt") as file:
        metadata = file.metadata()
    damage(tensors)
    safetensors.torch.save_file(tensors, native_file, metadata)
    with pytest.raises(WeightsError, match=message) as caught:
        codec.load(str(native_file))
    assert str(native_file) in str(caught.value)
    assert "again" in str(caught.value)


def test_truncated_native_file(native_file: Path) -> None:
    data = native_file.read_bytes()
    for size in (0, 7, 100, len(data) // 2, len(data) - 1):
        native_file.write_bytes(data[:size])
        with pytest.raises(WeightsError, match="truncated or damaged; get it again"):
            codec.load(str(native_file))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "not written by Earshot"),
        ("{", "settings are damaged"),
        ("[]", "settings are damaged"),
        ("[" * 100_000, "settings are damaged"),
        ('{"bandwidths": [1e308]}', "bandwidths must be numbers"),
        ('{"filters": 3}', "unknown model settings: filters"),
        ('{"n_filters": 1000000000}', "n_filters must be a whole number"),
        ('{"n_filters": "4"}', "n_filters must be a whole number"),
    ],
)
def test_wrong_description(native_file: Path, metadata: str | None, message: str) -> None:
    tensors = safetensors.torch.load_file(native_file)
    safetensors.torch.save_file(tensors, native_file, {"earshot": metadata} if metadata else None)
    with pytest.raises(WeightsError, match=message):
        codec.load(str(native_file))


def test_truncated_or_changed_official_file(official_file: Path) -> None:
    data = official_file.read_bytes()
    plain = official_file.with_name("plain.th")
    for size in (0, 1, 1000, len(data) // 2, len(data) - 1):
        official_file.write_bytes(data[:size])
        with pytest.raises(WeightsError, match=r"sha256 starts with .* as its name says; get it again"):
            codec.load(str(official_file))
        plain.write_bytes(data[:size])
        with pytest.raises(WeightsError, match=r"get (it|the file) again"):
            codec.load(str(plain))


class Hostile:
    """A pickle that would create a file if it were run."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (Path.touch, (self.file,))


def test_pickles_are_refused(tmp_path: Path) -> None:
    path, mark = tmp_path / "hostile.th", tmp_path / "mark"
    saved = tmp_path / "saved"
    torch.save({"a": Hostile(mark)}, saved)
    for data in (saved.read_bytes(), pickle.dumps(Hostile(mark))):
        path.write_bytes(data)
        with pytest.raises(WeightsError, match="can run code and are refused"):
            codec.load(str(path))
    assert not mark.exists()


def test_other_official_files(small: Any, tmp_path: Path) -> None:
    path = tmp_path / "other.th"

    def refuse(state: Any, error: type[ModelError], message: str) -> None:
        torch.save(state, path)
        with pytest.raises(error, match=message):
            codec.load(str(path))

    state = small.state_dict()
    first = "encoder.model.0.conv.conv.weight_v"
    refuse([1, 2], WeightsError, "no flat state dict")
    refuse({"model": state}, WeightsError, "no flat state dict")
    refuse({"transformer.weight": torch.zeros(3)}, WeightsError, "no state dict of an EnCodec model")
    refuse(
        state | {"encoder.model.0.conv.norm.weight": torch.ones(4)}, WeightsError, "no state dict of an EnCodec model"
    )
    refuse(state | {first: state[first].repeat(1, 2, 1)}, ModelError, "2 channels")
    refuse(state | {first: state[first][:3]}, WeightsError, "norms")
    refuse(state | {first: torch.zeros(1).expand(1 << 40, 1, 7)}, WeightsError, "claims more than")
    refuse(state | {"decoder.model.0.conv.conv.extra": torch.ones(4)}, WeightsError, "does not belong")
    lacking = {key: value for key, value in state.items() if ".layers.2." not in key}
    refuse(lacking, WeightsError, r"codebooks are missing: \[2\]")
    refuse({key: value for key, value in state.items() if key != "encoder.model.3.conv.conv.weight_g"}, WeightsError,
           "does not fit its model")  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"audio_channels": 2}, WeightsError, "does not fit its model"),
        ({"norm_type": "time_group_norm"}, WeightsError, "cannot be causal"),
        ({"norm_type": "none"}, ModelError, "norm_type 'none'"),
        ({"use_conv_shortcut": False}, ModelError, "shortcut"),
        ({"normalize": None}, WeightsError, "true or false"),
        ({"chunk_length_s": 1.0}, WeightsError, "window_overlap"),
        ({"trim_right_ratio": 0.5}, ModelError, "trimmed"),
        ({"pad_mode": "replicate"}, ModelError, "pad_mode 'replicate'"),
        ({"pad_mode": ["reflect"]}, ModelError, "pad_mode"),
        ({"codebook_dim": 64}, ModelError, "another dimension"),
        ({"model_type": "dac"}, ModelError, "models of another kind"),
        ({"num_filters": "many"}, WeightsError, "n_filters must be"),
        ({"upsampling_ratios": []}, WeightsError, "ratios must be"),
        ({"upsampling_ratios": [8, 5, 4, 4]}, WeightsError, "does not fit its model"),
        ({"target_bandwidths": ["x"]}, WeightsError, "bandwidths must be numbers"),
        ({"target_bandwidths": [1e308]}, WeightsError, "bandwidths must be numbers"),
        ({"num_filters": 8}, WeightsError, "does not fit its model"),
    ],
)
def test_huggingface_settings(
    huggingface: tuple[Any, Path], tmp_path: Path, change: dict[str, Any], error: type[ModelError], message: str
) -> None:
    values = json.loads((huggingface[1] / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "model.safetensors").write_bytes((huggingface[1] / "model.safetensors").read_bytes())
    with pytest.raises(error, match=message) as caught:
        codec.load(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_damaged_huggingface_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json cannot be read"):
        codec.load(str(tmp_path))
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(WeightsError, match=r"config\.json cannot be read"):
        codec.load(str(tmp_path))
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match="no JSON object"):
        codec.load(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"model\.safetensors is missing"):
        codec.load(str(tmp_path))


def test_a_digest_names_what_makes_codes(tiny_model: Model) -> None:
    """A decoder that was trained further keeps the digest; weights that make other codes change
    it."""
    network = tiny_model.network
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    kept = set()
    for key in state:
        changed = Encodec(network.config)
        changed.load_state_dict({**state, key: state[key] + 0.5})
        if changed.digest() == network.digest():
            kept.add(key)
    assert kept == {key for key in state if key.startswith("decoder.")}
    assert len(kept) > 10
    assert Encodec(replace(network.config, padding="reflect")).digest() != Encodec(network.config).digest()


def test_an_archive_that_unpacks_into_more_than_the_file_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of 100 kB would take 100 MB before its tensors are looked at."""
    plain, packed = tmp_path / "plain.th", tmp_path / "packed.th"
    torch.save({"weight": torch.zeros(25_000_000)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert packed.stat().st_size < 1_000_000
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(WeightsError, match="claims 100"):
        read_state_dict(packed)
