"""`.ecdc` files and the official package: both write the same bytes and read each other's, plain
and with the language model."""

from __future__ import annotations

import copy
import importlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from earshot import codec
from earshot.codec.ecdc.coding import coding_to_write
from earshot.codec.ecdc.files import decode_file, encode_file, read_info
from earshot.codec.ecdc.format import FRONT
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from tests.codec.lm.test_transformer import saved
from tests.stereo import official_stereo


@dataclass
class Pair:
    """A model of the official package with its language model, ours loaded from their files, and
    sound to code."""

    official: Any
    ours: Model
    lm: Path
    clip: Path
    kbps: float


def compress() -> Any:
    """Returns the package's module, which a function of the same name hides."""
    return importlib.import_module("encodec.compress")


@pytest.fixture(scope="module", params=["encodec_24khz", "encodec_48khz"])
def pair(
    request: pytest.FixtureRequest,
    encodec: ModuleType,
    random_encodec: Callable[..., Any],
    save_official: Callable[[Any, Path], Path],
    music: Pcm,
    speech: Pcm,
    tmp_path_factory: pytest.TempPathFactory,
) -> Pair:
    """Makes the pair and its clip. The stereo clip is two windows, the second one short."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "encodec_24khz":
        official, pcm, kbps = random_encodec(), speech[None, : 24_000 + 137], 3.0
    else:
        official, pcm, kbps = official_stereo(encodec, 32, music), music[:, 96_000 : 96_000 + 61_234], 6.0
    official.name = request.param
    # Smaller than the published model, which tests/codec/lm/test_transformer.py has: this tests
    # files.
    torch.manual_seed(5)
    lm = encodec.model.LMModel(
        official.quantizer.n_q, 1024, num_layers=2, dim=64, past_context=int(3.5 * official.frame_rate)
    )
    lm.eval()
    official.get_lm_model = lambda: lm
    compress().MODELS[request.param] = lambda: official
    soundfile.write(folder / "clip.wav", pcm.T, official.sample_rate, subtype="FLOAT")
    file = save_official(official, folder)
    return Pair(official, codec.load(str(file)), saved(lm.state_dict(), folder), folder / "clip.wav", kbps)


def theirs(pair: Pair, lm: bool) -> bytes:
    pair.official.set_target_bandwidth(pair.kbps)
    pcm, _ = soundfile.read(pair.clip, dtype="float32", always_2d=True)
    file = io.BytesIO()
    compress().compress_to_file(pair.official, torch.from_numpy(pcm.T.copy()), file, use_lm=lm)
    return file.getvalue()


@pytest.mark.parametrize("lm", [False, True], ids=["plain", "with the language model"])
def test_bytes_are_those_of_the_package_and_each_reads_the_other(pair: Pair, tmp_path: Path, lm: bool) -> None:
    expected, coded = theirs(pair, lm), tmp_path / "clip.ecdc"
    encode_file(pair.ours, pair.clip, coded, pair.kbps, None, coding_to_write(pair.ours, lm, pair.lm if lm else None))
    assert coded.read_bytes() == expected
    heard, rate = compress().decompress(expected)
    done = decode_file(pair.ours, coded, tmp_path / "clip.wav", None, pair.lm)
    ours, _ = soundfile.read(tmp_path / "clip.wav", dtype="float32", always_2d=True)
    assert (done.samples, done.sample_rate, done.damage) == (heard.shape[1], rate, None)
    np.testing.assert_allclose(ours.T, heard.clip(-1, 1).numpy(), atol=1e-4)


def test_our_own_files_are_refused_by_the_package(tiny_model: Model, pair: Pair, tmp_path: Path) -> None:
    encode_file(tiny_model, pair.clip, tmp_path / "own.ecdc", 1.5)
    with pytest.raises(ValueError, match="unsupported model earshot:tiny"):
        compress().decompress((tmp_path / "own.ecdc").read_bytes())


def test_the_header_is_the_packages(pair: Pair, tmp_path: Path) -> None:
    encode_file(pair.ours, pair.clip, tmp_path / "clip.ecdc", pair.kbps)
    data = (tmp_path / "clip.ecdc").read_bytes()
    header, size = read_info(tmp_path / "clip.ecdc")
    values = json.loads(data[FRONT.size : FRONT.size + FRONT.unpack(data[: FRONT.size])[2]])
    assert values == {"m": pair.official.name, "al": header.samples, "nc": header.n_q, "lm": False}
    assert size == len(data)


def test_official_weights_under_another_name_are_official(pair: Pair, tmp_path: Path) -> None:
    """A folder of transformers has a model name of its own, but official weights."""
    network = copy.copy(pair.ours.network)
    network.config = replace(network.config, name="folder")
    model = Model(network)
    model.official = True
    assert encode_file(model, pair.clip, tmp_path / "clip.ecdc", pair.kbps).model == pair.official.name
    assert decode_file(model, tmp_path / "clip.ecdc", tmp_path / "clip.wav").damage is None
