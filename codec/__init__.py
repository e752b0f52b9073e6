"""Streaming EnCodec: `load` returns a model, and imports torch no sooner than that.

Imports go one way: errors < config, pcm, bitstream < lm, model < weights < engine < ecdc, and
engine/cuda only where the engine "cuda" is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from earshot.codec.errors import EarshotError

if TYPE_CHECKING:
    from earshot.codec.engine.choice import EngineName, Precision
    from earshot.codec.model.model import Model

__all__ = ["EarshotError", "load"]


def load(
    name: str = "default",
    engine: EngineName = "auto",
    precision: Precision = "fp32",
    decode_precision: Precision | None = None,
) -> Model:
    """Loads a model by name or path.

    `name` is "default" (the weights that come with this package), "encodec_24khz" or
    "encodec_48khz" (the official weights, fetched once and verified), the path of an official `.th`
    file, of a Hugging Face folder (config.json and model.safetensors), or of a folder or
    `.safetensors` file written by `earshot train`.

    `engine` is what its sessions step in: "native" (C++), "torch", "cuda", or "auto", which is
    native where it is built and torch elsewhere. `precision` is what they compute in: "fp32" gives
    the codes of the reference; "native" also has "bf16" and "int8", "cuda" has "bf16" and "fp16"
    (docs/engine.md says what each changes). `decode_precision` is for decoders alone.

    Raises UsageError for an engine or a precision that is unknown or not available, and ModelError,
    WeightsError or DownloadError for a model that cannot be loaded. Each message says what to
    do."""
    from earshot.codec.engine.choice import use_engine
    from earshot.codec.weights.load import load_model

    return use_engine(load_model(name), engine, precision, decode_precision)
