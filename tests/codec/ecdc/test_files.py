"""Converts audio to `.ecdc` files and back: they hold what the model makes, and every error says
what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch

from earshot.codec.config import ModelConfig
from earshot.codec.ecdc.coding import PLAIN, Coding, coding_to_write
from earshot.codec.ecdc.files import decode_file, encode_file, read_info
from earshot.codec.ecdc.format import BLOCK_FRAMES, FRONT, Header
from earshot.codec.errors import AudioError, ModelError, UsageError
from earshot.codec.lm.arithmetic import Cdf
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from earshot.codec.pcm import Pcm
from earshot.codec.weights.lm import digest, save_integer_lm
from earshot.lab.training.initial import initialise
from tests.integer_lm import random_weights
from tests.stereo import Stereo


def sound(path: Path, pcm: Pcm, rate: int = 24_000, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, pcm, rate, subtype=subtype)
    return path


@pytest.fixture
def clip(tmp_path: Path, speech: Pcm) -> Path:
    return sound(tmp_path / "speech.wav", speech[: 24_000 * 3 + 137])


@pytest.fixture
def coded(tmp_path: Path, clip: Path, tiny_model: Model) -> Path:
    encode_file(tiny_model, clip, tmp_path / "speech.ecdc", 3.0)
    return tmp_path / "speech.ecdc"


@pytest.fixture(scope="session")
def lm_file(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "lm.safetensors"
    save_integer_lm(random_weights(), tiny_model.digest, path)
    return path


@pytest.fixture(scope="session")
def lm(tiny_model: Model, lm_file: Path) -> Coding:
    return coding_to_write(tiny_model, True, lm_file)


@pytest.mark.parametrize("kbps", [1.5, 12.0])
@pytest.mark.parametrize("samples", [1, 319, 320, 321, 75 * 320, 75 * 320 + 1, 24_000 * 5 + 137])
def test_decodes_to_what_the_model_makes_of_it(
    tmp_path: Path, speech: Pcm, tiny_model: Model, samples: int, kbps: float
) -> None:
    pcm = speech[:samples]
    header = encode_file(tiny_model, sound(tmp_path / "in.wav", pcm), tmp_path / "codes", kbps)
    assert (header, (tmp_path / "codes").stat().st_size) == read_info(tmp_path / "codes")
    assert (header.samples, header.n_q) == (samples, tiny_model.config.n_q(kbps))
    done = decode_file(tiny_model, tmp_path / "codes", tmp_path / "out.wav")
    assert (done.samples, done.damage) == (samples, None)
    heard, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert (rate, heard.size) == (24_000, samples)
    expected = tiny_model.decode(tiny_model.encode(pcm, kbps))[:samples]
    np.testing.assert_allclose(heard, np.clip(expected, -1, 1), atol=1e-4)


def test_codes_of_no_samples_are_a_file_of_no_samples(tmp_path: Path, tiny_model: Model) -> None:
    """No recording makes one, but other programs do."""
    (tmp_path / "codes").write_bytes(PLAIN.header(tiny_model, 0, 2).to_bytes())
    done = decode_file(tiny_model, tmp_path / "codes", tmp_path / "out.wav")
    assert (done.samples, done.damage, soundfile.info(tmp_path / "out.wav").frames) == (0, None, 0)


def test_a_model_that_reflects_starts_as_the_official_one(tmp_path: Path, clip: Path, speech: Pcm) -> None:
    torch.manual_seed(3)
    network = Encodec(ModelConfig(name="reflecting", n_filters=4, n_codebooks=8, bandwidths=(1.5, 6.0)))
    initialise(network)
    model = Model(network)
    for length in (24_000 * 3 + 137, 700):
        sound(clip, speech[:length])
        encode_file(model, clip, tmp_path / "codes", 6.0)
        decode_file(model, tmp_path / "codes", tmp_path / "out.wav")
        heard, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
        assert heard.size == length
        expected = model.decode(model.encode(speech[:length], 6.0))[:length]
        np.testing.assert_allclose(heard, np.clip(expected, -1, 1), atol=1e-4)


def test_size_is_the_rate(coded: Path) -> None:
    header, size = read_info(coded)
    assert size == len(header.to_bytes()) + -(-226 * header.n_q * 10 // 8)


def test_with_a_language_model(tmp_path: Path, speech: Pcm, tiny_model: Model, lm: Coding, lm_file: Path) -> None:
    """Tests two blocks, a rate with more codebooks than the language model knows, and the original
    length."""
    samples = 320 * (BLOCK_FRAMES + 20)
    clip = sound(tmp_path / "in.wav", speech[:samples])
    for kbps in (1.5, 12.0):
        header = encode_file(tiny_model, clip, tmp_path / "lm.ecdc", kbps, None, lm)
        assert (header.lm, header.lm_digest) == (True, digest(random_weights()))
        encode_file(tiny_model, clip, tmp_path / "plain.ecdc", kbps)
        heard = []
        for name in ("lm", "plain"):
            assert (
                decode_file(tiny_model, tmp_path / f"{name}.ecdc", tmp_path / "out.wav", None, lm_file).damage is None
            )
            heard.append(soundfile.read(tmp_path / "out.wav")[0])
        np.testing.assert_array_equal(*heard)


def test_the_language_model_must_be_the_same(tmp_path: Path, clip: Path, tiny_model: Model, lm: Coding) -> None:
    encode_file(tiny_model, clip, tmp_path / "lm.ecdc", 3.0, None, lm)
    save_integer_lm(random_weights(seed=1), tiny_model.digest, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="coded with the language model"):
        decode_file(tiny_model, tmp_path / "lm.ecdc", tmp_path / "out.wav", None, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="comes with Earshot for the default model"):
        decode_file(tiny_model, tmp_path / "lm.ecdc", tmp_path / "out.wav")
    with pytest.raises(ModelError, match="comes with Earshot for the default model"):
        coding_to_write(tiny_model, True)


def test_any_rate_and_channels_are_read(tmp_path: Path, speech: Pcm, tiny_model: Model) -> None:
    wide = soxr.resample(speech[:72_000], 24_000, 44_100)
    stereo = np.stack([wide * 2, np.zeros_like(wide)], axis=1)
    header = encode_file(tiny_model, sound(tmp_path / "in.flac", stereo, 44_100, "PCM_16"), tmp_path / "codes")
    assert abs(header.samples - 72_000) <= 1
    decode_file(tiny_model, tmp_path / "codes", tmp_path / "stereo.wav")
    encode_file(tiny_model, sound(tmp_path / "in.wav", speech[:72_000]), tmp_path / "codes")
    decode_file(tiny_model, tmp_path / "codes", tmp_path / "mono.wav")
    ours, straight = (soundfile.read(tmp_path / f"{name}.wav")[0][:71_000] for name in ("stereo", "mono"))
    assert np.corrcoef(ours, straight)[0, 1] > 0.8


def test_mono_becomes_stereo_for_a_stereo_model(tmp_path: Path, speech: Pcm, small: Stereo) -> None:
    header = encode_file(small.ours, sound(tmp_path / "in.wav", speech[:30_000]), tmp_path / "codes", 3.0)
    assert abs(header.samples - 60_000) <= 1
    decode_file(small.ours, tmp_path / "codes", tmp_path / "out.wav")
    heard, rate = soundfile.read(tmp_path / "out.wav")
    assert (rate, heard.shape) == (48_000, (header.samples, 2))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_the_suffix_says_the_format(tmp_path: Path, coded: Path, tiny_model: Model, suffix: str) -> None:
    decode_file(tiny_model, coded, tmp_path / f"out.{suffix}")
    info = soundfile.info(tmp_path / f"out.{suffix}")
    assert (info.format, info.frames) == (suffix.upper(), 72_137)


def test_progress_ends_at_everything(tmp_path: Path, speech: Pcm, tiny_model: Model) -> None:
    seen: list[tuple[int, int]] = []
    clip = sound(tmp_path / "long.wav", speech[:200_137])
    encode_file(tiny_model, clip, tmp_path / "codes", 6.0, lambda *at: seen.append(at))
    assert seen[-1] == (200_137, 200_137)
    seen.clear()
    decode_file(tiny_model, tmp_path / "codes", tmp_path / "out.wav", lambda *at: seen.append(at))
    assert [done for done, _ in seen[:3]] == [96_000, 192_000, 200_137]


@pytest.mark.parametrize("kind", ["plain", "lm"])
def test_a_file_cut_anywhere_is_decoded_up_to_there(
    tmp_path: Path, speech: Pcm, tiny_model: Model, lm: Coding, lm_file: Path, kind: str
) -> None:
    cut, out = tmp_path / "cut.ecdc", tmp_path / "out.wav"
    clip = sound(tmp_path / "in.wav", speech[: 320 * (BLOCK_FRAMES + 50)])
    header = encode_file(tiny_model, clip, cut, 1.5, None, PLAIN if kind == "plain" else lm)
    data, front = cut.read_bytes(), len(header.to_bytes())
    decode_file(tiny_model, cut, out, None, lm_file)
    whole, _ = soundfile.read(out)
    for length in (0, 8, front - 1):
        cut.write_bytes(data[:length])
        with pytest.raises(AudioError, match=r"cut\.ecdc is (damaged|no file of codes)"):
            decode_file(tiny_model, cut, out, None, lm_file)
    half = front + (len(data) - front) // 2 if kind == "plain" else len(data) - 9
    for length in (half, len(data) - 1):
        cut.write_bytes(data[:length])
        done = decode_file(tiny_model, cut, out, None, lm_file)
        heard, _ = soundfile.read(out)
        assert done.damage == "the file ends too soon"
        assert heard.size == done.samples
        frames = (length - front) * 8 // 20 if kind == "plain" else BLOCK_FRAMES
        assert done.samples == 320 * frames
        np.testing.assert_array_equal(heard, whole[: heard.size])
    cut.write_bytes(data + b"\0")
    done = decode_file(tiny_model, cut, out, None, lm_file)
    assert (done.samples, done.damage) == (whole.size, "there are bytes after its end")


def test_windows_are_decoded_up_to_the_damage(tmp_path: Path, music: Pcm, small: Stereo) -> None:
    cut, out = tmp_path / "cut.ecdc", tmp_path / "out.wav"
    header = encode_file(small.ours, sound(tmp_path / "in.wav", music[:, :120_000].T, 48_000), cut, 3.0)
    data = cut.read_bytes()
    decode_file(small.ours, cut, out)
    whole, _ = soundfile.read(out)
    window = 4 + 150 * 2 * 10 // 8
    cut.write_bytes(data[: len(header.to_bytes()) + window + 4 + 250])  # 100 frames of the second window
    done = decode_file(small.ours, cut, out)
    heard, _ = soundfile.read(out)
    assert (done.samples, done.damage) == (47_520 + 32_000, "the file ends too soon")
    np.testing.assert_allclose(heard[:47_520], whole[:47_520], atol=1e-5)
    scale = len(header.to_bytes()) + window
    cut.write_bytes(data[:scale] + b"\xff\xff\xff\xff" + data[scale + 4 :])
    done = decode_file(small.ours, cut, out)
    assert (done.samples, done.damage) == (48_000, "a window's scale is nan")


def test_a_changed_block_is_noticed(tmp_path: Path, speech: Pcm, tiny_model: Model, lm: Coding, lm_file: Path) -> None:
    coded, out = tmp_path / "lm.ecdc", tmp_path / "out.wav"
    clip = sound(tmp_path / "in.wav", speech[: 320 * (BLOCK_FRAMES + 50)])
    encode_file(tiny_model, clip, coded, 1.5, None, lm)
    data = bytearray(coded.read_bytes())
    data[-10] ^= 1
    coded.write_bytes(data)
    done = decode_file(tiny_model, coded, out, None, lm_file)
    assert (done.samples, done.damage) == (320 * BLOCK_FRAMES, "a checksum does not fit")
    data[300] ^= 1
    coded.write_bytes(data)
    with pytest.raises(AudioError, match="damaged at its beginning: a checksum"):
        decode_file(tiny_model, coded, tmp_path / "none.wav", None, lm_file)
    assert not list(tmp_path.glob("none*"))


def test_foreign_files_are_refused(tmp_path: Path, clip: Path, tiny_model: Model) -> None:
    for data in (clip.read_bytes(), b"", b"ECDC", b"OggS" * 100):
        (tmp_path / "foreign").write_bytes(data)
        with pytest.raises(AudioError, match="no file of codes"):
            decode_file(tiny_model, tmp_path / "foreign", tmp_path / "out.wav")


def test_a_later_version_is_named(coded: Path) -> None:
    data = bytearray(coded.read_bytes())
    data[4] = 9
    coded.write_bytes(data)
    with pytest.raises(AudioError, match="version 9"):
        read_info(coded)


def with_header(coded: Path, text: bytes) -> None:
    data = coded.read_bytes()
    old = FRONT.unpack(data[: FRONT.size])[2]
    coded.write_bytes(FRONT.pack(b"ECDC", 0, len(text)) + text + data[FRONT.size + old :])


@pytest.mark.parametrize(
    "change",
    [
        {"al": -1},
        {"al": 1e9},
        {"al": 1 << 60},
        {"al": True},
        {"nc": 0},
        {"nc": 10**12},
        {"nc": None},
        {"m": 7},
        {"m": "bell\a"},
        {"lm": 1},
        {"sr": 0},
        {"hl": "x"},
        {"li": 1},
        {"li": 2, "ld": "0"},
        {"ld": "0"},
    ],
)
def test_a_header_that_makes_no_sense_is_refused(coded: Path, change: dict[str, Any]) -> None:
    header, _ = read_info(coded)
    values = json.loads(header.to_bytes()[FRONT.size :])
    with_header(coded, json.dumps({**values, **change}).encode())
    with pytest.raises(AudioError, match="damaged"):
        read_info(coded)


@pytest.mark.parametrize("text", [b"[1, 2]", b"null", b"{}", b"\xff" * 20, b"[" * 60_000, b" " * 70_000])
def test_a_header_that_is_no_object_is_refused(coded: Path, text: bytes) -> None:
    with_header(coded, text)
    with pytest.raises(AudioError, match="damaged"):
        read_info(coded)


def test_a_header_may_promise_anything(tmp_path: Path, coded: Path, tiny_model: Model) -> None:
    """Work is bounded by the bytes that the file holds, whatever its header says."""
    header, _ = read_info(coded)
    values = json.loads(header.to_bytes()[FRONT.size :])
    with_header(coded, json.dumps({**values, "al": 1 << 48}).encode())
    done = decode_file(tiny_model, coded, tmp_path / "out.wav")
    assert (done.samples, done.damage) == (226 * 320, "the file ends too soon")
    with_header(coded, json.dumps({**values, "nc": 32}).encode())
    with pytest.raises(ModelError, match="32 codebooks, tiny only 16"):
        decode_file(tiny_model, coded, tmp_path / "out.wav")


def test_other_weights_are_refused_by_name(tmp_path: Path, coded: Path, tiny_model: Model, small: Stereo) -> None:
    torch.manual_seed(8)
    network = Encodec(tiny_model.config)
    initialise(network)
    for other in (Model(network), small.ours):
        with pytest.raises(ModelError, match=tiny_model.digest):
            decode_file(other, coded, tmp_path / "out.wav")
    with_header(coded, Header("encodec_24khz", 72_137, 4, False).to_bytes()[FRONT.size :])
    with pytest.raises(ModelError, match="made by the model 'encodec_24khz', not by 'tiny'"):
        decode_file(tiny_model, coded, tmp_path / "out.wav")


def test_what_cannot_be_read_or_written_is_said(tmp_path: Path, clip: Path, coded: Path, tiny_model: Model) -> None:
    text = tmp_path / "text.wav"
    text.write_text("not audio")
    with pytest.raises(AudioError, match=r"text\.wav cannot be read as audio"):
        encode_file(tiny_model, text, tmp_path / "codes")
    with pytest.raises(AudioError, match="cannot be read"):
        encode_file(tiny_model, tmp_path / "nowhere.wav", tmp_path / "codes")
    with pytest.raises(AudioError, match="holds no sound"):
        encode_file(tiny_model, sound(tmp_path / "empty.wav", np.zeros(0, np.float32)), tmp_path / "codes")
    with pytest.raises(AudioError, match="cannot read"):
        decode_file(tiny_model, tmp_path / "nowhere", tmp_path / "out.wav")
    with pytest.raises(AudioError, match="cannot write"):
        encode_file(tiny_model, clip, tmp_path / "no" / "folder")
    with pytest.raises(AudioError, match="cannot write"):
        decode_file(tiny_model, coded, tmp_path / "no" / "out.wav")
    with pytest.raises(AudioError, match=r"end its name in \.wav"):
        decode_file(tiny_model, coded, tmp_path / "out.txt")
    with pytest.raises(UsageError, match="no rate"):
        encode_file(tiny_model, clip, tmp_path / "codes", 5.0)


def test_a_failure_leaves_what_was_there(tmp_path: Path, coded: Path, tiny_model: Model) -> None:
    text, kept = tmp_path / "text.wav", coded.read_bytes()
    text.write_text("not audio")
    with pytest.raises(AudioError):
        encode_file(tiny_model, text, coded)
    assert coded.read_bytes() == kept
    assert not list(tmp_path.glob("*.part"))


def test_no_coding_knows_less_than_a_symbol(lm: Coding) -> None:
    """Every code has a part of the range, however certain the model is."""
    streams_of = lm.writer(2)
    cdf: Cdf = streams_of._encoder._streams.cdf()[0]  # type: ignore[attr-defined]
    assert np.diff(cdf, prepend=0).min() >= 2
    assert cdf[-1] <= 1 << 24
