"""The shape of a model by its name, read in a moment: commands check what they are asked for
before they load anything."""

from __future__ import annotations

import json
from pathlib import Path

from earshot.codec.config import ENCODEC_24KHZ, ENCODEC_48KHZ, ModelConfig
from earshot.codec.errors import ModelError
from earshot.codec.homes import expanded

PRETRAINED = Path(__file__).parents[1] / "pretrained"
"""Folder of `default.safetensors`, and of `SHA256SUMS` as the program sha256sum writes it."""
METADATA_KEY = "earshot"
MOST_HEADER = 1 << 24


def no_model(name: str) -> ModelError:
    """Returns what to say of a name that is no model."""
    return ModelError(
        f"there is no model {name!r}: give 'default', 'encodec_24khz', 'encodec_48khz', or the path of a .th file, "
        "of a Hugging Face folder, or of what 'earshot train' wrote"
    )


def shape_of(name: str) -> ModelConfig | None:
    """Returns the shape of a model, or None where only its weights tell it. Raises ModelError for a
    name that is none."""
    for known in (ENCODEC_24KHZ, ENCODEC_48KHZ):
        if name == known.name:
            return known
    path = PRETRAINED / "default.safetensors" if name == "default" else expanded(name)
    if not path.exists():
        raise no_model(name)
    file = path / "model.safetensors" if path.is_dir() else path
    if file.suffix != ".safetensors" or not file.is_file():
        return None
    try:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(size)) if size <= MOST_HEADER else {}
        return ModelConfig.from_dict(json.loads(header["__metadata__"][METADATA_KEY]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ModelError):
        return None  # to load it says what is wrong


def check_rate(name: str, kbps: float) -> None:
    """Raises UsageError for a rate that a model does not have, ModelError for a name that is
    none."""
    if (config := shape_of(name)) is not None:
        config.n_q(kbps)
