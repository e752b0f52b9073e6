"""The paper's language model: it computes the same bits as the official package's, and errors say
what is wrong with its file."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from earshot.codec.config import ENCODEC_24KHZ, ENCODEC_48KHZ, LITE_24KHZ
from earshot.codec.errors import ModelError, UsageError, WeightsError
from earshot.codec.lm.transformer import LanguageModel, LmState, context_frames
from earshot.codec.weights import download
from earshot.codec.weights.lm import load_official_lm


def official(encodec: ModuleType, n_q: int = 32, context: int = 262, dim: int = 200, layers: int = 5) -> Any:
    """Returns the package's model with random weights. Its biases are not zero, so that every bias
    matters."""
    torch.manual_seed(0)
    model = encodec.model.LMModel(n_q, 1024, num_layers=layers, dim=dim, past_context=context).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name or "norm" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def saved(state: object, folder: Path, name: str = "lm") -> Path:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = folder / f"{name}-{hashlib.sha256(buffer.getvalue()).hexdigest()[:8]}.th"
    path.write_bytes(buffer.getvalue())
    return path


@pytest.mark.parametrize(
    ("context", "n_q", "used", "frames"), [(262, 4, 2, 300), (525, 16, 16, 20)], ids=["24 kHz", "48 kHz"]
)
def test_steps_equal_the_package(encodec: ModuleType, context: int, n_q: int, used: int, frames: int) -> None:
    """Compares 300 steps, which is past the context of 262."""
    theirs = official(encodec, n_q=n_q, context=context)
    ours = LanguageModel(n_q, 1024, context).eval()
    ours.load_state_dict(theirs.state_dict())
    codes = torch.randint(0, 1024, (1, used, frames + 1))
    before, state, offset = torch.zeros(1, used, 1, dtype=torch.int64), None, 0
    mine: LmState | None = None
    for frame in range(frames):
        with torch.no_grad():
            expected, state, offset = theirs(before, state, offset)
        probabilities, mine = ours.step(before[..., 0] - 1, mine)
        assert (probabilities[0].T - expected[0, ..., 0]).abs().max() < 1e-5
        before = 1 + codes[:, :, frame : frame + 1]
    assert mine is not None
    assert mine.layers[0].shape[1] == min(frames + 1, context)


def test_streams_share_nothing_but_weights(encodec: ModuleType) -> None:
    ours = LanguageModel(2, 1024, 4).eval()
    first = torch.randint(0, 1024, (6, 1, 2))
    state: LmState | None = None
    alone = []
    for codes in first:
        probabilities, state = ours.step(codes, state)
        alone.append(probabilities)
    one: LmState | None = None
    other: LmState | None = None
    for codes, expected in zip(first, alone, strict=True):
        probabilities, one = ours.step(codes, one)
        _, other = ours.step(1023 - codes, other)
        assert torch.equal(probabilities, expected)
    with pytest.raises(UsageError, match=r"1\.\.2 codebooks, not 3"):
        ours.step(torch.zeros(1, 3, dtype=torch.int64), None)


def test_context_is_the_official_one() -> None:
    assert [context_frames(c.frame_rate) for c in (ENCODEC_24KHZ, ENCODEC_48KHZ)] == [262, 525]


def test_a_checkpoint_is_loaded(encodec: ModuleType, tmp_path: Path) -> None:
    theirs = official(encodec)
    ours = load_official_lm(ENCODEC_24KHZ, saved(theirs.state_dict(), tmp_path))
    assert ours.context == 262
    assert all(torch.equal(tensor, ours.state_dict()[key]) for key, tensor in theirs.state_dict().items())


def test_it_is_fetched_once(encodec: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror is a file here; tests/codec/weights/test_download.py tests the network."""
    file = saved(official(encodec, dim=16, layers=1).state_dict(), tmp_path, "encodec_lm_24khz")
    release = download.Release(file.name, None, file.stem.split("-")[1])
    monkeypatch.setitem(download.LANGUAGE_MODELS, "encodec_24khz", release)
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path)
    assert load_official_lm(ENCODEC_24KHZ).n_q == 32
    with pytest.raises(ModelError, match="no official language model for lite_24khz"):
        load_official_lm(LITE_24KHZ)


def test_damaged_checkpoints_are_refused(encodec: ModuleType, tmp_path: Path) -> None:
    state = official(encodec, dim=16, layers=1).state_dict()
    path = saved(state, tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="truncated or tampered"):
        load_official_lm(ENCODEC_24KHZ, path)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"emb.0.weight": torch.zeros(7)}, "as by its names"),
        ({"emb.32.weight": torch.zeros(1025, 16)}, "another shape"),
        ({"linears.3.bias": torch.zeros(7)}, r"linears\.3\.bias is \(7,\), not \(1024,\)"),
        ({"linears.3.bias": torch.full((1024,), torch.nan)}, "NaN"),
        ({"more": torch.zeros(1)}, "more does not belong"),
    ]
    for number, (change, message) in enumerate(changes):
        with pytest.raises(WeightsError, match=message):
            load_official_lm(ENCODEC_24KHZ, saved(state | change, tmp_path, f"changed{number}"))
    with pytest.raises(WeightsError, match="another shape"):
        load_official_lm(LITE_24KHZ, saved(state, tmp_path))
    without = {key: tensor for key, tensor in state.items() if key != "transformer.norm_in.bias"}
    with pytest.raises(WeightsError, match=r"norm_in\.bias is missing"):
        load_official_lm(ENCODEC_24KHZ, saved(without, tmp_path, "without"))
