"""Recordings as audio hold the speech at its time, and silence elsewhere."""

from __future__ import annotations

import gc
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.codec.errors import AudioError, ModelError, UsageError
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from earshot.recording import export
from earshot.recording.description import describe, is_recording
from earshot.recording.export import export_recording
from earshot.recording.format import Event
from tests.peers import tiny_model as other_model
from tests.recordings import FRAME_US, HOP, record, talk, write

RATE = 24_000
FADE = 120
INEXACT = 2e-4
"""Tolerance for the rounding of 16-bit samples and of engines."""


def joined(speaker: int, name: str, at: int = 0) -> tuple[int, int, Event]:
    return at, speaker, Event(type="joined", at=0, peer=speaker, name=name)


@pytest.fixture(scope="module")
def said(tiny_model: Model, speech: Pcm) -> dict[str, np.ndarray]:
    """Returns the codes of each speaker by name."""
    return {
        "ada": tiny_model.encoder(6.0).push(speech[: 6 * RATE]),
        "ben": tiny_model.encoder(1.5).push(speech[8 * RATE : 14 * RATE]),
    }


@pytest.fixture(scope="module")
def meeting(tiny_model: Model, said: dict[str, np.ndarray]) -> bytes:
    """Records a meeting. Ada speaks from the beginning, mutes herself for 2 s after her frame 150,
    and says the rest; Ben comes 2.5 s late and leaves before her; Cy only listens."""
    ada = talk(1, said["ada"], 0)
    for index in range(150, len(ada)):
        at, speaker, packet = ada[index]
        later = packet._replace(timestamp=packet.timestamp + 2 * RATE)
        ada[index] = at + 2_000_000, speaker, later
    ben = talk(2, said["ben"][:, :300], 2_500_000, timestamp=1 << 31)
    left = 6_600_000, 2, Event(type="left", at=0, peer=2)
    events = [joined(1, "Ada"), joined(3, "Cy"), joined(2, "Ben\u00e9/..", 2_400_000), left]
    return record(tiny_model, sorted([*ada, *ben, *events], key=lambda each: each[0]))


def listen(path: Path) -> Pcm:
    pcm, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    return pcm


def find(heard: Pcm, expected: Pcm, at: int) -> None:
    """Asserts that `expected`, except for its faded ends, is heard `at` this sample or up to a tick
    (0.1 ms) before."""
    inner = np.clip(expected[FADE:-FADE], -1, 1)
    best = min(np.abs(heard[at + FADE - early :][: inner.size] - inner).max() for early in range(4))
    assert best < INEXACT


def decoded(model: Model, codes: np.ndarray) -> Pcm:
    return model.decoder().push(codes)


@pytest.fixture(scope="module")
def exported(meeting: bytes, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    source = write(folder / "den.eshr", meeting)
    made = export_recording(tiny_model, source, folder / "mix.wav", folder / "each", "wav")
    assert [file.name for file in made.files] == ["mix.wav", "001-Ada.wav", "002-Ben\u00e9.wav"]
    assert not made.description.faults()
    return folder


def test_speakers_are_where_they_spoke(exported: Path, tiny_model: Model, said: dict[str, np.ndarray]) -> None:
    ada, ben = listen(exported / "each/001-Ada.wav"), listen(exported / "each/002-Ben\u00e9.wav")
    assert ada.size == ben.size == 8 * RATE
    expected = decoded(tiny_model, said["ada"])
    find(np.pad(ada, 4), expected[: 150 * HOP], 4)
    find(ada, expected[150 * HOP :], 150 * HOP + 2 * RATE)
    assert not ada[150 * HOP : 150 * HOP + 2 * RATE - 4].any()
    at, length = round(2.5 * RATE), 300 * HOP
    find(ben, decoded(tiny_model, said["ben"][:, :300]), at)
    assert not ben[: at - HOP].any()
    assert not ben[at + length + HOP :].any()


def test_the_mix_is_the_sum(exported: Path) -> None:
    parts = [listen(file) for file in sorted((exported / "each").iterdir())]
    total = sum(parts)
    quiet = np.abs(total) < 0.8
    assert quiet.mean() > 0.9
    np.testing.assert_allclose(listen(exported / "mix.wav")[quiet], total[quiet], atol=3 * INEXACT)


def test_a_description_says_what_is_in_it(exported: Path) -> None:
    found = describe(exported / "den.eshr")
    assert is_recording(exported / "den.eshr")
    assert not is_recording(exported / "mix.wav")
    assert (round(found.seconds, 3), found.ended) == (8.0, "everyone had left")
    by_name = {speaker.name: speaker for speaker in found.speakers.values()}
    assert list(by_name) == ["Ada", "Cy", "Ben\u00e9/.."]
    ada, cy, ben = by_name.values()
    assert (ada.frames, cy.frames, ben.frames) == (450, 0, 300)
    assert (ben.joined_s, ben.left_s) == (2.4, 6.6)
    assert 6.0 <= found.kbps_of(ada) < 6.1
    assert 1.5 <= found.kbps_of(ben) < 1.55
    assert found.facts()[0] == "recording of den"
    assert found.facts()[1].startswith("begun 2026-11-24T09:15:00")
    assert "0:00:08.0 long" in found.facts()[2]
    assert not found.remarks()


def test_flac_is_the_same(exported: Path, tiny_model: Model, tmp_path: Path) -> None:
    export_recording(tiny_model, exported / "den.eshr", tmp_path / "mix.flac", tmp_path, "flac")
    for flac, wav in (("mix.flac", "mix.wav"), ("001-Ada.flac", "each/001-Ada.wav")):
        np.testing.assert_allclose(listen(tmp_path / flac), listen(exported / wav), atol=1 / 32768)  # rounding


def test_damage_costs_what_it_hit_and_is_told(
    exported: Path, meeting: bytes, tiny_model: Model, tmp_path: Path
) -> None:
    data = bytearray(meeting)
    data[len(data) // 2] ^= 0xFF
    source = write(tmp_path / "hit.eshr", bytes(data[:-10]))
    made = export_recording(tiny_model, source, None, tmp_path, "wav")
    found = made.description
    assert found.damage_count == 2
    assert found.ended is None
    text = "\n".join(made.lines())
    assert "damaged: " in text
    assert f"at byte {found.damages[0].at}, after 0:00:0" in text
    assert "% of its bytes are good" in text
    assert "it has no end: the server was killed" in text
    hurt = whole = 0
    for name in ("001-Ada.wav", "002-Ben\u00e9.wav"):
        heard, full = listen(tmp_path / name), listen(exported / "each" / name)
        assert abs(heard.size - full.size) <= 3  # the time of its end is known only in ticks
        heard, full = heard[: 8 * RATE - 3], full[: 8 * RATE - 3]
        missing = (heard == 0) & (full != 0)
        hurt, whole = hurt + int(missing.any()), whole + int(not missing.any())
        assert missing.sum() < 0.9 * RATE
    assert (hurt, whole) == (1, 1)


def test_mutated_recordings_export_or_are_refused(meeting: bytes, tiny_model: Model, tmp_path: Path) -> None:
    rng = random.Random(3)
    for _ in range(12):
        data = bytearray(meeting[: rng.randrange(len(meeting))])
        for _ in range(rng.randint(0, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        source = write(tmp_path / "mutated.eshr", bytes(data))
        try:
            export_recording(tiny_model, source, tmp_path / "mix.wav")
        except AudioError as error:
            assert "it is no recording" in str(error)  # noqa: PT017
            continue
        assert listen(tmp_path / "mix.wav").size <= 8 * RATE


def test_other_weights_are_refused_by_name(exported: Path, tiny_model: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"recorded with the model 'tiny' \\({tiny_model.digest}\\).*--model"):
        export_recording(other_model(), exported / "den.eshr", tmp_path / "mix.wav")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_is_said(exported: Path, tiny_model: Model, tmp_path: Path) -> None:
    source = exported / "den.eshr"
    with pytest.raises(UsageError, match=r"end its name in \.wav or \.flac"):
        export_recording(tiny_model, source, tmp_path / "mix.mp3")
    with pytest.raises(UsageError, match="choose wav or flac"):
        export_recording(tiny_model, source, None, tmp_path, "mp3")
    with pytest.raises(AudioError, match="cannot write"):
        export_recording(tiny_model, source, tmp_path / "no" / "mix.wav")
    with pytest.raises(AudioError, match="cannot read"):
        export_recording(tiny_model, tmp_path / "nowhere", tmp_path / "mix.wav")
    with pytest.raises(AudioError, match="it is no recording"):
        export_recording(tiny_model, exported / "mix.wav", tmp_path / "mix.wav")
    assert not list(tmp_path.iterdir())


def test_nothing_said_is_silence(tiny_model: Model, tmp_path: Path) -> None:
    source = write(
        tmp_path / "quiet.eshr", record(tiny_model, [joined(1, "Ada"), (2_000_000, 1, Event(type="left", at=0))])
    )
    export_recording(tiny_model, source, tmp_path / "mix.wav", tmp_path / "each")
    assert listen(tmp_path / "mix.wav").size == 2 * RATE
    assert not list((tmp_path / "each").iterdir())


def test_a_failure_leaves_what_was_there(
    exported: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AudioError("the disk is full")

    (tmp_path / "mix.wav").write_text("kept")
    monkeypatch.setattr(export._Sound, "finish", fail)
    with pytest.raises(AudioError, match="the disk is full"):
        export_recording(tiny_model, exported / "den.eshr", tmp_path / "mix.wav", tmp_path / "each")
    assert (tmp_path / "mix.wav").read_text() == "kept"
    assert not list(tmp_path.rglob("*.part"))


def resident_mb() -> float:
    """Returns the memory of this process without mapped files, which a busy system loads and
    drops."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:")) * 1024 / 1e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_an_hour_takes_no_more_memory_than_a_minute(
    tiny_model: Model, said: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """Three speakers come and go all the time; a second of speech stands for a quarter of a
    minute."""
    source = tmp_path / "hour.eshr"
    hour: list[tuple[int, int, object]] = []
    for number, second in enumerate(range(0, 3600, 15)):
        codes = np.roll(said["ben"], number, axis=1)[:, :75]
        hour += talk(1 + number % 3, codes, second * 1e6, timestamp=second * RATE)
    hour.append((3_600_000_000, 1, Event(type="left", at=0, peer=1)))
    source.write_bytes(record(tiny_model, hour))  # type: ignore[arg-type]
    seen: list[tuple[int, int, float]] = []
    gc.collect()
    export_recording(
        tiny_model, source, tmp_path / "mix.flac", None, "flac", lambda *at: seen.append((*at, resident_mb()))
    )
    assert soundfile.info(tmp_path / "mix.flac").frames == 3600 * RATE
    assert seen[-1][:2] == (3600 * RATE, 3600 * RATE)
    early = max(memory for done, _, memory in seen if done < 300 * RATE)
    assert max(memory for _, _, memory in seen) < early + 5
    assert FRAME_US * 75 == 1e6
