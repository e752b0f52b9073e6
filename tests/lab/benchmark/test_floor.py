"""The floor, against counts by hand."""

from __future__ import annotations

import pytest

from earshot.codec.config import ENCODEC_24KHZ, ModelConfig
from earshot.codec.model.network import Encodec
from earshot.lab.benchmark.floor import Machine, Work, work_of

SMALL = ModelConfig(
    name="small", sample_rate=600, n_filters=2, dimension=5, ratios=(3, 2), kernel_size=7, last_kernel_size=3,
    lstm_layers=1, n_codebooks=4, codebook_size=8, bandwidths=(1.2,),
)  # fmt: skip


def test_a_small_encoder_and_decoder_by_hand() -> None:
    def unit(width: int) -> int:
        return width * (width // 2) * 3 + (width // 2) * width + width * width

    ends = 1 * 2 * 7, 8 * 5 * 3
    down = 2 * 4 * 4, 4 * 8 * 6  # kernels of twice the ratio, at 300 and at 100 a second
    lstm = 8 * 8 * 8
    shared = 600 * unit(2) + 300 * (down[0] + unit(4)) + 100 * (down[1] + lstm)
    encoder = work_of(SMALL, "encode", 4)
    assert encoder.macs == 600 * ends[0] + shared + 100 * ends[1] + 100 * 4 * 8 * 5
    assert encoder.weights == sum(ends) + unit(2) + unit(4) + sum(down) + lstm + 4 * 8 * 5
    decoder = work_of(SMALL, "decode", 4)
    assert decoder.macs == 600 * 2 * 3 + shared + 100 * 5 * 8 * 7
    assert encoder.frame_rate == decoder.frame_rate == 100


def test_the_official_model() -> None:
    with_search, without = (work_of(ENCODEC_24KHZ, "encode", n_q) for n_q in (8, 0))
    assert without.macs == pytest.approx(1490e6, rel=0.001)
    assert with_search.macs - without.macs == pytest.approx(78.6e6, rel=0.001)
    assert work_of(ENCODEC_24KHZ, "decode", 8).macs == pytest.approx(1490e6, rel=0.01)
    assert with_search.bytes("fp32") == pytest.approx(33.9e6, rel=0.01)
    assert with_search.bytes("bf16") * 2 == with_search.bytes("int8") * 4 == with_search.bytes("fp32")


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_weights_are_those_of_the_network(direction: str) -> None:
    network = Encodec(SMALL)
    net = network.encoder if direction == "encode" else network.decoder
    own = sum(p.numel() for name, p in net.named_parameters() if "bias" not in name)
    assert work_of(SMALL, direction, 0).weights == own  # type: ignore[arg-type]


def test_the_larger_side_counts() -> None:
    machine = Machine({"fp32": 1e9, "bf16": 2e9}, {"fp32": 8e9, "bf16": 8e9, "int8": 8e9}, 4e9)
    work = Work(macs=20e6, weights=1_000_000, frame_rate=100)
    assert machine.floor_ms(work, "fp32", 1, cold=False) == pytest.approx(50)  # 400 MB/s of 8 GB/s
    assert machine.floor_ms(work, "fp32", 1, cold=True) == pytest.approx(100)
    assert machine.floor_ms(work, "fp32", 32, cold=False) == pytest.approx(20)
    assert machine.floor_ms(work, "bf16", 32, cold=False) == pytest.approx(10)
    assert machine.floor_ms(work, "int8", 32, cold=False) == pytest.approx(20), "no instruction for it: as fp32"
