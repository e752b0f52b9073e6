"""Converts weights of other programs: state dicts of the `encodec` package, and folders of
`transformers`.

Our layers have the order and the indices of the official ones, so only the names within a layer
differ."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from earshot.codec.config import ENCODEC_24KHZ, ENCODEC_48KHZ, ModelConfig
from earshot.codec.errors import ModelError, WeightsError

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.th$")
_OFFICIAL_LAYER = re.compile(r"(encoder|decoder)\.model\.(\d+)\.(.+)")
_HUGGINGFACE_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)")
_OFFICIAL_CODEBOOK = re.compile(r"quantizer\.vq\.layers\.(\d+)\._codebook\.(\w+)")
_HUGGINGFACE_CODEBOOK = re.compile(r"quantizer\.layers\.(\d+)\.codebook\.(\w+)")
_TRAINING_ONLY = ("inited", "cluster_size", "embed_avg")
_PARTS = {"block.1": "narrow", "block.3": "widen", "shortcut": "shortcut"}
_LEAVES = {
    "weight_g": "weight_g",
    "weight_v": "weight_v",
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
    "weight": "weight",
    "bias": "bias",
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
}
_OFFICIAL_CONV = re.compile(
    r"(?:(block\.[13]|shortcut)\.)?(?:conv\.conv\.|convtr\.convtr\.|conv(?:tr)?\.(?=norm\.))(.+)"
)
_HUGGINGFACE_CONV = re.compile(r"(?:(block\.[13]|shortcut)\.)?(?:conv\.|(?=norm\.))(.+)")


def check_hash(path: Path, data: bytes) -> None:
    """Checks an official file, whose name is `name-<start of its sha256>.th`. Raises WeightsError
    if the hash differs."""
    named = _HASH_IN_NAME.search(path.name)
    actual = hashlib.sha256(data).hexdigest()
    if named and not actual.startswith(named[1]):
        raise WeightsError(
            f"{path} is truncated or tampered with: its sha256 starts with {actual[: len(named[1])]}, not with "
            f"{named[1]} as its name says; get it again"
        )


def from_official(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Converts tensors of the `encodec` package to ours. Unknown names stay as they are."""
    return _convert(state, _OFFICIAL_LAYER, _OFFICIAL_CONV, _OFFICIAL_CODEBOOK, path)


def from_huggingface(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Converts tensors of transformers to ours, in either spelling of weight norm."""
    return _convert(state, _HUGGINGFACE_LAYER, _HUGGINGFACE_CONV, _HUGGINGFACE_CODEBOOK, path)


def _convert(
    state: Mapping[str, Tensor],
    layer: re.Pattern[str],
    conv: re.Pattern[str],
    codebook: re.Pattern[str],
    path: Path,
) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    codebooks: dict[int, Tensor] = {}
    for key, tensor in state.items():
        if found := codebook.fullmatch(key):
            if found[2] == "embed":
                codebooks[int(found[1])] = tensor
            elif found[2] not in _TRAINING_ONLY:
                named[key] = tensor
        else:
            ours = _layer_name(key, layer, conv)
            if ours in named:
                raise WeightsError(f"{path} holds {key} in two spellings; save the model again")
            named[ours] = tensor
    missing = sorted(set(range(len(codebooks))) - set(codebooks))
    shapes = {tuple(entries.shape) for entries in codebooks.values()}
    if not codebooks or missing or len(shapes) > 1:
        what = f"of different shapes {sorted(shapes)}" if len(shapes) > 1 else f"missing: {missing or 'all'}"
        raise WeightsError(f"{path}: codebooks are {what}; get the file again")
    named["quantizer.codebooks"] = torch.stack([codebooks[q] for q in range(len(codebooks))])
    return _fold_weight_norm(named, path)


def _layer_name(key: str, layer: re.Pattern[str], conv: re.Pattern[str]) -> str:
    found = layer.fullmatch(key)
    if not found:
        return key
    net, index, rest = found.groups()
    inner = conv.fullmatch(rest)
    if inner and inner[2] in _LEAVES:
        part = f"{_PARTS[inner[1]]}." if inner[1] else ""
        return f"{net}.layers.{index}.{part}{_LEAVES[inner[2]]}"
    return f"{net}.layers.{index}.{rest}" if rest.startswith("lstm.") else key


def _fold_weight_norm(named: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Folds `weight_g` and `weight_v` into one `weight`. Both packages compute it with the same
    function, so the result is the same to the last bit."""
    folded = {}
    for key, tensor in named.items():
        if key.endswith("weight_v") and key[:-1] + "g" in named:
            g = named[key[:-1] + "g"]
            if key[:-2] in named:
                raise WeightsError(f"{path} holds {key[:-2]} in two spellings; save the model again")
            if tensor.ndim != 3 or tuple(g.shape) != (tensor.shape[0], 1, 1):
                raise WeightsError(
                    f"{path}: {key} {tuple(tensor.shape)} and its norms {tuple(g.shape)} do not fit; get the file again"
                )
            folded[key[:-2]] = torch._weight_norm(tensor.float(), g.float(), 0)
        elif not (key.endswith("weight_g") and key[:-1] + "v" in named):
            folded[key] = tensor
    return folded


def config_from_official(state: Mapping[str, Tensor], path: Path) -> ModelConfig:
    """Returns the configuration of an official state dict. Its tensors show the model's shape, and
    norms of their own show that it is the 48 kHz model; sample rate, padding and windows are the
    official ones."""
    grouped = "encoder.model.0.conv.norm.weight" in state
    official, leaf = (ENCODEC_48KHZ, "weight") if grouped else (ENCODEC_24KHZ, "weight_v")
    try:
        first = state[f"encoder.model.0.conv.conv.{leaf}"]
        narrow = state[f"encoder.model.1.block.1.conv.conv.{leaf}"]
        ups = [tensor for _, tensor in _numbered(state, rf"decoder\.model\.(\d+)\.convtr\.convtr\.{leaf}")]
        convs = [tensor for _, tensor in _numbered(state, rf"encoder\.model\.(\d+)\.conv\.conv\.{leaf}")]
        units = _numbered(state, rf"encoder\.model\.(\d+)\.block\.1\.conv\.conv\.{leaf}")
        books = _numbered(state, r"quantizer\.vq\.layers\.(\d+)\._codebook\.embed")
        if not grouped and first.shape[1] != 1:
            raise ModelError(f"{path} is a causal model of {first.shape[1]} channels; only mono ones are supported")
        shape = {
            "channels": first.shape[1],
            "n_filters": first.shape[0],
            "kernel_size": first.shape[2],
            "last_kernel_size": convs[-1].shape[2],
            "dimension": convs[-1].shape[0],
            "residual_kernel_size": narrow.shape[2],
            "compress": narrow.shape[1] // narrow.shape[0],
            "n_residual_layers": len(units) // len(ups),
            "lstm_layers": len(_numbered(state, r"encoder\.model\.\d+\.lstm\.weight_ih_l(\d+)")),
            "ratios": tuple(tensor.shape[2] // 2 for tensor in ups),
            "n_codebooks": len(books),
            "codebook_size": books[0][1].shape[0],
        }
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise WeightsError(f"{path} is no state dict of an EnCodec model, as by its names; give another") from error
    known = all(getattr(official, key) == value for key, value in shape.items())
    name = official.name if known else _HASH_IN_NAME.sub("", path.name).removesuffix(".th")
    rates = _doubling(shape, official.sample_rate)
    return _config(official.to_dict() | shape | {"name": name, "bandwidths": rates}, path)


def _doubling(values: Mapping[str, Any], sample_rate: int) -> list[float]:
    """Returns the paper's rates: 2, 4, 8, ... codebooks, as far as the model has them."""
    codebooks, hop = values["n_codebooks"], 1
    for ratio in values["ratios"]:
        hop *= max(ratio, 1)
    each = (values["codebook_size"].bit_length() - 1) * sample_rate / hop / 1000
    counts = [2**i for i in range(1, 17) if 2**i <= codebooks] or [codebooks]
    return [round(count * each, 6) for count in counts]


def _numbered(state: Mapping[str, Tensor], pattern: str) -> list[tuple[int, Tensor]]:
    """Returns the tensors whose names match, sorted by the number in the name."""
    found = [(re.fullmatch(pattern, key), tensor) for key, tensor in state.items()]
    return sorted(((int(match[1]), tensor) for match, tensor in found if match), key=lambda pair: pair[0])


_HUGGINGFACE_FIXED: dict[str, tuple[Any, str]] = {
    "model_type": ("encodec", "models of another kind"),
    "use_conv_shortcut": (True, "residual units without a convolution in their shortcut"),
    "trim_right_ratio": (1.0, "transposed convolutions that are trimmed on the left"),
}
_HUGGINGFACE_NAMES = {
    "sampling_rate": "sample_rate",
    "num_filters": "n_filters",
    "hidden_size": "dimension",
    "upsampling_ratios": "ratios",
    "kernel_size": "kernel_size",
    "last_kernel_size": "last_kernel_size",
    "residual_kernel_size": "residual_kernel_size",
    "num_residual_layers": "n_residual_layers",
    "dilation_growth_rate": "dilation_base",
    "compress": "compress",
    "num_lstm_layers": "lstm_layers",
    "codebook_size": "codebook_size",
    "target_bandwidths": "bandwidths",
    "audio_channels": "channels",
    "use_causal_conv": "causal",
    "normalize": "normalize",
    "chunk_length_s": "window_seconds",
}
_HUGGINGFACE_VALUES = {
    "pad_mode": ("padding", {"reflect": "reflect", "constant": "zeros"}),
    "norm_type": ("norm", {"weight_norm": "weight", "time_group_norm": "time_group"}),
}


def config_from_huggingface(values: object, path: Path) -> ModelConfig:
    """Returns the configuration in transformers' `config.json` of an EncodecModel. Settings that it
    leaves out are those of the official 24 kHz model.

    Raises ModelError for models that are not supported, and WeightsError for settings that make no
    sense."""
    if not isinstance(values, dict):
        raise WeightsError(f"{path} is no JSON object; get the folder again")
    for key, (wanted, otherwise) in _HUGGINGFACE_FIXED.items():
        if values.get(key, wanted) != wanted:
            raise ModelError(
                f"{path}: {key} is {values[key]!r}: {otherwise} are not supported; use a model such as "
                "facebook/encodec_24khz"
            )
    ours = {name: values[key] for key, name in _HUGGINGFACE_NAMES.items() if key in values}
    for key, (name, known) in _HUGGINGFACE_VALUES.items():
        value = values.get(key, next(iter(known)))
        if value not in list(known):
            raise ModelError(f"{path}: {key} {value!r} is not supported, only {list(known)}")
        ours[name] = known[value]
    if ours.get("window_seconds") is not None:
        # transformers cuts no windows unless it knows how far they overlap.
        ours["window_overlap"] = values.get("overlap")
    dimension = ours.get("dimension", ENCODEC_24KHZ.dimension)
    if values.get("codebook_dim") not in (None, dimension):
        raise ModelError(f"{path}: codebooks of another dimension than the latents are not supported")
    # The settings are checked before the number of codebooks is computed from them.
    config = _config({"name": path.parent.name or "encodec", "n_codebooks": 1 << 10, **ours}, path)
    # transformers rounds a fractional frame rate up.
    per_codebook = -(-config.sample_rate // config.hop_length) * config.bits_per_code
    codebooks = int(1000 * config.bandwidths[-1] // per_codebook)
    return _config(config.to_dict() | {"n_codebooks": codebooks}, path)


def _config(values: dict[str, Any], path: Path) -> ModelConfig:
    try:
        return ModelConfig.from_dict(values)
    except ModelError as error:
        raise WeightsError(f"{path}: {error}; get it again") from error
