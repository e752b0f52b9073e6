"""Examples as they are heard: levels, mixing, noise, rooms, and what happens to silence, clipping
and damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy import signal

from earshot.codec.errors import UsageError
from earshot.codec.pcm import Pcm
from earshot.lab.training.data import MOST_CLIPPED, DataSettings, TrainingData
from earshot.lab.training.recipe import Microphone, Noise, Pick, Plan, Reverberation, Strategies
from earshot.lab.training.sources import Source

RATE, CROP = 24_000, 2400
DRY: dict[str, Any] = {
    "reverberation": Reverberation(probability=0),
    "noise": Noise(probability=0),
    "microphone": Microphone(narrow=0, overload=0, hush=0),
}
SINGLE = Strategies(two=0, three=0)


def tone(hertz: float, amplitude: float = 0.1, seconds: float = 2) -> Pcm:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """(name, samples, rate=24000) -> the file's folder."""

    def write(name: str, pcm: np.ndarray, rate: int = RATE) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, pcm, rate, subtype="FLOAT")
        return str(path.parent)

    return write


@pytest.fixture
def voices(write: Callable[..., str], speech: Pcm) -> str:
    write("voices/a.wav", speech[: 6 * RATE])
    return write("voices/b.wav", 0.1 * speech[8 * RATE : 14 * RATE])


@pytest.fixture
def street(write: Callable[..., str]) -> str:
    return write("street/a.wav", 0.3 * np.random.default_rng(1).standard_normal(4 * RATE))


def open_data(*sources: str, channels: int = 1, **settings: Any) -> TrainingData:
    given = DataSettings(sources=tuple(Source.parse(text) for text in sources), **settings)
    return TrainingData(given, RATE, channels, CROP, progress=False)


def decibels(pcm: Pcm) -> float:
    return float(10 * np.log10(np.mean(pcm.astype(np.float64) ** 2)))


def test_batches_are_a_function_of_seed_step_and_rank(voices: str, street: str) -> None:
    one, same = (open_data(voices, f"noise:{street}") for _ in range(2))
    assert one.hours == pytest.approx(16 / 3600)
    batch = one.batch(6, seed=1, step=7)
    assert (batch.shape, batch.dtype) == ((6, 1, CROP), np.float32)
    same.batch(3, seed=5, step=5)  # what was drawn before does not matter
    np.testing.assert_array_equal(same.batch(6, 1, 7, rank=0), batch)
    np.testing.assert_array_equal(same.batch(2, 1, 7), batch[:2])
    for other in (one.batch(6, 1, 8), one.batch(6, 2, 7), one.batch(6, 1, 7, rank=1)):
        assert not any(np.array_equal(a, b) for a in other for b in batch)


def test_nothing_is_clipped_silent_or_not_finite(voices: str, street: str) -> None:
    """Some hundred examples with everything done to them that can be."""
    everything = open_data(
        voices,
        f"music:{street}",
        f"noise:{street}",
        reverberation=Reverberation(probability=0.5, rooms=3),
        noise=Noise(probability=0.5),
        microphone=Microphone(narrow=0.5, overload=0.5, hush=0.3),
        gain_db=(-10, 20),
    )
    batch = everything.batch(400, seed=3, step=0)
    assert np.isfinite(batch).all()
    assert np.abs(batch).max() <= 1
    assert everything.counts["examples"] == 400
    assert everything.counts["drawn again, clipped"] > 10
    loud = np.abs(batch).max(axis=(1, 2))
    assert np.mean(loud > 0.01) > 0.75


def test_gain_on_top_of_each_files_level(write: Callable[..., str]) -> None:
    """A file 40 dB louder than another comes out as loud; the gains are spread over their range."""
    for name, amplitude in (("loud", 0.5), ("faint", 0.005)):
        folder = write(f"tones/{name}.wav", np.concatenate([tone(440, amplitude), np.zeros(RATE, np.float32)]))
    data = open_data(folder, strategies=SINGLE, level_db=-30, **DRY)
    levels = []
    for i in range(300):
        plan = data.recipe.plan(np.random.default_rng(i))
        example = data.render(plan, np.random.default_rng(0))
        if example is not None and plan.picks[0].position < 0.6:  # all tone, no pause
            assert decibels(example) == pytest.approx(-30 + plan.picks[0].gain_db, abs=0.2)
            levels.append(decibels(example))
    assert len(levels) > 100
    assert min(levels) < -38.5
    assert max(levels) > -25.5


@pytest.mark.parametrize(
    ("normalise", "expected"), [("file_peak", -6.0), ("crop_peak", -6.0), ("none", -20.0), ("file", -6.0 + 3.01)]
)
def test_ways_to_normalise(write: Callable[..., str], normalise: str, expected: float) -> None:
    """The peak of a tone with a peak of -20 dBFS, brought to -6."""
    folder = write("tones/a.wav", tone(440))
    data = open_data(folder, strategies=SINGLE, normalise=normalise, level_db=-6, gain_db=(0, 0), **DRY)
    for example in data.batch(5, 1, 1):
        assert 20 * np.log10(np.abs(example).max()) == pytest.approx(expected, abs=0.1)


def test_the_plain_recipe_is_what_it_was(voices: str) -> None:
    data = TrainingData(DataSettings.plain([Source(voices)]), RATE, 1, CROP, progress=False)
    peaks = 20 * np.log10(np.abs(data.batch(300, 1, 1)).max(axis=(1, 2)))
    assert ((peaks > -16.01) & (peaks < -0.99)).all()
    assert peaks.min() < -15
    assert peaks.max() > -2
    assert data.notes == []


def test_sources_are_heard_by_weight(write: Callable[..., str]) -> None:
    low, high = write("low/a.wav", tone(100)), write("high/a.wav", tone(5000, seconds=9))
    data = open_data(f"{low}=3", f"{high}=1", strategies=SINGLE, **DRY)
    hertz = np.abs(np.fft.rfft(data.batch(400, 1, 1)[:, 0])).argmax(axis=1) * RATE / CROP
    assert set(hertz) == {100, 5000}
    assert np.mean(hertz == 5000) == pytest.approx(1 / 4, abs=0.08)


def test_sources_of_a_mix_add_up(write: Callable[..., str]) -> None:
    folders = [write(f"{hertz}/a.wav", tone(hertz)) for hertz in (500, 2000, 5000)]
    data = open_data(*folders, level_db=-20, **DRY)
    plan = Plan("three", tuple(Pick(i, 0.5, 0.3, -3.0 * i) for i in range(3)))
    example = data.render(plan, np.random.default_rng(0))
    assert example is not None
    spectrum = np.abs(np.fft.rfft(example[0])) / CROP * 2
    for i, hertz in enumerate((500, 2000, 5000)):
        amplitude = spectrum[hertz * CROP // RATE]
        assert 20 * np.log10(amplitude / np.sqrt(2)) == pytest.approx(-20 - 3 * i, abs=0.1)


def test_noise_comes_at_the_ratio_asked_for(voices: str, street: str) -> None:
    data = open_data(voices, f"noise:{street}", noise=Noise(probability=1, snr_db=(-5, 30)))
    checked = 0
    for i in range(200):
        plan = data.recipe.plan(np.random.default_rng(i))
        assert plan.noise is not None
        clean_plan = Plan(plan.strategy, plan.picks, room=plan.room)
        clean = data.render(clean_plan, np.random.default_rng(0))
        noisy_plan = Plan(plan.strategy, plan.picks, room=plan.room, noise=plan.noise, snr_db=plan.snr_db)
        noisy = data.render(noisy_plan, np.random.default_rng(0))
        if clean is not None and noisy is not None:
            assert decibels(clean) - decibels(noisy - clean) == pytest.approx(plan.snr_db, abs=0.05)
            checked += 1
    assert checked > 150


def test_silent_noise_is_drawn_again_and_then_left_out(voices: str, write: Callable[..., str]) -> None:
    folder = write("street/a.wav", np.concatenate([np.zeros(RATE), tone(3000, seconds=1)]))
    data = open_data(voices, f"noise:{folder}", **(DRY | {"noise": Noise(probability=1, snr_db=(0, 0))}))
    plan = Plan("other", (Pick(0, 0.2, 0.3, 0.0),), noise=Pick(1, 0, 0, 0.0))
    noisy = data.render(plan, np.random.default_rng(0))
    clean = data.render(Plan("other", plan.picks), np.random.default_rng(0))
    assert noisy is not None
    assert clean is not None
    assert decibels(noisy - clean) == pytest.approx(decibels(clean), abs=0.01)
    silent = open_data(voices, f"noise:{write('nothing/a.wav', np.zeros(RATE))}", noise=Noise(probability=1))
    silent.batch(4, 1, 1)
    assert silent.counts["noise left out, silent"] >= 4


def test_a_room_is_heard_with_what_was_before_the_crop(write: Callable[..., str]) -> None:
    """A click just before the crop leaves its reverberation in it; one inside stays where it
    was."""
    clicks = np.zeros(RATE, np.float32)
    clicks[[9900, 11_000]] = 0.9
    folder = write("clicks/a.wav", clicks)
    data = open_data(
        folder,
        normalise="none",
        gain_db=(0, 0),
        quietest_db=-100,
        reverberation=Reverberation(rooms=1, rt60=(0.3, 0.3)),
    )
    position = 10_000.5 / (RATE - CROP + 1)
    plan = Plan("other", (Pick(0, 0.5, position, 0.0),))
    dry = data.render(plan, np.random.default_rng(0))
    heard = data.render(Plan("other", plan.picks, room=0.0), np.random.default_rng(0))
    assert dry is not None
    assert heard is not None
    assert np.flatnonzero(dry[0]).tolist() == [1000]
    expected = signal.fftconvolve(clicks, data.rooms[0])[10_000 : 10_000 + CROP]
    np.testing.assert_allclose(heard[0], expected, atol=1e-4)
    assert np.abs(heard[0, :900]).max() > 0.01
    assert np.abs(heard[0, 990:1010]).max() == np.abs(heard[0, 900:]).max()


def test_microphones_are_heard(voices: str) -> None:
    data = open_data(voices, **DRY)
    picks = (Pick(0, 0.2, 0.3, 6.0),)

    def heard(**values: Any) -> Pcm:
        example = data.render(Plan("other", picks, **values), np.random.default_rng(0))
        assert example is not None
        return example

    clean = heard()
    treble = signal.firwin(255, 4500, fs=RATE, pass_zero=False)
    full, narrow = (np.convolve(pcm[0], treble, mode="valid") for pcm in (clean, heard(cutoff=3400.0)))
    assert decibels(narrow) < decibels(full) - 20
    limited = heard(overload_db=6.0206, overload_hard=True)
    assert np.abs(limited).max() == pytest.approx(np.abs(clean).max(), rel=1e-4)
    assert decibels(limited) > decibels(clean) + 2
    hushed = heard(hush=(0.0, 1.0), hush_db=40.0)
    assert decibels(hushed) == pytest.approx(decibels(clean) - 40, abs=0.01)
    assert not np.abs(heard(hush=(0.0, 1.0), hush_db=float("inf"))).max() > 1e-6


@pytest.mark.parametrize("gain_db", [0.2, 60])
def test_what_clips_again_and_again_is_scaled_down(write: Callable[..., str], gain_db: float) -> None:
    folder = write("tones/a.wav", tone(440))
    gain = (gain_db, gain_db)
    data = open_data(folder, normalise="file_peak", level_db=0, gain_db=gain, strategies=SINGLE, **DRY)
    batch = data.batch(5, 1, 1)
    np.testing.assert_allclose(np.abs(batch).max(axis=(1, 2)), 0.99, rtol=1e-5)
    assert data.counts["scaled down"] == 5
    assert data.counts["drawn again, clipped"] == 5 * MOST_CLIPPED


@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize("channels", [1, 2])
def test_channels(write: Callable[..., str], sources: int, channels: int) -> None:
    """Mono becomes two equal channels, stereo the mean of its two."""
    both = np.stack([tone(500), tone(3000)], axis=1)
    folder = write("tones/a.wav", both[:, 0] if sources == 1 else both)
    data = open_data(folder, channels=channels, strategies=SINGLE, **DRY)
    batch = data.batch(3, 1, 1)
    assert batch.shape == (3, channels, CROP)
    spectrum = np.abs(np.fft.rfft(batch, axis=2))
    loud = spectrum > 0.1 * spectrum.max(axis=(1, 2), keepdims=True)
    hertz = [sorted((np.flatnonzero(row) * RATE // CROP).tolist()) for row in loud[0]]
    assert (
        hertz
        == {
            (1, 1): [[500]],
            (2, 1): [[500, 3000]],
            (1, 2): [[500], [500]],
            (2, 2): [[500], [3000]],
        }[sources, channels]
    )
    if (sources, channels) == (1, 2):
        np.testing.assert_array_equal(batch[:, 0], batch[:, 1])


@pytest.mark.parametrize("channels", [1, 2])
def test_made_sounds_come_as_often_as_asked_for(voices: str, channels: int) -> None:
    """Up to full scale, and the same again for the same step."""
    data, same = (open_data(voices, channels=channels, made=0.5, **DRY) for _ in range(2))
    batch = data.batch(40, seed=2, step=3)
    assert 10 < data.counts["made"] < 30
    assert data.counts["made"] + data.counts["examples"] == 40
    assert batch.shape == (40, channels, CROP)
    assert 0.99 < np.abs(batch).max() <= 1
    np.testing.assert_array_equal(same.batch(40, 2, 3), batch)
    none = open_data(voices, channels=channels, **DRY)
    none.batch(10, 2, 3)
    assert not none.counts["made"]


def test_silence_is_passed_over(write: Callable[..., str]) -> None:
    write("half/a.wav", np.concatenate([np.zeros(3 * RATE), tone(440, seconds=1)]))
    data = open_data(write("half/b.wav", 1e-5 * tone(440)), strategies=SINGLE, **DRY)
    batch = data.batch(20, 1, 1)
    assert (np.abs(batch).max(axis=(1, 2)) > 0.003).all()
    assert data.counts["drawn again, silent"] > 20


@pytest.mark.parametrize("memory_gib", [0, 1])
def test_silence_everywhere_is_an_error(write: Callable[..., str], memory_gib: int) -> None:
    data = open_data(write("silence/a.wav", np.zeros(RATE)), memory_gib=memory_gib)
    with pytest.raises(UsageError, match="silent nearly everywhere"):
        data.batch(1, 1, 1)


def test_damaged_files_are_left_out_and_said(voices: str) -> None:
    for i in range(2):
        Path(voices, f"{i}.flac").write_bytes(b"no sound")
    data = open_data(voices, f"{voices}/a.wav")
    assert "2 files cannot be read and are left out: 0.flac, 1.flac" in data.notes
    assert data.batch(2, 1, 1).any()
    with pytest.raises(UsageError, match=r"none of the audio files under .*flac"):
        open_data(f"{voices}/*.flac", voices)
    with pytest.raises(UsageError, match="no audio under"):
        open_data(voices, exclude=("*",))


def test_a_folder_that_goes_away(voices: str) -> None:
    data = open_data(voices, memory_gib=0)
    assert any("read from disk" in note for note in data.notes)
    data.batch(2, 1, 1)
    for file in Path(voices).iterdir():
        file.unlink()
    with pytest.raises(UsageError, match="cannot be read any more"):
        data.batch(2, 1, 2)
    assert data.counts["unreadable"] > 100


def test_much_narrow_audio_is_warned_of(write: Callable[..., str]) -> None:
    hiss = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    wide, narrow = write("wide/a.wav", hiss), write("narrow/a.wav", hiss[:16_000], 16_000)
    warning = "of the audio was recorded at 16 kHz or less"
    assert not any(warning in note for note in open_data(wide, f"{narrow}=0.9").notes)
    warnings = [note for note in open_data(wide, f"{narrow}=1.5").notes if warning in note]
    assert [note[:4] for note in warnings] == ["60% "]


def test_measured_rooms_are_used(voices: str, write: Callable[..., str]) -> None:
    time = np.arange(RATE) / RATE
    for name, seconds in (("a", 0.5), ("b", 5.0)):
        response = np.random.default_rng(0).standard_normal(RATE) * 10 ** (-3 * time / seconds)
        folder = write(f"rooms/{name}.wav", response)
    data = open_data(voices, reverberation=Reverberation(probability=1, responses=folder))
    assert len(data.rooms) == 1
    assert any(note.startswith("1 impulse responses left out") for note in data.notes)
    assert data.batch(2, 1, 1).any()


def test_notes_are_printed_once(voices: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = TrainingData(DataSettings(sources=(Source(voices),)), RATE, 1, CROP)
    data.batch(2, 1, 1)
    printed = " ".join(capsys.readouterr().err.split())
    assert printed.count("note: no source of kind music") == 1
    open_data(voices)
    assert capsys.readouterr().err == ""


def test_impossible_shapes(voices: str) -> None:
    settings = DataSettings(sources=(Source(voices),))
    for channels, crop in ((0, 100), (3, 100), (1, 0)):
        with pytest.raises(UsageError, match="cannot make crops"):
            TrainingData(settings, RATE, channels, crop, progress=False)
    with pytest.raises(UsageError, match="no audio to train from"):
        TrainingData(DataSettings(), RATE, progress=False)
