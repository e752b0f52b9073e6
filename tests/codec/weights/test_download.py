"""Fetches weights from a real HTTP server that does everything wrong."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from earshot import codec
from earshot.cli import app
from earshot.codec.errors import DownloadError
from earshot.codec.pcm import Pcm
from earshot.codec.terminal import Terminal
from earshot.codec.weights import download
from earshot.codec.weights.download import Release, RetryPolicy, fetch
from tests.stereo import make_music, official_stereo

DATA = np.random.default_rng(0).bytes(300_000)
RELEASE = Release("weights.th", len(DATA), hashlib.sha256(DATA).hexdigest())
POLICY = RetryPolicy(attempts=3, connect_s=10.0, silence_s=20.0, pause_s=0.5)


@dataclass
class Mirror:
    """Tells how the server behaves, and collects its requests."""

    url: str
    data: bytes = DATA
    ranges: bool = True
    break_after: list[int] = field(default_factory=list)
    """Bytes after which the connection is cut, for each response in turn; later responses are
    whole."""
    status: list[int] = field(default_factory=list)
    """Status codes of the first responses, which have no content."""
    silent: bool = False
    """Whether the server stops in the middle and keeps the connection open."""
    asked: list[str | None] = field(default_factory=list)
    """Range header of every request."""
    released: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", download.URL_VARIABLE):
        monkeypatch.delenv(name, raising=False)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            state.asked.append(wanted)
            if state.status or not self.path.endswith(".th"):
                self.send_error(state.status.pop(0) if state.status else 404)
                return
            begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and state.ranges else 0
            if begin >= len(state.data):
                self.send_error(416)
                return
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(state.data) - 1}/{len(state.data)}")
            self.send_header("Content-Length", str(len(state.data) - begin))
            self.end_headers()
            limit = state.break_after.pop(0) if state.break_after else len(state.data)
            self.wfile.write(state.data[begin : begin + limit])
            self.wfile.flush()
            if state.silent:
                state.released.wait(20)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Mirror(f"http://127.0.0.1:{server.server_port}/v0")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield state
    state.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


Fetch = Callable[..., Path]


@pytest.fixture
def get(mirror: Mirror, tmp_path: Path) -> Fetch:
    """Calls `fetch` without pauses between attempts; `get.waits` has the pauses, `get.said` the
    console output."""

    def call(
        url: str | None = None, release: Release = RELEASE, path: Path | None = None, policy: RetryPolicy = POLICY
    ) -> Path:
        target = path or tmp_path / "cache" / release.file
        return fetch(release, target, url or mirror.url, policy, call.waits.append, Terminal(file=call.said))  # type: ignore[attr-defined]

    call.waits, call.said = [], StringIO()  # type: ignore[attr-defined]
    return call


def leftovers(tmp_path: Path) -> list[str]:
    return sorted(file.name for file in (tmp_path / "cache").iterdir())


def test_fetches_and_speaks_of_the_licence(get: Any, tmp_path: Path) -> None:
    assert get().read_bytes() == DATA
    assert leftovers(tmp_path) == ["weights.th"]
    assert "licence is not stated clearly" in " ".join(get.said.getvalue().split())


def test_goes_on_after_it_broke_off(get: Any, mirror: Mirror) -> None:
    mirror.break_after = [100_000, 70_000]
    assert get().read_bytes() == DATA
    assert mirror.asked == [None, "bytes=100000-", "bytes=170000-"]
    assert get.waits == [0.5, 1.0]


def test_goes_on_in_a_later_run(get: Any, mirror: Mirror, tmp_path: Path) -> None:
    mirror.break_after = [1000, 1000, 1000]
    with pytest.raises(DownloadError, match=r"3 attempts: .* Try again \(it goes on where it stopped\)"):
        get()
    assert leftovers(tmp_path) == ["weights.th.part"]
    assert get().read_bytes() == DATA
    assert mirror.asked[-1] == "bytes=3000-"


def test_starts_over_where_the_server_ignores_ranges(get: Any, mirror: Mirror) -> None:
    mirror.break_after, mirror.ranges = [100_000], False
    assert get().read_bytes() == DATA


def test_starts_over_where_what_was_kept_is_of_another_file(get: Any, mirror: Mirror, tmp_path: Path) -> None:
    part = tmp_path / "cache" / "weights.th.part"
    part.parent.mkdir()
    for kept in (b"x" * 5000, b"x" * len(DATA), b"x" * (len(DATA) + 1)):
        part.write_bytes(kept)
        assert get().read_bytes() == DATA
        (tmp_path / "cache" / "weights.th").unlink()
    mirror.data = DATA[:2000]
    part.write_bytes(b"x" * 5000)
    with pytest.raises(DownloadError, match="cannot go on where"):
        get()


def test_wrong_content_is_deleted(get: Any, mirror: Mirror, tmp_path: Path) -> None:
    mirror.data = b"y" + DATA[1:]
    with pytest.raises(DownloadError, match=r"sha256 is \w+, not \w+. It was deleted"):
        get()
    assert leftovers(tmp_path) == []
    mirror.data = DATA + b"more"
    with pytest.raises(DownloadError, match="longer than 300000 bytes"):
        get()


@pytest.mark.parametrize("status", [403, 404])
def test_refusal_is_final(get: Any, mirror: Mirror, status: int) -> None:
    mirror.status = [status]
    with pytest.raises(DownloadError, match=rf"answered {status} .*Set EARSHOT_WEIGHTS_URL"):
        get()
    assert len(mirror.asked) == 1


def test_busy_server_is_asked_again(get: Any, mirror: Mirror) -> None:
    mirror.status = [503, 429]
    assert get().read_bytes() == DATA


def test_silent_server(get: Any, mirror: Mirror) -> None:
    mirror.silent, mirror.break_after = True, [1000, 1000, 1000]
    with pytest.raises(DownloadError, match="does not answer, or went silent"):
        get(policy=replace(POLICY, silence_s=2.0))
    assert mirror.asked == [None, "bytes=1000-", "bytes=2000-"]


def test_no_network(get: Any, mirror: Mirror) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(DownloadError, match="no connection"):
            get(f"http://127.0.0.1:{closed.getsockname()[1]}/")
    with pytest.raises(DownloadError, match="Is EARSHOT_WEIGHTS_URL right"):
        get("ftp://127.0.0.1/")


def test_no_place_to_write(get: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match=r"cannot be written: .*XDG_CACHE_HOME"):
        get(path=tmp_path / "file" / "weights.th")
    (tmp_path / "weights.th.part").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match="cannot be written: No space left on device"):
        get(path=tmp_path / "weights.th")


def test_load_fetches_once_and_repairs_its_cache(
    mirror: Mirror,
    random_encodec: Callable[..., Any],
    save_official: Callable[[Any, Path], Path],
    speech: Pcm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Calls `codec.load("encodec_24khz")`, with a small random file in place of the official
    one."""
    file = save_official(random_encodec(n_filters=4, n_q=2, seed=9), tmp_path)
    mirror.data = file.read_bytes()
    release = Release(file.name, len(mirror.data), hashlib.sha256(mirror.data).hexdigest())
    monkeypatch.setitem(download.CODECS, "encodec_24khz", release)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(download.URL_VARIABLE, mirror.url)
    expected = codec.load(str(file)).encode(speech[:9000], 1.5)
    for _ in range(2):
        np.testing.assert_array_equal(codec.load("encodec_24khz").encode(speech[:9000], 1.5), expected)
    assert len(mirror.asked) == 1
    (tmp_path / "home" / "earshot" / file.name).write_bytes(mirror.data[:-1])
    codec.load("encodec_24khz")
    assert len(mirror.asked) == 2
    assert "damaged and is fetched again" in caplog.text


def test_the_stereo_model_has_a_name_too(
    mirror: Mirror,
    encodec: ModuleType,
    save_official: Callable[[Any, Path], Path],
    speech: Pcm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the weights cannot be fetched, the message says where to put them; from then on commands
    take the name."""
    music = make_music(speech)[:, :60_000]
    file = save_official(official_stereo(encodec, 4, music), tmp_path)
    known = download.CODECS["encodec_48khz"]
    assert known.file.removesuffix(".th").endswith(known.sha256)
    monkeypatch.setitem(download.CODECS, "encodec_48khz", Release(file.name, None, file.stem[-8:]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(download.URL_VARIABLE, mirror.url)
    place, heard, coded = tmp_path / "home" / "earshot" / file.name, tmp_path / "heard.flac", tmp_path / "song.ecdc"
    soundfile.write(tmp_path / "song.wav", music.T, 48_000, "FLOAT")
    encode = ["encode", str(tmp_path / "song.wav"), str(coded), "--model", "encodec_48khz"]
    mirror.status = [404]
    with pytest.raises(DownloadError, match=f"answered 404 .*put it at {place} yourself"):
        CliRunner().invoke(app, encode, catch_exceptions=False)
    place.write_bytes(file.read_bytes())
    CliRunner().invoke(app, encode, catch_exceptions=False)
    CliRunner().invoke(app, ["decode", str(coded), str(heard), "--model", "encodec_48khz"], catch_exceptions=False)
    model = codec.load(str(file))
    expected = model.decode_windows(model.encode_windows(music, 6.0))[:, : music.shape[1]]
    np.testing.assert_allclose(soundfile.read(heard)[0].T, np.clip(expected, -1, 1), rtol=0, atol=1e-4)
    assert len(mirror.asked) == 1
