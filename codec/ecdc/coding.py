"""Chooses how the codes of a file are coded: plain, or with which language model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from earshot.codec.ecdc.format import (
    BlockReader,
    BlockWriter,
    Header,
    LmReader,
    LmWriter,
    PlainReader,
    PlainWriter,
    Reader,
    Writer,
)
from earshot.codec.errors import ModelError

if TYPE_CHECKING:
    from earshot.codec.model.model import Model

OWN = "earshot:"
"""Prefix of the model name in files that the encodec package must not take for its own."""


@dataclass(frozen=True)
class Coding:
    """How codes become bytes, and what the header says about it."""

    lm: bool
    lm_digest: str | None
    writer: Callable[[int], Writer]
    """Makes a writer for n_q codebooks."""
    reader: Callable[[BinaryIO, int], Reader]

    def header(self, model: Model, samples: int, n_q: int) -> Header:
        if model.official and self.lm_digest is None:
            return Header(_public_name(model), samples, n_q, self.lm)
        return Header(
            OWN + model.name, samples, n_q, self.lm, model.digest, model.sample_rate, model.hop_length, self.lm_digest
        )


PLAIN = Coding(False, None, lambda _: PlainWriter(), PlainReader)


def coding_to_write(model: Model, lm: bool, path: Path | None = None) -> Coding:
    """Returns the plain coding, or one with a language model: the one named, or the one for this
    codec, which for official weights is the official one. Raises what loading a model raises."""
    if path is not None:
        return _official(model, path) if path.suffix == ".th" else _integer(model, path)
    if not lm:
        return PLAIN
    return _official(model, None) if model.official else _integer(model, None)


def coding_to_read(model: Model, header: Header, name: object, path: Path | None = None) -> Coding:
    """Returns the coding that a file was written with. Raises ModelError if other weights made its
    codes or if it needs another language model, and what loading a model raises."""
    own = header.model.startswith(OWN)
    if own != (not model.official or header.lm_digest is not None) or (
        header.digest != model.digest if own else header.model != _public_name(model)
    ):
        made = f"{header.model.removeprefix(OWN)!r}" + (f" ({header.digest})" if header.digest else "")
        raise ModelError(
            f"{name} was made by the model {made}, not by {model.name!r} ({model.digest}); name that model with --model"
        )
    if header.n_q > model.config.n_codebooks:
        raise ModelError(f"{name} has {header.n_q} codebooks, {model.name} only {model.config.n_codebooks}")
    if not header.lm:
        return PLAIN
    if header.lm_digest is None:
        return _official(model, path)
    coding = _integer(model, path)
    if coding.lm_digest != header.lm_digest:
        raise ModelError(
            f"{name} was coded with the language model {header.lm_digest}, not with this one ({coding.lm_digest}); "
            "name that one with --lm-model"
        )
    return coding


def _public_name(model: Model) -> str:
    """Returns the encodec package's name of official weights, whatever their file or folder is
    called here."""
    from earshot.codec.weights.lm import official_config

    official = official_config(model.config)
    return official.name if official else model.name


def _official(model: Model, path: Path | None) -> Coding:
    from earshot.codec.lm.transformer import LmPredictor
    from earshot.codec.weights.lm import load_official_lm

    lm = load_official_lm(model.config, path)
    return Coding(
        True,
        None,
        lambda n_q: LmWriter(LmPredictor(lm, n_q)),
        lambda file, n_q: LmReader(file, n_q, LmPredictor(lm, n_q)),
    )


def _integer(model: Model, path: Path | None) -> Coding:
    from earshot.codec.engine.choice import integer_lm
    from earshot.codec.weights.lm import BUNDLED, digest, load_integer_lm

    weights = load_integer_lm(model.digest, path or BUNDLED)
    lm = integer_lm(weights)
    return Coding(True, digest(weights), lambda _: BlockWriter(lm), lambda file, n_q: BlockReader(file, n_q, lm))
