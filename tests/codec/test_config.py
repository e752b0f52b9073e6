"""Model configurations: the arithmetic of rates, and values that make no sense."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codec.config import ENCODEC_24KHZ, LITE_24KHZ, ModelConfig
from codec.errors import ModelError, UsageError


def test_the_official_model() -> None:
    config = ENCODEC_24KHZ
    assert (config.hop_length, config.frame_rate, config.bits_per_code, config.kbps_per_codebook) == (320, 75, 10, 0.75)
    assert [config.n_q(kbps) for kbps in config.bandwidths] == [2, 4, 8, 16, 32]
    with pytest.raises(UsageError, match=r"no bandwidth of 5 kbps; choose one of \[1\.5, 3\.0"):
        config.n_q(5)
    assert [config.n_q_at_most(kbps) for kbps in (0.7, 0.75, 5, 1000)] == [0, 1, 6, 32]


def test_dictionaries_and_json_give_the_same_back() -> None:
    assert ModelConfig.from_dict(json.loads(json.dumps(LITE_24KHZ.to_dict()))) == LITE_24KHZ


@pytest.mark.parametrize(
    "change",
    [
        {"n_filters": 0},
        {"n_filters": -1},
        {"n_filters": 1 << 40},
        {"n_filters": 1.5},
        {"n_filters": True},
        {"lstm_layers": 17},
        {"n_residual_layers": 1 << 30},
        {"ratios": []},
        {"ratios": [8, 0]},
        {"ratios": [8, "5"]},
        {"ratios": [2] * 17},
        {"codebook_size": 1000},
        {"padding": "replicate"},
        {"bandwidths": []},
        {"bandwidths": [0.5]},
        {"bandwidths": [float("nan")]},
        {"bandwidths": ["6"]},
        {"bandwidths": 6.0},
        {"ratios": None},
        {"colour": "red"},
    ],
)
def test_values_that_make_no_sense(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        ModelConfig.from_dict(ENCODEC_24KHZ.to_dict() | change)
