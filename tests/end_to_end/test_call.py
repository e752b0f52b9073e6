"""`earshot call` with files as microphone and loudspeaker, through a real server: what it reports,
how it ends, how it comes back, and what it says when it cannot go on."""

from __future__ import annotations

import copy
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.client.core.latency import STAGES
from earshot.codec.model.model import Model
from earshot.codec.weights.load import save_native
from tests.end_to_end.earshot_process import EarshotCall, EarshotServer, hears, run_earshot

pytestmark = pytest.mark.timeout(300)

VOICES = Path(__file__).parents[2] / "lab" / "voices"


@pytest.fixture(scope="module")
def model_file(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_native(tiny_model.network, path)
    return path


@pytest.fixture(scope="module")
def server(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EarshotServer]:
    with EarshotServer(tmp_path_factory.mktemp("server"), model_file) as running:
        yield running


def call(folder: Path, name: str, url: str, model: Path, *more: str) -> EarshotCall:
    arguments = ["den", "--server", url, "--model", model, "--name", name, "--input", VOICES / f"{name}.flac"]
    return EarshotCall(*arguments, "--output", folder / f"{name}.wav", *more, report=folder / f"{name}.json")


def test_two_calls_hear_each_other_and_report_it(tmp_path: Path, server: EarshotServer, model_file: Path) -> None:
    ada = call(tmp_path, "ada", server.url, model_file, "--loop", "--uplink", "pcm")
    ben = call(tmp_path, "ben", server.url, model_file, "--loop", "--uplink", "codes", "--kbps", "3")
    with ada, ben:
        ada.wait_for(hears("ben"))
        ben.wait_for(hears("ada"))
        ada.wait_for(lambda status: status["seconds"] > 4 and status["speakers"][0]["level_db"] > -60)
        reports = {"ada": ada.leave(), "ben": ben.leave()}
    for me, other, kbps, uplink in (("ada", "ben", 3.0, "pcm"), ("ben", "ada", 6.0, "codes")):
        report = reports[me]
        assert (report["name"], report["room"], report["uplink"]) == (me, "den", uplink)
        assert report["reconnects"] == 0
        assert report["malformed_messages"] == 0
        assert report["clock"]["round_trip_us"] >= 0
        assert report["sent"]["frames"] >= report["sent"]["messages"] > 0
        (speaker,) = report["speakers"].values()
        assert speaker["name"] == other
        assert speaker["frames"] > 0
        # Some messages hold several frames, so that the last byte of packed codes may be partly
        # empty.
        assert kbps <= speaker["codec_kbps"] < kbps * 1.03
        assert speaker["wire_kbps"] > speaker["codec_kbps"]
        assert speaker["mouth_to_ear_ms"]["p50"] > 320 / 24  # no frame is heard sooner than it is spoken
        assert set(speaker["stages_ms"]) == set(STAGES)
        assert 0 < len(speaker["timeline"]) <= 1000
        # The loudspeaker begins first, and the call no later than the microphone.
        soonest = (report["heard_start_us"] - report["spoken_start_us"]) / 1e6 - 0.001
        for row in speaker["timeline"]:
            assert len(row) == 1 + len(STAGES)
            assert soonest <= row[0] <= report["seconds"] + 1
        heard, rate = soundfile.read(tmp_path / f"{me}.wav", dtype="float32")
        assert rate == 24_000
        assert np.abs(heard).max() > 0.01
        assert report["heard_start_us"] > 0
        assert report["spoken_start_us"] > 0
    assert reports["ada"]["sent"]["codec_kbps"] is None
    assert 3.0 <= reports["ben"]["sent"]["codec_kbps"] < 3.1


def test_one_only_speaks_and_one_only_listens(tmp_path: Path, server: EarshotServer, model_file: Path) -> None:
    speaks = call(tmp_path, "ada", server.url, model_file, "--loop", "--output", "none")
    listens = call(tmp_path, "ben", server.url, model_file, "--input", "none", "--uplink", "codes")
    with speaks, listens:
        listens.wait_for(hears("ada"))
        speaking, listening = speaks.leave(), listens.leave()
    assert listening["uplink"] == "none"
    assert listening["sent"]["frames"] == 0
    assert speaking["speakers"] == {}
    assert speaking["heard_start_us"] is None
    assert speaking["sent"]["frames"] > 0


def test_call_ends_after_its_file(tmp_path: Path, server: EarshotServer, model_file: Path) -> None:
    soundfile.write(tmp_path / "short.wav", np.zeros(12_000, np.float32), 24_000)
    with EarshotCall(
        *("alone", "--server", server.url, "--model", model_file, "--linger", "0.2"),
        *("--input", tmp_path / "short.wav", "--output", tmp_path / "out.wav"),
        report=tmp_path / "report.json",
    ) as alone:
        report = alone.finish()
    assert report["speakers"] == {}
    assert report["seconds"] >= 0.7
    lost = report["sent"]["dropped_blocks"] + report["devices"]["overflows"]
    # The last one is filled with silence.
    assert report["sent"]["frames"] + report["sent"]["silent_frames"] + lost == 38


def test_call_ends_after_seconds(tmp_path: Path, server: EarshotServer, model_file: Path) -> None:
    with call(tmp_path, "ada", server.url, model_file, "--loop", "--seconds", "1") as ada:
        assert ada.finish()["seconds"] >= 1


def test_call_goes_on_when_the_server_comes_back(tmp_path: Path, model_file: Path) -> None:
    with ExitStack() as stack:
        with EarshotServer(tmp_path, model_file) as first:
            ada = stack.enter_context(call(tmp_path, "ada", first.url, model_file, "--loop"))
            ben = stack.enter_context(call(tmp_path, "ben", first.url, model_file, "--loop", "--uplink", "codes"))
            ada.wait_for(hears("ben"))
            ben.wait_for(hears("ada"))
        ada.wait_for(lambda status: status["state"] == "reconnecting" and "trying again" in status["detail"])
        stack.enter_context(EarshotServer(tmp_path, model_file, first.port))
        for one, other in ((ada, "ben"), (ben, "ada")):
            one.wait_for(lambda status: status["reconnects"] > 0 and status["connected"])
            one.wait_for(hears(other))
        reports = [ada.leave(), ben.leave()]
    for report in reports:
        assert report["reconnects"] >= 1
        names = [speaker["name"] for speaker in report["speakers"].values() if speaker["frames"] > 0]
        assert len(names) >= 2  # of each connection one, since the second server numbers peers anew
        assert len(set(names)) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["two words"], "'two words' is no room name"),
        (["den", "--server", "ftp://example"], "is no address of a server"),
        (["den", "--kbps", "5"], "no rate of 5 kbps"),
        (["den", "--input", "missing.wav"], "missing.wav"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, model_file: Path, arguments: list[str], said: str) -> None:
    rest = [] if "--input" in arguments else ["--input", VOICES / "ada.flac"]
    done = run_earshot("call", *arguments, *rest, "--output", tmp_path / "o.wav", "--model", model_file)
    assert_one_line(done, said)


def test_no_server_is_said_in_one_line(tmp_path: Path, model_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = run_earshot(
        *("call", "den", "--server", f"ws://127.0.0.1:{port}", "--model", model_file),
        *("--input", VOICES / "ada.flac", "--output", tmp_path / "o.wav"),
    )
    assert_one_line(done, "no server at .*earshot serve")


def test_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    assert_one_line(run_earshot("demo", "--out", tmp_path / "taken"), "taken: File exists")


def test_another_model_is_said_in_one_line(tmp_path: Path, server: EarshotServer, tiny_model: Model) -> None:
    other = copy.deepcopy(tiny_model.network)
    other.quantizer.codebooks[0].add_(1)
    save_native(other, tmp_path / "other.safetensors")
    done = run_earshot(
        *("call", "den", "--server", server.url, "--model", tmp_path / "other.safetensors"),
        *("--input", VOICES / "ada.flac", "--output", tmp_path / "o.wav"),
    )
    assert_one_line(done, "model")


def assert_one_line(done: subprocess.CompletedProcess[str], said: str) -> None:
    assert done.returncode == 1
    assert re.fullmatch(rf"error: .*{said}.*\n", done.stderr), done.stderr
