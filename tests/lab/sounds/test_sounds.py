"""Sounds that are made from nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest

from earshot.lab.sounds import general_midi, one_voice
from earshot.lab.sounds.made_sounds import MAKERS, RATE, made_sound
from earshot.lab.training import decoder_level


@pytest.mark.parametrize("seed", range(8))
def test_a_made_sound_is_within_full_scale_and_not_silent(seed: int) -> None:
    pcm = made_sound(np.random.default_rng(seed), RATE)
    assert (pcm.dtype, pcm.shape) == (np.float32, (RATE,))
    assert 1e-3 < float(np.abs(pcm).max()) <= 1
    assert np.array_equal(pcm, made_sound(np.random.default_rng(seed), RATE))
    assert not np.array_equal(pcm, made_sound(np.random.default_rng(seed + 100), RATE))


def test_kinds_of_sound_come_in_shares_that_sum_to_one() -> None:
    assert sum(share for _, share in MAKERS) == pytest.approx(1)


def test_a_piece_is_a_midi_file_of_one_track() -> None:
    midi = general_midi.piece(np.random.default_rng([2, 0]))
    assert midi[:14] == b"MThd" + bytes([0, 0, 0, 6, 0, 0, 0, 1]) + general_midi.TICKS.to_bytes(2, "big")
    assert midi[14:18] == b"MTrk"
    assert int.from_bytes(midi[18:22], "big") == len(midi) - 22
    assert midi.endswith(b"\xff\x2f\0")
    assert (
        midi == general_midi.piece(np.random.default_rng([2, 0])) != general_midi.piece(np.random.default_rng([2, 1]))
    )


def test_only_sentences_that_read_as_they_are_spelled_are_spoken() -> None:
    document = (
        "# A heading with enough plain words in it\n\n"
        "People who call the same room hear each other. Short one. The server sends 12 kbps to each of them.\n\n"
        "    python -m something that is long enough here\n\n"
        "| a table | of many | plain words | in it |\n\n"
        "It says so **at once**, and then\ngoes on with all that it has."
    )
    assert list(one_voice.sentences(document)) == [
        "People who call the same room hear each other",
        "It says so at once, and then goes on with all that it has",
    ]


@pytest.mark.parametrize("main", [general_midi.main, one_voice.main, decoder_level.main])
def test_help_names_the_command(
    main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["file.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    command = f"python -m {main.__module__} "
    assert said.startswith(f"usage: {command}")
    assert f"    {command}" in said, "among the lines of the docstring"
