"""A client gets the weights that it lacks from its server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from earshot import codec
from earshot.client.net import weights
from earshot.client.net.weights import fetched, server_model
from earshot.codec.errors import CallError, DownloadError
from earshot.codec.terminal import Terminal
from earshot.codec.weights.download import cache_folder
from tests.peers import PATIENCE_S, running_server, tiny_model
from tests.server.access.test_paths import SECRET, token


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_weights_are_fetched_once_and_are_those_of_the_server() -> None:
    with running_server(tiny_model(), token_key=SECRET, weights_mb_per_second=1000.0) as server:
        with pytest.raises(CallError, match="only those who were invited"):
            server_model(server.url, None)
        model = server_model(server.url, token())
        assert model is not None
        said = StringIO()
        path = fetched(server.url, model, token(), console=Terminal(file=said))
        assert "speaks the model tiny, which you lack" in " ".join(said.getvalue().split())
        assert codec.load(str(path)).digest == model.digest == server.model.digest
        assert fetched("ws://127.0.0.1:1", model, None) == path, "it is kept"
        with pytest.raises(DownloadError, match="ask whoever runs the server"):
            fetched(server.url, model.model_copy(update={"weights": _other(model)}), token())
    assert server_model("ws://127.0.0.1:1", None) is None


def _other(model: weights.ServerModel) -> weights._File:
    return model.weights.model_copy(update={"sha256": "0" * 64})


def test_only_the_files_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cache_folder() / "servers"
    folder.mkdir(parents=True)
    for number in range(weights.KEPT + 3):
        path = folder / f"{number:064x}.safetensors"
        path.write_bytes(b"")
        os.utime(path, (number, number))
    with running_server(tiny_model(), weights_mb_per_second=1000.0) as server:
        model = server_model(server.url, None)
        assert model is not None
        path = fetched(server.url, model, None, console=Terminal(file=StringIO()))
    kept = {file.name for file in folder.iterdir()}
    assert path.name in kept
    assert len(kept) == weights.KEPT
    assert f"{0:064x}.safetensors" not in kept


@pytest.mark.parametrize(
    "change",
    [{"sha256": "../" * 21 + "x"}, {"sha256": "A" * 64}, {"bytes": 0}, {"bytes": 1 << 40}],
    ids=["path", "capitals", "empty", "huge"],
)
def test_what_a_server_says_of_its_weights_is_checked(change: dict[str, object]) -> None:
    file = {"bytes": 10, "sha256": "0" * 64} | change
    with pytest.raises(ValueError, match="validation error"):
        weights.ServerModel.model_validate_json(json.dumps({"name": "x", "digest": "y", "weights": file}))


def test_a_call_to_a_server_with_another_model(tmp_path: Path) -> None:
    with running_server(tiny_model(), weights_mb_per_second=1000.0) as server:
        command = [sys.executable, "-m", "earshot", "call", "den", "--server", server.url, "--seconds", "0.5"]
        command += ["--input", "none", "--output", "none", "--status-json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=3 * PATIENCE_S, check=False)
        assert done.returncode == 0, done.stderr
        assert "speaks the model tiny" in " ".join(done.stderr.split())
        assert list((tmp_path / "earshot" / "servers").glob("*.safetensors"))
