"""Loads and saves the weights of codecs, and checks everything that can be wrong with a file."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from earshot.codec.config import ENCODEC_24KHZ, ENCODEC_48KHZ, ModelConfig
from earshot.codec.errors import ModelError, WeightsError
from earshot.codec.homes import expanded
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from earshot.codec.targets import part_of
from earshot.codec.weights import conversion
from earshot.codec.weights.shape import METADATA_KEY, PRETRAINED, no_model


def save_native(network: Encodec, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes a network as one `.safetensors` file that carries its own configuration."""
    partial = part_of(path)
    partial.write_bytes(_native(network, dtype))
    os.replace(partial, path)


def native_bytes(model: Model) -> bytes:
    """Returns what a `.safetensors` file of this model holds: that of its own file, where it has
    one. Raises WeightsError if that cannot be read any more."""
    if model.file is None:
        return _native(model.network, torch.float32)
    try:
        return model.file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{model.file} cannot be read: {error.strerror or error}") from error


def _native(network: Encodec, dtype: torch.dtype) -> bytes:
    tensors = {key: tensor.detach().to(dtype).contiguous() for key, tensor in network.state_dict().items()}
    return safetensors.torch.save(tensors, {METADATA_KEY: json.dumps(network.config.to_dict())})


def load_model(name: str, base_url: str | None = None) -> Model:
    """Loads a model by name or path, as `codec.load` does. `base_url` replaces the public address
    of the official weights.

    Raises ModelError for models that are unknown or not supported, WeightsError for files that are
    missing, damaged or do not have the shape of their model, and DownloadError if official weights
    cannot be fetched."""
    if name == "default":
        return _load_default()
    if name in (ENCODEC_24KHZ.name, ENCODEC_48KHZ.name):
        from earshot.codec.weights import download

        return _load_official(download.cached(download.CODECS[name], base_url))
    path = expanded(name)
    if path.is_dir():
        if (path / "config.json").is_file():
            return _load_huggingface(path)
        if (path / "model.safetensors").is_file():
            return _load_native(path / "model.safetensors")
        raise WeightsError(f"{path} holds neither config.json nor model.safetensors; name another folder or a file")
    if not path.is_file():
        raise no_model(name)
    return _load_native(path) if path.suffix == ".safetensors" else _load_official(path)


def _load_default() -> Model:
    path = PRETRAINED / "default.safetensors"
    check_bundled(path)
    return _load_native(path)


def check_bundled(path: Path) -> None:
    """Raises WeightsError unless a file that comes with Earshot exists and has its hash in
    SHA256SUMS."""
    try:
        sums = (path.parent / "SHA256SUMS").read_text("utf-8").splitlines()
        expected = next(line.split()[0] for line in sums if path.name in line.split())
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, UnicodeDecodeError, StopIteration) as error:
        raise WeightsError(
            f"the weights that come with Earshot are missing ({path}); install Earshot again, or name another model"
        ) from error
    if actual != expected:
        raise WeightsError(f"{path} is damaged: its sha256 is {actual}, not {expected}; install Earshot again")


def _load_native(path: Path) -> Model:
    tensors, metadata = _read_safetensors(path)
    if METADATA_KEY not in metadata:
        raise WeightsError(
            f"{path} was not written by Earshot (it does not describe its model); for weights of transformers, give "
            "the folder with their config.json"
        )
    try:
        values = json.loads(metadata[METADATA_KEY])
        if not isinstance(values, dict):
            raise ModelError("they are not a JSON object")
        config = ModelConfig.from_dict(values)
    except (ValueError, RecursionError, ModelError) as error:
        raise WeightsError(f"{path}: its model settings are damaged: {error}; get the file again") from error
    model = _assemble(config, tensors, path)
    model.file = path
    return model


def _load_huggingface(folder: Path) -> Model:
    file = folder / "config.json"
    try:
        values = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{file} cannot be read: {error}; get the folder again") from error
    config = conversion.config_from_huggingface(values, file)
    path = folder / "model.safetensors"
    if not path.is_file():
        raise WeightsError(f"{path} is missing; get it, or save the model again with save_pretrained")
    tensors, _ = _read_safetensors(path)
    model = _assemble(config, conversion.from_huggingface(tensors, path), path)
    model.official = True
    return model


def _load_official(path: Path) -> Model:
    state = read_state_dict(path)
    model = _assemble(conversion.config_from_official(state, path), conversion.from_official(state, path), path)
    model.official = True
    return model


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of an official `.th` file, whose hash must be the one in its name. Raises
    WeightsError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    conversion.check_hash(path, data)
    _check_archive(data, path)
    try:
        with warnings.catch_warnings():
            # torch either reads a pickle of another protocol, after a warning, or refuses it.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            state = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is no plain state dict, or is damaged. Pickles that hold anything but tensors can run code and "
            "are refused; save the model's state_dict() instead, or get the file again"
        ) from error
    except Exception as error:  # torch.load does not document what it raises for a damaged file
        raise WeightsError(f"{path} is truncated or damaged; get it again ({type(error).__name__}: {error})") from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise WeightsError(f"{path} is no flat state dict of an EnCodec model; save the model's state_dict()")
    _check_storage(state, len(data), path)
    return state


def _check_archive(data: bytes, path: Path) -> None:
    """Raises WeightsError for a ZIP archive whose entries are larger than the file. torch.save does
    not compress; an archive that is compressed can be unpacked into any amount of memory."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return  # it is a plain pickle, or so damaged that torch refuses it
    if claimed > len(data):
        raise WeightsError(
            f"{path} claims {claimed} bytes and has {len(data)}: it is compressed or tampered with; "
            "save the model's state_dict() with torch.save"
        )


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is truncated or damaged; get it again ({error})") from error


def _check_storage(state: Mapping[str, Tensor], size: int, path: Path) -> None:
    """Raises WeightsError for tensors that claim more memory than the file holds. A view can have
    any size, and copying it would fill the memory."""
    if any(tensor.layout != torch.strided for tensor in state.values()):
        raise WeightsError(f"{path} holds tensors that are not dense; save the model's state_dict() as it is")
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > size:
        raise WeightsError(f"{path} claims more than its {size} bytes hold; it is damaged or tampered with")


def _assemble(config: ModelConfig, tensors: Mapping[str, Tensor], path: Path) -> Model:
    """Builds a model from tensors, after checking each against the shape that the configuration
    asks for."""
    try:
        with torch.device("meta"):
            network = Encodec(config)
    except (RuntimeError, OverflowError, TypeError) as error:
        raise ModelError(f"{path} describes a model that cannot be built: {error}") from error
    expected = network.state_dict()
    check_tensors(tensors, expected, config.name, path)
    # Cloned: tensors of a safetensors file are views into it and need not be aligned.
    network.load_state_dict({key: tensors[key].float().clone() for key in expected}, assign=True)
    return Model(network)


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str, path: Path) -> None:
    """Raises WeightsError for tensors that the model `name` does not have, lacks, or has in another
    shape, and for values that are not finite."""
    faults = [
        *(f"{key} is missing" for key in expected if key not in tensors),
        *(f"{key} does not belong to this model" for key in tensors if key not in expected),
    ]
    for key in expected.keys() & tensors.keys():
        tensor, shape = tensors[key], tuple(expected[key].shape)
        if not tensor.is_floating_point():
            faults.append(f"{key} is {tensor.dtype}, not floating point")
        elif tuple(tensor.shape) != shape:
            faults.append(f"{key} is {tuple(tensor.shape)}, not {shape}")
        elif not torch.isfinite(tensor).all():
            faults.append(f"{key} holds NaN or infinite values")
    if faults:
        more = f", and {len(faults) - 3} more faults" if len(faults) > 3 else ""
        raise WeightsError(
            f"{path} does not fit its model ({name}): {'; '.join(faults[:3])}{more}. Get the file "
            "again, or load it as what it is"
        )
