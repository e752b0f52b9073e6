"""What people see, kept as text at 60, 80 and 120 columns in tests/data/screens. To keep a change,
delete the files that differ and run these tests twice."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import RenderableType
from rich.text import Text
from typer.testing import CliRunner

from earshot.cli import app
from earshot.client.ui.controls import HELP
from earshot.client.ui.view import EntropyState, SpeakerState, ViewState, render
from earshot.codec.ecdc.files import encode_file
from earshot.codec.model.model import Model
from earshot.codec.terminal import Terminal
from earshot.commands.files import _coded_lines
from earshot.lab.demo.conversation import DEMO
from earshot.lab.demo.show import panels
from earshot.recording.description import describe
from earshot.recording.format import Event
from earshot.recording.table import description_table
from tests.recordings import record, talk, write

SCREENS = Path(__file__).parents[1] / "data" / "screens"
SERVER = "wss://calls.example.org"
BEN = SpeakerState("Ben", -15.0, False, 6.0, 22.0, 71.6, 31.2, 4, 5)
LATE = SpeakerState("Cyd, who has a long name", -30.0, False, 12.0, 120.4, 1240.0, 1031.0, 12345, 99)


def talking(**more: object) -> ViewState:
    about = {"state": "connected", "connected": True, "uplink": "codes", "level_db": -20.0, "codec_kbps": 6.0}
    about |= {
        "wire_kbps": 21.8,
        "heard_codec_kbps": 6.0,
        "heard_wire_kbps": 22.3,
        "round_trip_ms": 12.4,
        "seconds": 83.2,
        "speakers": [BEN],
    }
    return ViewState("Ada", "den", SERVER, **(about | more))  # type: ignore[arg-type]


VIEWS: dict[str, ViewState] = {
    "an empty room": ViewState("Ada", "den", SERVER, "connected", True, round_trip_ms=12.4),
    "a talk": talking(),
    "long names and large figures": talking(speakers=[BEN, LATE], dropped=1234, reconnects=2),
    "PCM": talking(uplink="pcm", wire_kbps=439.0, codec_kbps=0.0),
    "muted": talking(muted=True, push_to_talk=True, speakers=[SpeakerState("Ben", muted=True)]),
    "keys and volumes": talking(help=HELP, chosen=1, speakers=[SpeakerState("Ben", volume_db=-6.0), LATE]),
    "recorded, and late": talking(recording=True, recording_said="Ben began it", loudspeaker_dry=3),
    "late, to a file": talking(loudspeaker_dry=1, output_file="you.wav"),
    "music": talking(speakers=[SpeakerState("dj", music="encodec_48khz", decodable=False)]),
    "entropy coding": talking(entropy=EntropyState(True, True, 3.0, 2.0, 6.0, 3.9, 0.047)),
    "connecting again": talking(state="reconnecting", detail="the connection to the server broke off; trying again"),
}


def drawn(screen: RenderableType, width: int) -> str:
    console = Terminal(file=(out := io.StringIO()), width=width)
    console.print(screen)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def same(name: str, width: int, shown: str) -> None:
    assert max(map(len, shown.splitlines())) <= width
    kept = SCREENS / f"{name.replace(' ', '-').replace(',', '')}-{width}.txt"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(shown, "utf-8")
        pytest.fail(f"{kept} was not there and is written: look at it")
    assert shown == kept.read_text("utf-8")


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", VIEWS)
def test_the_view_of_a_call(name: str, width: int) -> None:
    shown = drawn(render(VIEWS[name]), width)
    same(name, width, shown)
    for heading in ("who", "level", "kbps", "to ear" if width < 100 else "mouth to ear", "runs", "lost"):
        assert heading in shown
    assert "(you)" in shown
    rows = [line for line in shown.splitlines() if "…" in line]
    assert all("Cyd" in row and row.count("…") == 1 for row in rows), "only names are cut"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_demo(width: int) -> None:
    status = talking().to_json()
    same("the demo", width, drawn(panels([status, {}], 0.4, DEMO, "demo"), width))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_info(width: int, tmp_path: Path, tiny_model: Model) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(48_000), 24_000)
    encode_file(tiny_model, tmp_path / "a.wav", tmp_path / "a.ecdc", 3.0)
    path, *lines = _coded_lines(tmp_path / "a.ecdc")
    assert path == str(tmp_path / "a.ecdc")
    same("info", width, "".join(drawn(Text(line), width) for line in lines).replace(tiny_model.digest, 16 * "0"))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_info_of_a_recording(width: int, tmp_path: Path, tiny_model: Model) -> None:
    write(
        tmp_path / "r.eshr",
        record(
            tiny_model, [(0, 1, Event(type="joined", at=0, peer=1, name="Ada")), *talk(1, np.zeros((8, 75), int), 0)]
        ),
    )
    shown = drawn(description_table(describe(tmp_path / "r.eshr")), width)
    same("info of a recording", width, shown.replace(tiny_model.digest, 16 * "0"))


@pytest.mark.parametrize("recorded", [False, True], ids=["codes", "recording"])
def test_a_path_is_in_one_line(recorded: bool, tmp_path: Path, tiny_model: Model) -> None:
    """A terminal breaks it where it likes, and gives it back whole when it is marked."""
    folder = tmp_path / ("long name " * 12)
    folder.mkdir()
    soundfile.write(folder / "a.wav", np.zeros(640), 24_000)
    encode_file(tiny_model, folder / "a.wav", folder / "x", 3.0)
    if recorded:
        write(folder / "x", record(tiny_model, []))
    done = CliRunner().invoke(app, ["info", str(folder / "x")])
    first, *more = done.output.splitlines()
    assert first == str(folder / "x")
    assert len(more) >= 2
    assert max(map(len, more)) <= 80
