"""Audio files that claim to be more than anyone can read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.client.audio.files import read_blocks
from earshot.codec.audio_files import read_audio
from earshot.codec.audio_reader import MAX_HOURS, check_claims
from earshot.codec.ecdc.files import encode_file
from earshot.codec.errors import AudioError
from earshot.codec.model.model import Model
from earshot.lab.training.sources import UNREADABLE, read_channels


@pytest.fixture(params=[1, 999, 800_000])
def odd(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    file = tmp_path / "odd.wav"
    soundfile.write(file, np.zeros(200, np.float32), request.param, "PCM_16")
    return file


def test_odd_rates_are_refused_wherever_files_are_read(odd: Path, tmp_path: Path, tiny_model: Model) -> None:
    with pytest.raises(AudioError, match="1000 to 768000 are read"):
        read_audio(odd, 24_000)
    with pytest.raises(AudioError, match="1000 to 768000 are read"):
        next(read_blocks(odd, 320))
    with pytest.raises(AudioError, match="1000 to 768000 are read"):
        encode_file(tiny_model, odd, tmp_path / "odd.ecdc")
    with pytest.raises(UNREADABLE, match="1000 to 768000 are read"):
        read_channels(odd, 24_000, 1)
    assert not (tmp_path / "odd.ecdc").exists()


def test_length_and_channels_are_bounded() -> None:
    file = Path("long.wav")
    check_claims(file, 48_000, 2, round(MAX_HOURS * 3600 * 48_000))
    with pytest.raises(AudioError, match="at most 24 are read"):
        check_claims(file, 48_000, 2, round(MAX_HOURS * 3600 * 48_000) + 1)
    with pytest.raises(AudioError, match="at most 64"):
        check_claims(file, 48_000, 65, 1)
