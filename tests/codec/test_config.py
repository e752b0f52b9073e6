"""Model configurations: the arithmetic of rates, and values that make no sense."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from earshot import codec
from earshot.codec.config import ENCODEC_24KHZ, ENCODEC_48KHZ, LITE_24KHZ, ModelConfig
from earshot.codec.errors import ModelError, UsageError


def test_the_official_model() -> None:
    config = ENCODEC_24KHZ
    assert (config.hop_length, config.frame_rate, config.bits_per_code, config.kbps_per_codebook) == (320, 75, 10, 0.75)
    assert [config.n_q(kbps) for kbps in config.bandwidths] == [2, 4, 8, 16, 32]
    with pytest.raises(UsageError, match=r"no rate of 5 kbps; choose one of 1\.5, 3, "):
        config.n_q(5)
    assert [config.n_q_at_most(kbps) for kbps in (0.7, 0.75, 5, 1000)] == [0, 1, 6, 32]


def test_the_official_stereo_model() -> None:
    config = ENCODEC_48KHZ
    assert (config.hop_length, config.frame_rate, config.kbps_per_codebook) == (320, 150, 1.5)
    assert [config.n_q(kbps) for kbps in config.bandwidths] == [2, 4, 8, 16]
    assert (config.window_length, config.window_stride) == (48_000, 47_520)
    assert (ENCODEC_24KHZ.window_length, ENCODEC_24KHZ.window_stride) == (None, None)


@pytest.mark.parametrize("config", [ENCODEC_24KHZ, LITE_24KHZ, ENCODEC_48KHZ], ids=lambda config: config.name)
def test_dictionaries_and_json_give_the_same_back(config: ModelConfig) -> None:
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_later_settings_leave_no_trace_in_older_models() -> None:
    """Digests are made of this dictionary, and peers compare digests."""
    assert list(ENCODEC_24KHZ.to_dict()) == [
        "name", "sample_rate", "n_filters", "dimension", "ratios", "kernel_size", "last_kernel_size",
        "residual_kernel_size", "n_residual_layers", "dilation_base", "compress", "lstm_layers", "n_codebooks",
        "codebook_size", "bandwidths", "padding",
    ]  # fmt: skip
    later = {"channels": 2, "causal": False, "norm": "time_group", "normalize": True, "window_seconds": 1.0}
    assert {key: value for key, value in ENCODEC_48KHZ.to_dict().items() if key in later} == later
    assert codec.load("default").digest == "c061a43da42ac512"


def test_channels_double_unless_a_model_has_widths_of_its_own() -> None:
    assert LITE_24KHZ.channel_counts == (16, 32, 64, 128, 256)
    steep = ModelConfig.from_dict({**LITE_24KHZ.to_dict(), "ratios": [8, 40], "widths": [16, 128, 320]})
    assert steep.channel_counts == (16, 128, 320)
    assert ModelConfig.from_dict(json.loads(json.dumps(steep.to_dict()))) == steep
    assert steep.shape() != replace(steep, widths=None).shape()


def test_what_can_stream() -> None:
    LITE_24KHZ.check_streams()
    LITE_24KHZ.check_plain()
    replace(LITE_24KHZ, causal=False).check_plain()
    for change in ({"causal": False}, {"channels": 2}, {"normalize": True}, {"window_seconds": 1.0}):
        config = replace(LITE_24KHZ, **change)
        with pytest.raises(UsageError, match="lite_24khz has no stream of frames"):
            config.check_streams()


@pytest.mark.parametrize(
    "change",
    [
        {"n_filters": 0},
        {"n_filters": -1},
        {"n_filters": 1 << 40},
        {"n_filters": 1.5},
        {"n_filters": True},
        {"widths": [32, 64]},
        {"widths": [16, 64, 128, 256, 512]},
        {"widths": [32, 64, 128, 0, 512]},
        {"widths": [32, 64, 128, 256.0, 512]},
        {"widths": 32},
        {"lstm_layers": 17},
        {"n_residual_layers": 1 << 30},
        {"ratios": []},
        {"ratios": [8, 0]},
        {"ratios": [8, "5"]},
        {"ratios": [2] * 17},
        {"codebook_size": 1000},
        {"codebook_size": 1},
        {"padding": "replicate"},
        {"bandwidths": []},
        {"bandwidths": [0.5]},
        {"bandwidths": [float("nan")]},
        {"bandwidths": ["6"]},
        {"bandwidths": 6.0},
        {"ratios": None},
        {"colour": "red"},
        {"channels": 0},
        {"channels": 3},
        {"causal": 1},
        {"normalize": "yes"},
        {"norm": "layer"},
        {"norm": "time_group"},
        {"window_seconds": 0},
        {"window_seconds": 1e-5},
        {"window_seconds": float("nan")},
        {"window_seconds": 61},
        {"window_seconds": True},
        {"window_overlap": 0.51},
        {"window_overlap": -0.1},
        {"window_overlap": None},
    ],
)
def test_values_that_make_no_sense(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        ModelConfig.from_dict(ENCODEC_24KHZ.to_dict() | change)
