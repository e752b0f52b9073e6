"""Clips: their names, transcripts and language."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.codec.errors import AudioError, UsageError
from earshot.lab.evaluation.clips import Clip, find_clips, unique_names


def audio(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, np.zeros(160), 16_000)
    return file


def only(file: Path, all_english: bool = False) -> Clip:
    (clip,) = find_clips([str(file)], all_english)
    return clip


def test_each_file_once_in_the_order_asked_for(tmp_path: Path) -> None:
    first, second = audio(tmp_path / "x" / "b.wav"), audio(tmp_path / "x" / "a.wav")
    found = find_clips([str(first), str(tmp_path)])
    assert [clip.file for clip in found] == [first, second]
    with pytest.raises(UsageError, match="no audio"):
        find_clips([str(tmp_path / "nothing")])


def test_names_are_unlike_each_other_and_fit_for_files(tmp_path: Path) -> None:
    files = [audio(tmp_path / folder / "so what?.wav") for folder in ("a", "b")]
    assert [clip.name for clip in find_clips([str(file) for file in files])] == ["so-what", "so-what-2"]
    assert unique_names(["A", "a", "..", "../../x", "a-2", "é"]) == ["A", "a-2", "clip", "x", "a-2-2", "é"]


def test_a_text_file_beside_the_clip_is_its_transcript(tmp_path: Path) -> None:
    clip = audio(tmp_path / "x.wav")
    assert only(clip) == Clip("x", clip, None, english=False)
    clip.with_suffix(".txt").write_text("  hello there\n")
    assert only(clip) == Clip("x", clip, "hello there", english=True)
    clip.with_suffix(".txt").write_text(" \n")
    assert only(clip).transcript is None
    clip.with_suffix(".txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AudioError, match="transcript"):
        only(clip)


@pytest.mark.parametrize("column", ["transcript", "Text", "sentence"])
def test_a_manifest_above_has_transcripts(tmp_path: Path, column: str) -> None:
    clip, other = audio(tmp_path / "speech" / "x.wav"), audio(tmp_path / "speech" / "y.wav")
    (tmp_path / "MANIFEST.tsv").write_text(f'path\tspeaker\t{column}\nspeech/x.wav\tann\t"Hi," she said\n')
    assert only(clip).transcript == '"Hi," she said'
    assert only(clip).english
    assert only(other) == Clip("y", other)


def test_the_nearest_manifest_that_names_the_clip_counts(tmp_path: Path) -> None:
    clip = audio(tmp_path / "speech" / "x.wav")
    (tmp_path / "MANIFEST.tsv").write_text("path\ttext\nspeech/x.wav\tfar\n")
    (tmp_path / "speech" / "MANIFEST.tsv").write_text("path\ttext\nother.wav\tnear\n")
    assert only(clip).transcript == "far"
    (tmp_path / "speech" / "MANIFEST.tsv").write_text("path\ttext\nx.wav\tnear\n")
    assert only(clip).transcript == "near"


@pytest.mark.parametrize(
    ("name", "row", "english"),
    [
        ("x", "ann\t", False),
        ("set_speaker-en-us-joe_1", "ann\t", True),
        ("enough-hen", "ann\t", False),
        ("x", "kathleen(en-US F 50-70)\t", True),
        ("x-en", "ann\tde", False),
        ("x-de", "ann\ten-GB", True),
    ],
)
def test_language(tmp_path: Path, name: str, row: str, english: bool) -> None:
    clip = audio(tmp_path / f"{name}.wav")
    (tmp_path / "MANIFEST.tsv").write_text(f"path\tspeaker\tlanguage\n{name}.wav\t{row}\n")
    assert only(clip).english is english
    assert only(clip, all_english=True).english is (english or not row.endswith("de"))


def test_a_transcript_in_another_language_is_no_transcript(tmp_path: Path) -> None:
    clip = audio(tmp_path / "x.wav")
    (tmp_path / "MANIFEST.tsv").write_text("path\tlanguage\ttext\nx.wav\tfr\tbonjour\n")
    assert only(clip, all_english=True) == Clip("x", clip, None, english=False)


def test_a_damaged_manifest_is_said(tmp_path: Path) -> None:
    clip = audio(tmp_path / "x.wav")
    (tmp_path / "MANIFEST.tsv").write_bytes(b"path\ttext\nx.wav\t\xff\xff\n")
    with pytest.raises(AudioError, match=r"MANIFEST\.tsv cannot be read"):
        only(clip)
    (tmp_path / "MANIFEST.tsv").write_text("path\ttext\nx.wav\nx\ty\tz\tmore\n")
    assert only(clip).transcript is None
