"""The commands `earshot encode`, `decode` and `info`; import the rest when they run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from earshot.codec.audio_formats import written_as
from earshot.codec.errors import AudioError, EarshotError, UsageError
from earshot.codec.targets import check_name
from earshot.codec.terminal import Terminal, description_column
from earshot.commands.checks import check_file
from earshot.commands.progress import LOADING, Lines
from earshot.commands.targets import Force, claim

if TYPE_CHECKING:
    from earshot.codec.ecdc.format import Header
    from earshot.codec.model.model import Model

console = Terminal()

_MODEL = Annotated[str, typer.Option(help="default, encodec_24khz, encodec_48khz or a path.")]
_LM_MODEL = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Another language model: what `earshot train-lm` wrote, or an official .th file."
    ),
]


def encode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Any audio file, or a folder of them.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write (.ecdc), or a folder.")],
    kbps: Annotated[float, typer.Option(help="Codec rate: 1.5, 3, 6 or 12; of encodec_48khz 3, 6, 12 or 24.")] = 6.0,
    lm: Annotated[bool, typer.Option("--lm", help="Smaller by a language model, at some cost in time.")] = False,
    model: _MODEL = "default",
    lm_model: _LM_MODEL = None,
    force: Force = False,
) -> None:
    """Encode audio into .ecdc files, as the encodec package does.

    \b
    earshot encode talk.wav talk.ecdc --kbps 3 --lm
    earshot encode album/ coded/ --model encodec_48khz

    Files of official weights are read by the encodec package too, and the
    other way round; those of the default model by Earshot only. The default
    model's language model computes in whole numbers: what is written on one
    machine can be read on every other. Formats: docs/files.md.
    """
    from earshot.codec.audio_files import audio_files
    from earshot.codec.weights.shape import check_rate

    check_file(lm_model)
    check_rate(model, kbps)
    pairs = _pairs(source, target, lambda: audio_files(str(source)), ".ecdc", force)

    with console.waiting(LOADING):
        from earshot.codec.ecdc.coding import coding_to_write
        from earshot.codec.ecdc.files import encode_file

        loaded = _load(model)
        coding = coding_to_write(loaded, lm, lm_model)

    def one(file: Path, to: Path, progress: Callable[[int, int], None]) -> str:
        header = encode_file(loaded, file, to, kbps, progress, coding)
        return f"{header.samples / loaded.sample_rate:.1f} s at {kbps:g} kbps, {_size(to, header, loaded.sample_rate)}"

    _each("encoding", one, pairs, source.is_dir())


def decode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="An .ecdc file, or a folder of them.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="Audio file to write (.wav, .flac, .ogg), or a folder.")
    ],
    model: _MODEL = "default",
    lm_model: _LM_MODEL = None,
    force: Force = False,
) -> None:
    """Decode .ecdc files into audio.

    \b
    earshot decode talk.ecdc talk.wav
    earshot decode coded/ heard/ --model encodec_48khz

    Files that are cut or damaged are decoded up to there; exit status 1 then.
    Folders become .wav files; a single file is written as its name says: .wav,
    .flac, .ogg, .opus, .mp3, .aiff, .au, .caf, .w64.
    """
    from earshot.codec.weights.shape import shape_of

    check_file(lm_model)
    shape_of(model)
    pairs = _pairs(source, target, lambda: _coded_files(source), ".wav", force)

    with console.waiting(LOADING):
        from earshot.codec.ecdc.files import decode_file

        loaded = _load(model)

    def one(file: Path, to: Path, progress: Callable[[int, int], None]) -> str:
        done = decode_file(loaded, file, to, progress, lm_model)
        if done.damage:
            whole = done.header.samples / loaded.sample_rate
            raise _DamagedError(
                f"{file} is damaged: {done.damage}. The first {done.samples / loaded.sample_rate:.1f} of {whole:.1f} s "
                f"are in {to}"
            )
        return f"{done.samples / loaded.sample_rate:.1f} s"

    _each("decoding", one, pairs, source.is_dir())


def info(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help=".ecdc files, and recordings (.eshr).")],
) -> None:
    """Say what is in files of codes and in recordings.

    \b
    earshot info talk.ecdc                      model, length, rate, coding
    earshot info den-20261124T091500Z.eshr      who spoke, how much, damage

    Recordings are read from end to end. Nothing is decoded, so no model is
    needed.
    """
    from earshot.recording.description import describe, is_recording
    from earshot.recording.table import description_table

    for file in files:
        if file.suffix.lower() == ".eshr" or is_recording(file):
            table = description_table(describe(file))
            console.say(str(file))  # a terminal may break a path where it likes
            console.print(table)
        else:
            for line in _coded_lines(file):
                console.say(line)


def _coded_lines(file: Path) -> list[str]:
    """Returns what there is to say of a file of codes: its path, which a terminal may break where
    it likes, and two lines that fit 80 columns."""
    from earshot.codec.ecdc.files import read_info
    from earshot.codec.weights.lm import known_config

    header, size = read_info(file)
    known = known_config(header.model)
    rate = header.sample_rate or (known.sample_rate if known else 0)
    hop = header.hop_length or (known.hop_length if known else 0)
    seconds = header.samples / rate if rate else 0
    coding = "plain" if not header.lm else "integer language model" if header.lm_digest else "language model"
    model = f"model {header.model}" + (f" ({header.digest})" if header.digest else "")
    length = f"{seconds:.1f} s" if rate else f"{header.samples} samples"
    codec = f", codec rate {header.n_q * 10 * rate / hop / 1000:g} kbps" if hop else ""
    disk = f"{8 * size / seconds / 1000:.2f} kbps" if seconds else f"{size} bytes"
    return [
        str(file),
        f"  {model}, {header.n_q} codebooks",
        f"  {length}{codec}, on disk {disk}, {coding}" + (f" ({header.lm_digest})" if header.lm_digest else ""),
    ]


class _DamagedError(EarshotError):
    """A file of which a part was decoded."""


def _coded_files(folder: Path) -> list[Path]:
    from earshot.codec.audio_files import is_shadow

    return sorted(file for file in folder.rglob("*") if file.suffix.lower() == ".ecdc" and not is_shadow(file))


def _load(name: str) -> Model:
    from earshot import codec

    return codec.load(name)


def _size(file: Path, header: Header, sample_rate: int) -> str:
    size = file.stat().st_size
    seconds = header.samples / sample_rate
    return f"{size} bytes" + (f" ({8 * size / seconds / 1000:.2f} kbps)" if seconds else "")


def _pairs(
    source: Path, target: Path, find: Callable[[], list[Path]], suffix: str, force: bool
) -> list[tuple[Path, Path]]:
    """Returns what is read and what is written: one file, or all of a folder. Raises UsageError,
    before anything is loaded, for what cannot be or what the user did not want."""
    if not source.exists():
        raise AudioError(f"cannot read {source}: there is no such file")
    if not source.is_dir():
        to = target / source.with_suffix(suffix).name if target.is_dir() else target
        if suffix == ".ecdc":
            check_name(to, "codes", [suffix])
        else:
            written_as(to)
        claim([to], [source], force)
        return [(source, to)]
    files = find()
    if not files:
        raise UsageError(f"there is nothing to do in {source}")
    if target.exists() and not target.is_dir():
        raise UsageError(f"{source} is a folder and {target} is none: name a folder to write to")
    pairs = list(zip(files, _apart(files, source, target, suffix), strict=True))
    claim([to for _, to in pairs if to.parent.is_dir()], files, force)
    return pairs


def _apart(files: list[Path], source: Path, target: Path, suffix: str) -> list[Path]:
    """Returns a path under `target` for each file of a folder, all of them different, also where
    large and small letters are the same."""
    short = [target / file.relative_to(source).with_suffix(suffix) for file in files]
    often = Counter(str(to).casefold() for to in short)
    found: list[Path] = []
    taken = {name for name, times in often.items() if times == 1}
    for file, to in zip(files, short, strict=True):
        number, tried = 1, to
        if often[str(to).casefold()] > 1:
            tried = to.with_name(file.name + suffix)
            while str(tried).casefold() in taken:
                number += 1
                tried = to.with_name(f"{file.name}-{number}{suffix}")
            taken.add(str(tried).casefold())
        found.append(tried)
    return found


def _each(
    verb: str,
    one: Callable[[Path, Path, Callable[[int, int], None]], str],
    pairs: list[tuple[Path, Path]],
    folder: bool,
) -> None:
    """Works on one file, or on all of a folder: a file that fails is named, and the others are
    done."""
    if not folder:
        ((source, target),) = pairs
        with _progress(verb) as progress:
            said = one(source, target, progress)
        console.say(f"{target}: {said}")
        return
    failed = 0
    for file, to in pairs:
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _progress(f"{verb} {file.name}") as progress:
                said = one(file, to, progress)
            console.say(f"{to}: {said}")
        except EarshotError as error:
            failed += 1
            console.say(str(error), "error:", "bold red")
    if failed:
        raise UsageError(f"{failed} of {len(pairs)} files could not be done, or not in full")


@contextmanager
def _progress(verb: str) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar for work on a file, counted in samples."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        description_column(),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    if not console.is_terminal:
        yield Lines(verb).show
        return
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(verb)
        yield lambda done, total: bar.update(task, completed=done, total=total)
