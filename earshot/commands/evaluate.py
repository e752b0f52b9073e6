"""The command `earshot evaluate`; imports the rest when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earshot.codec.errors import UsageError
from earshot.commands.extras import require_lab
from earshot.commands.progress import Lines
from earshot.commands.targets import Force, claim


def evaluate(
    clips: Annotated[
        list[str] | None, typer.Argument(help="Folders, files or glob patterns of speech (with --stress: of music).")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="default, encodec_24khz, encodec_48khz or a path; repeat it to compare models."),
    ] = None,
    kbps: Annotated[
        list[float] | None, typer.Option(help="A rate, again for each; all of the model's if none is given.")
    ] = None,
    opus: Annotated[
        list[float] | None,
        typer.Option(help="A rate of Opus beside it, again for each; 6, 12, 24 if none is given, 0 for none."),
    ] = None,
    lyra: Annotated[
        Path | None,
        typer.Option(help="Lyra v2 beside it: the folder of its models and of lyra_peer.py, which is run."),
    ] = None,
    words: Annotated[bool, typer.Option(help="Count word errors of an offline recogniser, in English clips.")] = True,
    mos: Annotated[bool, typer.Option(help="Predict what listeners would say (DistillMOS, DNSMOS).")] = True,
    english: Annotated[
        bool, typer.Option("--english", help="The clips are English, also where nothing says so.")
    ] = False,
    visqol: Annotated[bool, typer.Option("--visqol", help="ViSQOL too: a second for every second of sound.")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="Worker processes; 0 makes one for each core.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for scores.json and rate-quality.png.")] = None,
    save_audio: Annotated[
        bool, typer.Option("--save-audio", help="Leave what is heard under OUT/audio, as `earshot listen` takes it.")
    ] = False,
    stress: Annotated[
        bool, typer.Option("--stress", help="Check noise, silence, music and clipping instead; fails if one fails.")
    ] = False,
    force: Force = False,
) -> None:
    """Measure decoded speech against the original, always streamed, beside Opus and Lyra.

    \b
    earshot evaluate my/clips --out out/figures
    earshot evaluate my/clips --kbps 6 --opus 0 --no-words --no-mos   quicker
    earshot evaluate my/clips --model default --model runs/mine/model.safetensors
    earshot evaluate --stress                                 no runaway level

    A transcript is CLIP.txt beside the clip, or a column `transcript` of a
    MANIFEST.tsv with the clip's `path`; without one, the words recognised in
    the original count.
    """
    require_lab()
    from earshot.codec.audio_files import audio_files
    from earshot.codec.weights.shape import check_rate, shape_of

    for name in model or ["default"]:
        shape_of(name)
        for rate in kbps or ():
            check_rate(name, rate)
    read = [file for pattern in clips or () for file in audio_files(pattern)]
    if out is not None and not stress:
        if save_audio and any((out / "audio").resolve() in file.resolve().parents for file in read):
            raise UsageError(f"the clips are in {out / 'audio'}, which would be written anew: name another --out")
        claim([file for name in ("scores.json", "rate-quality.png") if (file := out / name).exists()], read, force)

    import shlex
    import sys

    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from earshot.codec.terminal import Terminal
    from earshot.lab.evaluation.command import EvaluationOptions, run, stress_all
    from earshot.lab.evaluation.tables import band_table, score_table, stress_summary, stress_table

    options = EvaluationOptions(
        models=tuple(model or ["default"]),
        kbps=tuple(kbps or ()),
        opus_kbps=tuple(rate for rate in (opus or (6.0, 12.0, 24.0)) if rate),
        lyra=lyra,
        words=words,
        mos=mos,
        visqol=visqol,
        all_english=english,
        jobs=jobs,
        out=out,
        save_audio=save_audio,
    )
    console = Terminal()
    percent = TextColumn("{task.percentage:3.0f} %")
    with Progress(
        TextColumn("judging"), BarColumn(), percent, TimeRemainingColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("", total=None)
        lines = Lines("judging")

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if not console.is_terminal:
                lines.show(done, total)

        if stress:
            rows = stress_all(clips or (), options, show)
        else:
            found = run(clips or (), options, shlex.join(["earshot", *sys.argv[1:]]), show)
    if stress:
        console.print(stress_table(rows))
        console.print(stress_summary(rows))
        raise typer.Exit(any(row.fault for row in rows))
    console.print(score_table(found))
    console.print(band_table(found))
    if out:
        console.say(f"written to {out}")
        if save_audio:
            console.say(f"rate by ear what was heard: earshot listen {out / 'audio'}")
