"""`earshot train` as a user runs it: the two-minute try-out, and what is said about mistakes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from earshot import codec
from tests.end_to_end.earshot_process import COMMAND, run_earshot

CLIPS = Path(__file__).parents[2] / "lab" / "voices"


@pytest.mark.timeout(1300)  # a busy machine takes longer than a minute for the least number of steps
def test_the_default_recipe_learns_in_a_minute(tmp_path: Path) -> None:
    """Warm-up, codebooks, spectrum and discriminator in their turn, from the clips that come with
    Earshot; the network is half as wide as the recipe's and its codebooks have a quarter of the
    entries, which k-means finds in a quarter of the latents."""
    smaller = ["--set", "batch=2", "--set", "model.n_filters=8", "--set", "model.codebook_size=256"]
    command = [*COMMAND, "train", "lite", "--smoke", *smaller, "--threads", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"spectral loss ([\d.]+) before, ([\d.]+) after (\d+) steps", done.stdout)
    assert found, done.stdout
    assert float(found[2]) < 0.7 * float(found[1])
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.timeout(300)
def test_a_run_is_gone_on_with_and_its_model_is_used(tmp_path: Path) -> None:
    quick = [
        "--set",
        "model.n_filters=2",
        "--set",
        "model.codebook_size=32",
        "--set",
        "batch=2",
        "--set",
        "crop_seconds=0.2",
        "--set",
        "precision=fp32",
    ]
    quick += ["--set", "schedule.unquantized=2", "--set", "schedule.adversarial_from=3", "--threads", "1"]
    out = ["--out", tmp_path / "run", "--set"]
    first = run_earshot("train", "lite", CLIPS, *quick, *out, "schedule.steps=4")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "0.01 hours of audio, for 4 steps, on " in first.stdout
    second = run_earshot("train", "lite", CLIPS, *quick, *out, "schedule.steps=6")
    assert "going on from step 4 of 6" in second.stdout, second.stdout + second.stderr
    assert codec.load(str(tmp_path / "run")).config.n_filters == 2
    assert f"earshot evaluate CLIPS --model {tmp_path / 'run'}" in second.stdout


@pytest.mark.timeout(300)
def test_a_language_model_is_trained_and_used_as_it_says(tmp_path: Path) -> None:
    lm = ("train-lm", "default", CLIPS / "ada.flac", "--passes", "1", "--kbps", "1.5", "--batch", "1")
    trained = run_earshot(*lm, "--steps", "2", "--precision", "fp32", "--out", tmp_path / "lm")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert f"step 2 of 2. Use it with\nearshot encode talk.wav talk.ecdc --lm-model {tmp_path / 'lm'}" in trained.stdout
    made = run_earshot(
        "encode", CLIPS / "ada.flac", tmp_path / "a.ecdc", "--kbps", "1.5", "--lm-model", tmp_path / "lm"
    )
    assert made.returncode == 0, made.stdout + made.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["light"], "no preset (encodec_24khz, encodec_48khz, finetune, lite, steep, voice)"),
        (["lite"], "name folders, files or patterns as sources"),
        (["lite", "nowhere"], "there is no audio at 'nowhere'"),
        (["lite", str(CLIPS), "--smoke"], "--smoke trains from Earshot's own clips"),
        (["lite", str(CLIPS), "--set", "batch=none"], "batch: "),
        (["lite", str(CLIPS), "--init", "nothing"], "nothing"),
        (["lite", str(CLIPS), "--init", "default", "--set", "model.n_filters=8"], "n_filters differ"),
        (["lite", str(CLIPS), "--device", "cuda:99"], "there is no cuda:99 here"),
        (["lite", str(CLIPS), "--device", "tpu"], "--device is auto, cpu, cuda or cuda:N"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = run_earshot("train", *arguments, "--out", tmp_path / "run")
    assert done.returncode != 0
    shown = " ".join(done.stderr.split())
    assert told in shown
    assert "Traceback" not in shown
