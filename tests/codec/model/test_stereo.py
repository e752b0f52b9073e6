"""The 48 kHz stereo model against the official packages, with random weights: its network on one
window, both kinds of files, and its limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from earshot import codec
from earshot.codec.config import ENCODEC_48KHZ, LITE_24KHZ
from earshot.codec.engine.torch.engine import TorchEngine
from earshot.codec.errors import ModelError, UsageError, WeightsError
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from earshot.codec.model.windows import volume
from earshot.codec.pcm import Pcm
from earshot.codec.weights.load import save_native
from tests.stereo import RATES, WINDOW, Stereo, check_equal, official_stereo


def test_the_file_says_which_model_it_is(stereo: Stereo) -> None:
    n_filters = stereo.n_filters
    named: dict[str, Any] = {"name": stereo.ours.name} if n_filters == 4 else {}
    assert stereo.ours.config == replace(ENCODEC_48KHZ, n_filters=n_filters, **named)
    assert (stereo.ours.sample_rate, stereo.ours.frame_rate, list(stereo.ours.bandwidths)) == (48_000, 150, RATES)
    assert [stereo.ours.config.n_q(kbps) for kbps in RATES] == [2, 4, 8, 16]


@pytest.mark.parametrize("samples", [WINDOW, 12_345, 640, 319, 7, 1])
def test_the_network_on_a_window(stereo: Stereo, music: Pcm, samples: int) -> None:
    """Runs two windows as a batch, down to one sample."""
    x = torch.from_numpy(np.stack([music[:, :samples], music[::-1, 50_000 : 50_000 + samples]]))
    network, official = stereo.ours.network, stereo.official
    with torch.no_grad():
        latents, _ = network.encoder.step(x, None, "reflect", last=True)
        expected = official.encoder(x)
        torch.testing.assert_close(latents, expected, rtol=0, atol=1e-4)
        for kbps in RATES:
            codes = network.encode(x, stereo.ours.config.n_q(kbps))
            assert torch.equal(codes, official.quantizer.encode(expected, official.frame_rate, kbps).transpose(0, 1))
        heard = official.decoder(official.quantizer.decode(codes.transpose(0, 1)))
    assert heard.shape == (2, 2, -(-samples // 320) * 320)
    torch.testing.assert_close(network.decode(codes), heard, rtol=0, atol=1e-4)


def test_zero_padding_and_odd_shapes(encodec: ModuleType) -> None:
    """Tests strides that cannot be halved, dilations, other kernel lengths, and a mono model
    without norms."""
    config = replace(
        ENCODEC_48KHZ, channels=1, norm="weight", padding="zeros", n_filters=4, ratios=(5, 3, 2), kernel_size=5,
        last_kernel_size=3, residual_kernel_size=5, n_residual_layers=3, dilation_base=3, normalize=False,
        window_seconds=None, bandwidths=(64.0,),
    )  # fmt: skip
    torch.manual_seed(3)
    network = Encodec(config)
    settings = {
        "channels": 1, "norm": "none", "causal": False, "n_filters": 4, "ratios": [5, 3, 2], "kernel_size": 5,
        "last_kernel_size": 3, "residual_kernel_size": 5, "n_residual_layers": 3, "dilation_base": 3,
        "pad_mode": "constant",
    }  # fmt: skip
    encoder, decoder = encodec.modules.SEANetEncoder(**settings), encodec.modules.SEANetDecoder(**settings)
    for ours, theirs in ((network.encoder, encoder), (network.decoder, decoder)):
        theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    x = torch.randn(3, 1, 1007)
    with torch.no_grad():
        latents, _ = network.encoder.step(x, None, "zeros", last=True)
        torch.testing.assert_close(latents, encoder(x), rtol=0, atol=1e-4)
        heard, _ = network.decoder.step(latents, None, "zeros", last=True)
        torch.testing.assert_close(heard, decoder(latents), rtol=0, atol=1e-4)
    plain = Model(network)
    windows = plain.encode_windows(x[0].numpy(), 64.0)
    np.testing.assert_array_equal(windows[0].codes, plain.encode(x[0, 0].numpy(), 64.0))
    np.testing.assert_allclose(plain.decode_windows(windows)[0], plain.decode(windows[0].codes), rtol=0, atol=1e-6)


def test_it_can_be_trained(small: Stereo, music: Pcm) -> None:
    """A gradient reaches every weight, those of the norms included, and following it brings the
    sound closer."""
    network = Encodec(small.ours.config)
    network.load_state_dict(small.ours.network.state_dict())
    x = torch.from_numpy(music[None, :, 100_000:104_800])
    x = x / volume(x)
    optimizer, losses = torch.optim.Adam(network.parameters(), 1e-3), []
    for _ in range(6):
        latents, _ = network.encoder.step(x, None, "reflect", last=True)
        heard, _ = network.decoder.step(latents, None, "reflect", last=True)
        loss = (heard - x).abs().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in network.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


# -- files ----------------------------------------------------------------


def test_native_file(small: Stereo, music: Pcm, tmp_path: Path) -> None:
    path = tmp_path / "stereo.safetensors"
    save_native(small.ours.network, path)
    model = codec.load(str(path))
    assert (model.config, model.digest) == (small.ours.config, small.ours.digest)
    np.testing.assert_array_equal(model.encode_windows(music[:, :9000])[0].codes,
                                  small.ours.encode_windows(music[:, :9000])[0].codes)  # fmt: skip


def transformers_settings(n_filters: int = 4) -> dict[str, Any]:
    """Returns config.json of facebook/encodec_48khz, as far as it differs from the defaults."""
    return {"target_bandwidths": RATES, "sampling_rate": 48_000, "audio_channels": 2, "normalize": True,
            "chunk_length_s": 1.0, "overlap": 0.01, "norm_type": "time_group_norm", "use_causal_conv": False,
            "num_filters": n_filters}  # fmt: skip


@pytest.fixture(scope="module", params=[4, 32], ids=["small", "full size"])
def huggingface(request: pytest.FixtureRequest, encodec: ModuleType, music: Pcm, tmp_path_factory: Any) -> Any:
    """Returns a model of transformers, and the folder that its save_pretrained wrote."""
    from transformers import EncodecConfig, EncodecModel

    model = EncodecModel(EncodecConfig(**transformers_settings(request.param))).eval()
    spelled = {}
    for key, tensor in official_stereo(encodec, request.param, music).state_dict().items():
        key = key.replace(".model.", ".layers.").replace("quantizer.vq.layers", "quantizer.layers")
        key = key.replace(".conv.conv.", ".conv.").replace(".convtr.convtr.", ".conv.")
        key = key.replace("._codebook.", ".codebook.")
        spelled[key.replace(".conv.norm.", ".norm.").replace(".convtr.norm.", ".norm.")] = tensor
    model.load_state_dict(spelled)
    folder = tmp_path_factory.mktemp("huggingface") / "encodec_48khz"
    model.save_pretrained(folder)
    return model, folder


def test_huggingface_folder(huggingface: tuple[Any, Path], music: Pcm) -> None:
    official, folder = huggingface
    ours = codec.load(str(folder))
    assert ours.config == replace(ENCODEC_48KHZ, n_filters=official.config.num_filters)
    x = torch.from_numpy(music)[None]
    # A frame at 24 kbps begins with the codes of the other rates: the small model is asked for all.
    for kbps in RATES if official.config.num_filters == 4 else [24.0]:
        with torch.no_grad():
            encoded = official.encode(x, bandwidth=kbps)
        frames = list(encoded.audio_codes)
        frames[-1] = frames[-1][..., : 150 - encoded.last_frame_pad_length]
        windows = ours.encode_windows(music, kbps)
        check_equal(windows, list(zip(frames, encoded.audio_scales, strict=True)))
        padded = encoded.last_frame_pad_length
        with torch.no_grad():
            heard = official.decode(encoded.audio_codes, encoded.audio_scales, last_frame_pad_length=padded)
        np.testing.assert_allclose(ours.decode_windows(windows), heard.audio_values[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"use_causal_conv": True}, WeightsError, "looks ahead, so it cannot be causal"),
        ({"norm_type": "layer_norm"}, ModelError, "norm_type 'layer_norm' is not supported"),
        ({"overlap": None}, WeightsError, "window_overlap must be in"),
        ({"overlap": 0.9}, WeightsError, "window_overlap must be in"),
        ({"chunk_length_s": -1}, WeightsError, "window_seconds must be"),
        ({"chunk_length_s": "1"}, WeightsError, "window_seconds must be"),
        ({"chunk_length_s": 1e-9}, WeightsError, "window_seconds must be"),
        ({"chunk_length_s": 1e9}, WeightsError, "window_seconds must be"),
        ({"audio_channels": 3}, WeightsError, "channels must be a whole number in 1..2"),
        ({"audio_channels": 1}, WeightsError, "does not fit its model"),
        ({"normalize": 1}, WeightsError, "true or false"),
    ],
)
def test_huggingface_settings(tmp_path: Path, change: dict[str, Any], error: type[ModelError], message: str) -> None:
    from transformers import EncodecConfig, EncodecModel

    EncodecModel(EncodecConfig(**transformers_settings())).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(error, match=message):
        codec.load(str(tmp_path))


def test_damaged_official_files(small: Stereo, tmp_path: Path) -> None:
    state, path = small.official.state_dict(), tmp_path / "damaged.th"

    def refuse(damaged: dict[str, torch.Tensor], message: str) -> None:
        torch.save(damaged, path)
        with pytest.raises(WeightsError, match=message):
            codec.load(str(path))

    for key in ("encoder.model.0.conv.norm.bias", "decoder.model.3.convtr.norm.weight",
                "encoder.model.1.shortcut.conv.norm.weight", "decoder.model.15.conv.conv.weight"):  # fmt: skip
        refuse({k: v for k, v in state.items() if k != key}, "is missing")
    refuse({k: v for k, v in state.items() if k != "encoder.model.0.conv.conv.weight"}, "no state dict of an EnCodec")
    key = "encoder.model.3.conv.norm.weight"
    refuse(state | {key: torch.ones(3)}, r"encoder\.layers\.3\.norm\.weight is \(3,\), not \(8,\)")
    key = "encoder.model.0.conv.conv.weight"
    twice = {key + "_g": torch.ones(4, 1, 1), key + "_v": state[key]}
    refuse(state | twice, r"encoder\.layers\.0\.weight in two spellings")


# -- what it cannot do ----------------------------------------------------


def test_no_stream_of_frames(small: Stereo) -> None:
    model, causal = small.ours, replace(LITE_24KHZ, n_filters=4)
    calls: list[Callable[[], object]] = [model.frame_encoder, model.frame_decoder, lambda: TorchEngine(model)]
    changes = ({"causal": False}, {"channels": 2}, {"normalize": True}, {"window_seconds": 1.0})
    calls += [Model(Encodec(replace(causal, **change))).frame_encoder for change in changes]
    calls += [Model(Encodec(replace(causal, **change))).encoder for change in changes[:3]]  # the last has windows
    for call in calls:
        with pytest.raises(UsageError, match=r"no stream of frames.*Use encode_windows and decode_windows on whole"):
            call()
    with pytest.raises(UsageError, match="cannot go on"):
        model.network.encoder.init_caches(1)
    with torch.no_grad():
        _, caches = model.network.encoder.step(torch.zeros(1, 2, 640), None, "reflect", last=True)
        with pytest.raises(UsageError, match="cannot go on"):
            model.network.encoder.step(torch.zeros(1, 2, 640), caches, "reflect", last=True)
