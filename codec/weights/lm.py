"""Loads and saves language models: the official ones, and those that `earshot train-lm` writes."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from earshot.codec.config import ENCODEC_24KHZ, ENCODEC_48KHZ, ModelConfig
from earshot.codec.errors import ModelError, WeightsError
from earshot.codec.lm.integer_lm import LmShape, LmWeights
from earshot.codec.lm.transformer import LanguageModel, context_frames
from earshot.codec.targets import part_of
from earshot.codec.weights.load import check_bundled, check_tensors, read_state_dict
from earshot.codec.weights.shape import PRETRAINED

METADATA_KEY = "earshot_lm"
BUNDLED = PRETRAINED / "default.lm.safetensors"
_EMBEDDING, _LAYER = re.compile(r"emb\.\d+\.weight"), re.compile(r"transformer\.layers\.(\d+)\.linear1\.weight")
_MOST_LAYERS = 32


def official_config(config: ModelConfig) -> ModelConfig | None:
    """Returns the official model of the same shape, or None."""
    for known in (ENCODEC_24KHZ, ENCODEC_48KHZ):
        if config.shape() == known.shape():
            return known
    return None


def known_config(name: str) -> ModelConfig | None:
    """Returns the official model of this name, or None."""
    return next((known for known in (ENCODEC_24KHZ, ENCODEC_48KHZ) if known.name == name), None)


def load_official_lm(config: ModelConfig, path: Path | None = None, base_url: str | None = None) -> LanguageModel:
    """Loads the official language model for a codec of this shape: from the file named, or from the
    public one, which is fetched once into the cache. Raises ModelError if there is none, and
    WeightsError or DownloadError as `codec.load` does."""
    if path is None:
        from earshot.codec.weights import download

        official = official_config(config)
        if official is None:
            raise ModelError(f"there is no official language model for {config.name}; train one: earshot train-lm")
        path = download.cached(download.LANGUAGE_MODELS[official.name], base_url)
    state = read_state_dict(path)
    lm = _built(state, config, path)
    # Cloned: a state dict may hold several views of one storage.
    lm.load_state_dict({key: tensor.float().clone() for key, tensor in state.items()}, assign=True)
    return lm.eval().requires_grad_(False)


def _built(state: Mapping[str, Tensor], config: ModelConfig, path: Path) -> LanguageModel:
    """Returns a language model without memory, in the shape of these tensors, and checks them
    against it."""
    n_q = sum(_EMBEDDING.fullmatch(key) is not None for key in state)
    layers = [found for key in state if (found := _LAYER.fullmatch(key))]
    try:
        dim, hidden = state["emb.0.weight"].shape[1], state["transformer.layers.0.linear1.weight"].shape[0]
    except (KeyError, IndexError) as error:
        raise WeightsError(f"{path} is no state dict of a language model, as by its names; give another") from error
    if n_q != config.n_codebooks or not 1 <= len(layers) <= _MOST_LAYERS or dim % 8 or dim > 1 << 14:
        raise WeightsError(f"{path} is a language model of another shape than that of {config.name}; give another")
    with torch.device("meta"):
        lm = LanguageModel(n_q, config.codebook_size, context_frames(config.frame_rate), dim, hidden, len(layers))
    check_tensors(state, lm.state_dict(), f"the language model of {config.name}", path)
    return lm


def digest(weights: LmWeights) -> str:
    """Identifies an integer language model: both ends of a stream must have the same one."""
    hasher = hashlib.sha256(json.dumps(asdict(weights.shape), sort_keys=True).encode())
    for key, array in sorted(weights.arrays.items()):
        hasher.update(key.encode())
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()[:16]


def save_integer_lm(weights: LmWeights, codec_digest: str, path: Path) -> None:
    """Writes one file with the arrays, their shape, and the digest of the codec that they were
    trained for."""
    about = {"shape": asdict(weights.shape), "codec": codec_digest}
    tensors = {key: np.ascontiguousarray(array) for key, array in weights.arrays.items()}
    partial = part_of(path)
    partial.write_bytes(safetensors.numpy.save(tensors, {METADATA_KEY: json.dumps(about)}))
    os.replace(partial, path)


def load_integer_lm(codec_digest: str, path: Path = BUNDLED) -> LmWeights:
    """Loads an integer language model for the codec of this digest. Raises WeightsError for a file
    that is missing or damaged, and ModelError for one that was trained for another codec."""
    if path.is_dir():
        path = path / "lm.safetensors"
    if path == BUNDLED:
        check_bundled(path)
    try:
        with safe_open(path, framework="np") as file:
            arrays: dict[str, NDArray[Any]] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            about = json.loads((file.metadata() or {})[METADATA_KEY])
            shape, codec = LmShape.from_dict(about["shape"]), about["codec"]
        weights = LmWeights(shape, arrays)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError, ModelError) as error:
        raise WeightsError(
            f"{path} is no language model written by 'earshot train-lm', or is damaged ({error})"
        ) from error
    if codec != codec_digest:
        what = "comes with Earshot for the default model" if path == BUNDLED else f"was trained for the codec {codec}"
        raise ModelError(
            f"the language model {path.name} {what}, not for this one ({codec_digest}); train one: earshot train-lm"
        )
    return weights
