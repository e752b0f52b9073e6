"""Training of a language model: it learns, goes on exactly where it stopped, and costs no more in
integers."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from earshot.codec.errors import UsageError, WeightsError
from earshot.codec.lm.arithmetic import TOTAL
from earshot.codec.lm.entropy import EntropyDecoder, EntropyEncoder
from earshot.codec.lm.integer_lm import IntegerLm
from earshot.codec.model.model import Model
from earshot.codec.terminal import Terminal
from earshot.codec.weights.lm import load_integer_lm
from earshot.lab.training import lm_run
from earshot.lab.training.lm_data import Crops, code, one_pass
from earshot.lab.training.lm_export import to_integers
from earshot.lab.training.lm_run import LmRun
from earshot.lab.training.lm_trainer import LmSettings, LmTrainer, bits_of, shape_for
from earshot.lab.training.sources import Source
from tests.conftest import VOICES
from tests.stereo import Stereo

QUICK = LmSettings(kbps=3.0, passes=2, steps=40, batch=4, seconds=0.5, learning_rate=0.02, precision="fp32")
SOURCES = [Source(str(VOICES / "ada.flac")), Source(str(VOICES / "ben.flac"))]


def silent() -> Terminal:
    return Terminal(file=io.StringIO())


@pytest.fixture(scope="module")
def run(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> LmRun:
    """A whole run; one voice is kept back."""
    made = LmRun(tiny_model, QUICK, tmp_path_factory.mktemp("lm"), torch.device("cpu"))
    made.go(silent(), SOURCES, ["ben.flac"])
    return made


def held_back(model: Model, seconds: float) -> np.ndarray:
    codes = one_pass(model, SOURCES, ["ada.flac"], 3.0, 0, 0, lambda *_: None)[0]
    return codes[:, : round(75 * seconds)]


def test_it_learns_what_also_holds_for_another_voice(run: LmRun, tiny_model: Model) -> None:
    untrained = LmTrainer(tiny_model, QUICK).exported()
    codes = [held_back(tiny_model, 4)]
    before, after = bits_of(untrained, codes), bits_of(run.trainer.exported(), codes)
    assert run.trainer.step == 40
    assert after.mean() < before.mean() - 0.2
    assert after[0] < after[-1]


def test_integers_cost_next_to_nothing(run: LmRun, tiny_model: Model) -> None:
    codes = held_back(tiny_model, 2)
    network = run.trainer.exported()
    streams = IntegerLm(to_integers(network)).streams()
    bits = np.zeros(codes.shape)
    for frame in range(codes.shape[1]):
        for q in range(codes.shape[0]):
            cdf = streams.cdf()[0]
            symbol = codes[q, frame]
            bits[q, frame] = np.log2(TOTAL) - np.log2(cdf[symbol] - (cdf[symbol - 1] if symbol else 0))
            streams.push(codes[q, frame : frame + 1])
        streams.end_frame()
    assert bits.mean() < 1.02 * bits_of(network, [codes]).mean()


def test_the_folder_has_what_is_needed(run: LmRun, tiny_model: Model) -> None:
    assert sorted(file.name for file in run.folder.iterdir()) == [
        "checkpoint.pt", "codes-0.npz", "codes-1.npz", "lm.safetensors",
    ]  # fmt: skip
    lm = IntegerLm(load_integer_lm(tiny_model.digest, run.folder))
    codes = held_back(tiny_model, 0.3)
    np.testing.assert_array_equal(EntropyDecoder(lm).decode(EntropyEncoder(lm).encode(codes), 4, codes.shape[1]), codes)


def test_what_goes_on_ends_where_the_other_did(run: LmRun, tiny_model: Model, tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / f"codes-{number}.npz").write_bytes((run.folder / f"codes-{number}.npz").read_bytes())
    first = LmRun(tiny_model, QUICK, tmp_path, torch.device("cpu"))
    crops = Crops(first.codes(silent(), SOURCES, []), 38, QUICK.batch, QUICK.seed)
    while first.trainer.step < 21:
        first.trainer.advance(crops.batch(first.trainer.step))
    first.save()
    second = LmRun(tiny_model, QUICK, tmp_path, torch.device("cpu"))
    second.resume()
    second.go(silent(), SOURCES, ["ben.flac"])
    for mine, other in zip(second.trainer.mean, run.trainer.mean, strict=True):
        assert torch.equal(mine, other)


def test_another_run_in_the_folder_is_refused(run: LmRun, tiny_model: Model, small_model: Model) -> None:
    for model, settings in ((tiny_model, replace(QUICK, seed=1)), (small_model, QUICK)):
        with pytest.raises(UsageError, match="another codec or has other settings"):
            LmRun(model, settings, run.folder, torch.device("cpu")).resume()
    LmRun(tiny_model, replace(QUICK, steps=100), run.folder, torch.device("cpu")).resume()
    damaged = run.folder.parent / "damaged"
    damaged.mkdir()
    (damaged / "checkpoint.pt").write_bytes(run.checkpoint.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="delete it to start again"):
        LmRun(tiny_model, QUICK, damaged, torch.device("cpu")).resume()


@pytest.fixture(scope="module")
def small_model(tiny_model: Model) -> Model:
    """The same shape, other weights."""
    other = type(tiny_model.network)(tiny_model.config)
    return Model(other)


def test_the_log_and_its_picture(tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With rows of steps that come again taken away."""
    monkeypatch.setattr(lm_run, "REPORT_STEPS", 10)
    run = LmRun(tiny_model, replace(QUICK, steps=10, batch=1, seconds=0.1, passes=1), tmp_path, torch.device("cpu"))
    (tmp_path / "log.jsonl").write_text('{"step": 100, "lr": 7}\n{"step": 2')
    run.go(silent(), SOURCES, ["ben.flac"])
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10]
    assert {"1.5 kbps", "3 kbps", "1.5 kbps, judged", "3 kbps, judged"} <= rows[0].keys()
    assert 5 < rows[0]["3 kbps, judged"] < 11
    assert (tmp_path / "bits.png").stat().st_size > 5000


def test_a_coarser_rate_learns_nothing_of_a_finer_one(run: LmRun, tiny_model: Model) -> None:
    codes = torch.from_numpy(held_back(tiny_model, 1).astype(np.int64))[None]
    other = codes.clone()
    other[:, 2:] = 1023 - other[:, 2:]
    network = run.trainer.exported()
    with torch.no_grad():
        assert torch.equal(network(codes)[:, :2], network(other)[:, :2])
        assert not torch.equal(network(codes)[:, 2:], network(other)[:, 2:])


def test_windows_are_streams_of_their_own(small: Stereo, music: np.ndarray) -> None:
    codes = code(small.ours, iter([music[:, :100_000]]), 6.0)
    assert [one.shape for one in codes] == [(4, 150), (4, 150), (4, 16)]
    assert shape_for(small.ours, 6.0).groups == (2, 4)
    crops = Crops(codes, 150, 3, 0)
    assert crops.batch(0).shape == (3, 4, 150)
    with pytest.raises(UsageError, match="less audio than one crop"):
        Crops(codes, 151, 3, 0)


def test_what_cannot_be_read_is_said(tiny_model: Model, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("not audio")
    with pytest.raises(UsageError, match="no audio that can be read"):
        one_pass(tiny_model, [Source(str(tmp_path))], [], 3.0, 0, 0, lambda *_: None)
