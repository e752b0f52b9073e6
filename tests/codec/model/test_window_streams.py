"""Streams of windows equal whole signals to the last bit, for any cutting, and their state can be
saved and restored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from earshot.codec.bitstream import Window
from earshot.codec.config import LITE_24KHZ
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from earshot.codec.model.window_streams import WindowDecoder, WindowEncoder
from earshot.codec.pcm import Pcm
from tests.stereo import STRIDE, WINDOW, Stereo

SAMPLES = 2 * STRIDE + 12_345


def cuttings(samples: int) -> dict[str, list[int]]:
    """Returns lengths of blocks that add up to `samples`."""
    random = np.random.default_rng(5)
    odd = np.sort(random.integers(0, samples, 40))
    return {
        "frames": [320] * (samples // 320) + [samples % 320],
        "a prime": [997] * (samples // 997) + [samples % 997],
        "strides": [STRIDE] * (samples // STRIDE) + [samples % STRIDE],
        "windows": [WINDOW] * (samples // WINDOW) + [samples % WINDOW],
        "random, some empty": [int(n) for n in np.diff([0, *odd[:20], *odd[19:], samples])],
        "one sample, then all": [1, samples - 1],
        "all": [samples],
    }


def check_same(windows: list[Window], expected: list[Window]) -> None:
    assert len(windows) == len(expected)
    for ours, theirs in zip(windows, expected, strict=True):
        np.testing.assert_array_equal(ours.codes, theirs.codes)
        assert ours.scale == theirs.scale


@pytest.fixture(scope="module")
def whole(small: Stereo, music: Pcm) -> tuple[Pcm, list[Window], Pcm]:
    """Returns a signal, its windows, and their sound, all from the offline calls."""
    pcm = music[:, 90_000 : 90_000 + SAMPLES]
    windows = small.ours.encode_windows(pcm, 12.0)
    return pcm, windows, small.ours.decode_windows(windows)


@pytest.mark.parametrize("cutting", cuttings(SAMPLES))
def test_streams_equal_whole_signals(small: Stereo, whole: tuple[Pcm, list[Window], Pcm], cutting: str) -> None:
    pcm, expected, heard = whole
    encoder, decoder = small.ours.encoder(12.0), small.ours.decoder()
    windows, parts, at = [], [], 0
    for length in cuttings(SAMPLES)[cutting]:
        made = encoder.push(pcm[:, at : at + length])
        at += length
        assert len(windows) + len(made) == (0 if at < WINDOW else 1 + (at - WINDOW) // STRIDE)  # as soon as possible
        windows += made
        parts.append(decoder.push(made))
        assert sum(part.shape[1] for part in parts) == len(windows) * STRIDE
    made = encoder.flush()
    parts += [decoder.push(made), decoder.flush()]
    check_same(windows + made, expected)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), heard)
    assert encoder.flush() == []
    assert decoder.flush().shape == (2, 0)


@pytest.mark.parametrize("samples", [0, 1, 320, WINDOW - 1, STRIDE, STRIDE + 1, STRIDE + 100, STRIDE + 240, WINDOW,
                                     WINDOW + 1, 2 * STRIDE, 2 * STRIDE + 481])  # fmt: skip
def test_the_end_of_a_stream(small: Stereo, music: Pcm, samples: int) -> None:
    expected = small.ours.encode_windows(music[:, :samples], 3.0)
    encoder, decoder = small.ours.encoder(3.0), small.ours.decoder()
    windows = encoder.push(music[:, :samples]) + encoder.flush()
    check_same(windows, expected)
    heard = np.concatenate([decoder.push([window]) for window in windows] + [decoder.flush()], axis=1)
    np.testing.assert_array_equal(heard, small.ours.decode_windows(expected))


def test_full_size_streams_equal_whole_signals(stereo: Stereo, music: Pcm) -> None:
    pcm = music[:, : WINDOW + 5000]
    encoder, decoder = stereo.ours.encoder(24.0), stereo.ours.decoder()
    windows = encoder.push(pcm[:, :7]) + encoder.push(pcm[:, 7:]) + encoder.flush()
    check_same(windows, stereo.ours.encode_windows(pcm, 24.0))
    heard = np.concatenate([decoder.push(windows), decoder.flush()], axis=1)
    np.testing.assert_array_equal(heard, stereo.ours.decode_windows(windows))


def test_mono_is_the_same_in_both_ears(small: Stereo, music: Pcm) -> None:
    encoder = small.ours.encoder(6.0)
    windows = encoder.push(music[0, :WINDOW].tolist()) + encoder.flush()
    check_same(windows, small.ours.encode_windows(np.stack([music[0, :WINDOW]] * 2), 6.0))


def test_a_rate_set_between_windows(small: Stereo, music: Pcm) -> None:
    encoder, decoder = small.ours.encoder(24.0), small.ours.decoder()
    windows = encoder.push(music[:, :WINDOW])
    encoder.kbps = 3.0
    windows += encoder.push(music[:, WINDOW : STRIDE + WINDOW])
    assert [len(window.codes) for window in windows] == [16, 2]
    assert encoder.kbps == 3.0
    heard = np.concatenate([decoder.push(windows), decoder.flush()], axis=1)
    np.testing.assert_array_equal(heard, small.ours.decode_windows(windows))
    with pytest.raises(UsageError, match="no rate"):
        encoder.kbps = 1.5
    with pytest.raises(UsageError, match="no rate"):
        small.ours.encoder(1.5)


@pytest.mark.parametrize("at", [0, 5000, WINDOW - 1, WINDOW + 100])
def test_state_is_copied_saved_and_restored(small: Stereo, music: Pcm, at: int) -> None:
    model = small.ours
    pcm, encoder, decoder = music[:, : WINDOW + 9000], model.encoder(6.0), model.decoder()
    expected = model.encode_windows(pcm, 6.0)
    first = encoder.push(pcm[:, :at])
    heard = [decoder.push(first)]
    restored = model.encoder(6.0), model.decoder()
    restored[0].push(music[:, :777])  # discarded by the restore below
    restored[1].push(expected[:1])
    for session, saved in zip(restored, (encoder, decoder), strict=True):
        session.restore(saved.save())
    for one, other in ((encoder.copy(), decoder.copy()), restored, (encoder, decoder)):
        windows = first + one.push(pcm[:, at:]) + one.flush()
        check_same(windows, expected)
        parts = [*heard, other.push(windows[len(first) :]), other.flush()]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), model.decode_windows(expected))
    encoder.reset()
    decoder.reset()
    check_same(encoder.push(pcm[:, :WINDOW]), expected[:1])
    np.testing.assert_array_equal(decoder.push(expected[:1]), model.decode_windows(expected)[:, :STRIDE])


def test_an_end_is_saved_too(small: Stereo) -> None:
    encoder = small.ours.encoder(6.0)
    encoder.flush()
    twin = small.ours.encoder(6.0)
    twin.restore(encoder.save())
    with pytest.raises(UsageError, match="has been flushed; call reset"):
        twin.push(np.zeros((2, 3)))


def test_wrong_states(small: Stereo, music: Pcm) -> None:
    encoder, decoder = small.ours.encoder(6.0), small.ours.decoder()
    encoder.push(music[:, :100])
    decoder.push(small.ours.encode_windows(music[:, :WINDOW], 6.0)[:1])
    for session, data in ((encoder, decoder.save()), (decoder, encoder.save())):
        with pytest.raises(UsageError, match="another kind of session"):
            session.restore(data)
    for data in (b"", b"no state", encoder.save()[:50]):
        with pytest.raises(UsageError, match="no saved session state"):
            encoder.restore(data)
    for session, key, wrong in (
        (encoder, "held", torch.zeros(2, WINDOW)),
        (encoder, "held", torch.zeros(1, 5)),
        (encoder, "held", torch.zeros(2, 5, dtype=torch.float64)),
        (decoder, "mixed", torch.zeros(2, 479)),
        (decoder, "weights", torch.zeros(480)),
        (decoder, "lengths", torch.tensor([10**9, 150])),
        (decoder, "lengths", torch.tensor([48_000, -1])),
        (decoder, "lengths", torch.tensor([48_000])),
        (decoder, "more", torch.zeros(1)),
    ):
        before = session.save()
        damaged = safetensors.torch.load(before) | {key: wrong}
        with pytest.raises(UsageError, match="saved session state is damaged"):
            session.restore(safetensors.torch.save(damaged))
        assert session.save() == before


def test_wrong_samples_and_windows(small: Stereo, music: Pcm) -> None:
    encoder, decoder = small.ours.encoder(), small.ours.decoder()
    with pytest.raises(UsageError, match=r"PCM must be \[2, samples\]"):
        encoder.push(np.zeros((3, 5)))
    dirty, clean = music[:, :WINDOW].copy(), music[:, :WINDOW].copy()
    dirty[0, 5], clean[0, 5] = np.nan, 0
    check_same(encoder.push(dirty), small.ours.encode_windows(clean)[:1])
    assert encoder.replaced_samples == 1
    window = Window(np.zeros((2, 150), np.int16), 0.5)
    short = replace(window, codes=np.zeros((2, 20), np.int16))
    with pytest.raises(UsageError, match="150 frames after one of 20 frames does not fit"):
        decoder.push([window, short, window])
    assert decoder.push([window, short]).shape == (2, STRIDE)  # the refused call has taken nothing
    with pytest.raises(UsageError, match="20 frames after one of 20 frames does not fit"):
        decoder.push([short])
    assert decoder.flush().shape == (2, 20 * 320)
    with pytest.raises(UsageError, match="has been flushed"):
        decoder.push([window])
    nearly = replace(
        window, codes=np.zeros((2, 149), np.int16)
    )  # it ends where the next one starts, so it must be the last
    with pytest.raises(UsageError, match="150 frames after one of 149 frames does not fit"):
        small.ours.decode_windows([nearly, window])


def test_latency_is_a_window_or_a_frame(small: Stereo, tiny_model: Model) -> None:
    assert small.ours.latency_s == small.ours.encoder().latency_s == small.ours.decoder().latency_s == 1.0
    assert tiny_model.latency_s == 320 / 24_000
    assert Model(Encodec(replace(LITE_24KHZ, n_filters=4, channels=2))).latency_s == float("inf")


def test_models_without_windows_have_none(tiny_model: Model) -> None:
    for kind in (lambda: WindowEncoder(tiny_model.network, 6.0), lambda: WindowDecoder(tiny_model.network)):
        with pytest.raises(UsageError, match="does not code in windows"):
            kind()
