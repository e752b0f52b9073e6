"""Files of codes: they hold what the model makes, and whatever is wrong with one is said."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from codec.config import ModelConfig
from codec.errors import AudioError, ModelError, UsageError
from codec.files import BLOCK_FRAMES, FRONT, decode_file, encode_file, read_header
from codec.model import Model
from codec.network import Encodec
from codec.pcm import Pcm
from codec.training.initial import initialise


def sound(path: Path, pcm: Pcm, rate: int = 24_000, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, pcm, rate, subtype=subtype)
    return path


@pytest.fixture
def clip(tmp_path: Path, speech: Pcm) -> Path:
    return sound(tmp_path / "speech.wav", speech[: 24_000 * 3 + 137])


@pytest.fixture
def coded(tmp_path: Path, clip: Path, tiny_model: Model) -> Path:
    encode_file(tiny_model, clip, tmp_path / "speech.esht", 3.0)
    return tmp_path / "speech.esht"


@pytest.mark.parametrize("kbps", [1.5, 12.0])
@pytest.mark.parametrize("samples", [0, 1, 319, 320, 321, 75 * 320, 75 * 320 + 1, 24_000 * 3 + 137])
def test_decodes_to_what_the_model_makes_of_it(
    tmp_path: Path, speech: Pcm, tiny_model: Model, samples: int, kbps: float
) -> None:
    pcm = speech[:samples]
    header = encode_file(tiny_model, sound(tmp_path / "in.wav", pcm), tmp_path / "codes", kbps)
    assert header == read_header(tmp_path / "codes")
    assert (header.samples, header.frames, header.kbps) == (samples, -(-samples // 320), kbps)
    decode_file(tiny_model, tmp_path / "codes", tmp_path / "out.wav")
    heard, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert (rate, heard.size) == (24_000, samples)
    expected = tiny_model.decode(tiny_model.encode(pcm, kbps))[:samples]
    np.testing.assert_allclose(heard, np.clip(expected, -1, 1), atol=1e-4)


def test_a_model_that_reflects_starts_as_the_official_one(tmp_path: Path, clip: Path, speech: Pcm) -> None:
    torch.manual_seed(3)
    network = Encodec(ModelConfig(name="reflecting", n_filters=4, n_codebooks=8, bandwidths=(1.5, 6.0)))
    initialise(network)
    model = Model(network)
    for length in (24_000 * 3 + 137, 700):
        sound(clip, speech[:length])
        assert encode_file(model, clip, tmp_path / "codes", 6.0).start == "reflect"
        decode_file(model, tmp_path / "codes", tmp_path / "out.wav")
        heard, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
        assert heard.size == length
        data = (tmp_path / "codes").read_bytes()
        assert data[4] == 1
        expected = model.decode(model.encode(speech[:length], 6.0))[:length]
        np.testing.assert_allclose(heard, np.clip(expected, -1, 1), atol=1e-4)


def test_size_is_the_rate(coded: Path) -> None:
    header = read_header(coded)
    blocks = [75, 75, 75, 1]
    assert header.frames == sum(blocks)
    assert header.payload_bytes == sum(-(-header.n_q * frames * 10 // 8) for frames in blocks)
    assert coded.stat().st_size == FRONT.size + FRONT.unpack(coded.read_bytes()[: FRONT.size])[2] + header.payload_bytes


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


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_the_suffix_says_the_format(tmp_path: Path, coded: Path, tiny_model: Model, suffix: str) -> None:
    decode_file(tiny_model, coded, tmp_path / f"out.{suffix}")
    info = soundfile.info(tmp_path / f"out.{suffix}")
    assert (info.format, info.frames) == (suffix.upper(), 72_137)


def test_progress_ends_at_everything(tmp_path: Path, clip: Path, tiny_model: Model) -> None:
    seen: list[tuple[int, int]] = []
    encode_file(tiny_model, clip, tmp_path / "codes", 6.0, lambda *at: seen.append(at))
    assert seen[-1] == (72_137, 72_137)
    seen.clear()
    decode_file(tiny_model, tmp_path / "codes", tmp_path / "out.wav", lambda *at: seen.append(at))
    assert [done for done, _ in seen] == [24_000, 48_000, 72_000, 72_137]


def test_a_file_cut_anywhere_is_refused(tmp_path: Path, coded: Path, tiny_model: Model) -> None:
    data = coded.read_bytes()
    cut = tmp_path / "cut.esht"
    for length in [*range(0, 300, 7), len(data) // 2, len(data) - 1]:
        cut.write_bytes(data[:length])
        with pytest.raises(AudioError, match=r"cut\.esht is (damaged|no file of codes)"):
            decode_file(tiny_model, cut, tmp_path / "out.wav")
    cut.write_bytes(data + b"\0")
    with pytest.raises(AudioError, match="1 bytes too many"):
        read_header(cut)
    assert not list(tmp_path.glob("out.wav*"))


def test_foreign_files_are_refused(tmp_path: Path, clip: Path, tiny_model: Model) -> None:
    for data in (clip.read_bytes(), b"", b"ESHT", b"OggS" * 100):
        (tmp_path / "foreign").write_bytes(data)
        with pytest.raises(AudioError, match="no file of codes"):
            decode_file(tiny_model, tmp_path / "foreign", tmp_path / "out.wav")


def test_a_later_version_is_named(coded: Path) -> None:
    data = bytearray(coded.read_bytes())
    data[4] = 9
    coded.write_bytes(data)
    with pytest.raises(AudioError, match="version 9"):
        read_header(coded)


@pytest.mark.parametrize(
    "change",
    [
        {"samples": -1},
        {"samples": 1e9},
        {"samples": 1 << 60},
        {"samples": True},
        {"n_q": 0},
        {"n_q": 10**12},
        {"hop_length": 0},
        {"start": "somewhere"},
        {"model": 7},
        {"surprise": 1},
    ],
)
def test_a_header_that_makes_no_sense_is_refused(coded: Path, change: dict[str, object]) -> None:
    header, data = read_header(coded), coded.read_bytes()
    text = json.dumps({**asdict(header), **change}).encode()
    old = FRONT.unpack(data[: FRONT.size])[2]
    coded.write_bytes(FRONT.pack(b"ESHT", 1, len(text)) + text + data[FRONT.size + old :])
    with pytest.raises(AudioError, match="damaged"):
        read_header(coded)


@pytest.mark.parametrize("text", [b"[1, 2]", b"null", b"{}", b"\xff" * 20, b"[" * 30_000])
def test_a_header_that_is_no_object_is_refused(coded: Path, text: bytes) -> None:
    coded.write_bytes(FRONT.pack(b"ESHT", 1, len(text)) + text)
    with pytest.raises(AudioError, match="damaged"):
        read_header(coded)


def test_bits_behind_the_last_code_are_noticed(tmp_path: Path, clip: Path, tiny_model: Model) -> None:
    """A frame of 2 codebooks leaves 4 bits of its last byte unused."""
    coded = tmp_path / "codes"
    assert read_header_of_one_frame(clip, coded, tiny_model) == 1
    data = bytearray(coded.read_bytes())
    data[-1] |= 0x80
    coded.write_bytes(data)
    with pytest.raises(AudioError, match="damaged at second 0"):
        decode_file(tiny_model, coded, tmp_path / "out.wav")


def read_header_of_one_frame(clip: Path, coded: Path, model: Model) -> int:
    sound(clip, np.full(100, 0.1, np.float32))
    return encode_file(model, clip, coded, 1.5).frames


def test_other_weights_are_refused_by_name(tmp_path: Path, coded: Path, tiny_model: Model) -> None:
    torch.manual_seed(8)
    network = Encodec(tiny_model.config)
    initialise(network)
    with pytest.raises(ModelError, match=tiny_model.digest):
        decode_file(Model(network), coded, tmp_path / "out.wav")


def test_what_cannot_be_read_or_written_is_said(tmp_path: Path, clip: Path, coded: Path, tiny_model: Model) -> None:
    text = tmp_path / "text.wav"
    text.write_text("not audio")
    with pytest.raises(AudioError, match=r"cannot read .*text\.wav as audio"):
        encode_file(tiny_model, text, tmp_path / "codes")
    with pytest.raises(AudioError, match="cannot read"):
        encode_file(tiny_model, tmp_path / "nowhere.wav", tmp_path / "codes")
    with pytest.raises(AudioError, match="cannot read"):
        decode_file(tiny_model, tmp_path / "nowhere", tmp_path / "out.wav")
    with pytest.raises(AudioError, match="cannot write"):
        encode_file(tiny_model, clip, tmp_path / "no" / "folder")
    with pytest.raises(AudioError, match="cannot write"):
        decode_file(tiny_model, coded, tmp_path / "no" / "out.wav")
    with pytest.raises(AudioError, match=r"end its name in \.wav"):
        decode_file(tiny_model, coded, tmp_path / "out.txt")
    with pytest.raises(UsageError, match="bandwidth"):
        encode_file(tiny_model, clip, tmp_path / "codes", 5.0)


def test_a_failure_leaves_what_was_there(tmp_path: Path, coded: Path, tiny_model: Model) -> None:
    text, kept = tmp_path / "text.wav", coded.read_bytes()
    text.write_text("not audio")
    with pytest.raises(AudioError):
        encode_file(tiny_model, text, coded)
    assert coded.read_bytes() == kept
    assert not list(tmp_path.glob("*.part"))


def test_a_block_is_a_second() -> None:
    assert BLOCK_FRAMES * 320 == 24_000
