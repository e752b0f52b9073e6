"""What the application refuses to serve, and whether it says that it is well."""

from __future__ import annotations

import json
import urllib.error
from dataclasses import replace
from typing import Any

import pytest

from earshot.codec.engine.native.engine import NativeEngine
from earshot.codec.engine.torch.engine import TorchEngine
from earshot.codec.errors import EngineFull, UsageError
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from earshot.server.app import create_app, engine_factory
from earshot.server.settings import Settings
from tests.peers import TINY, running_server, tiny_model, until


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codebook_size": 512}, "codes of 10 bits; tiny has codebooks of 512"),
        ({"codebook_size": 2048}, "codes of 10 bits; tiny has codebooks of 2048"),
        ({"n_codebooks": 33}, "at most 32 codebooks; tiny has 33"),
        ({"channels": 2}, "tiny has no stream of frames"),
        ({"causal": False}, "tiny has no stream of frames"),
    ],
)
def test_a_model_whose_codes_do_not_fit_into_packets_is_refused(change: dict[str, Any], said: str) -> None:
    model = Model(Encodec(replace(TINY, **change)))
    with pytest.raises(UsageError, match=said):
        create_app(model)


def test_the_engine_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    for name, engine in (("torch", TorchEngine), ("native", NativeEngine)):
        assert isinstance(engine_factory(model, Settings(engine=name))(), engine)
    monkeypatch.setenv("EARSHOT_ENGINE", "cuda")
    assert (Settings().worker_count, Settings(workers=3).worker_count) == (1, 3), "one for a GPU"
    for settings, said in (
        (Settings(engine="steam"), "choose one of"),
        (Settings(workers=2), "one worker"),
        (Settings(engine="torch", precision="bf16"), "precision"),
        (Settings(precision="fp8"), "fp32, bf16, fp16"),
    ):
        with pytest.raises(UsageError, match=said):
            create_app(model, settings)


async def test_a_server_whose_codec_worker_has_died_is_not_healthy(caplog: pytest.LogCaptureFixture) -> None:
    with running_server(tiny_model()) as server:
        assert server.get("/healthz") == {"status": "ok"}
        session = server.hub.pool.open("encoder", lambda result: None)
        session.slot = 10_000  # none that the engine knows, so closing it is a fault outside any step
        session.close()
        await until(lambda: not server.hub.pool.alive)
        with pytest.raises(urllib.error.HTTPError) as refusal:
            server.get("/healthz")
        assert refusal.value.code == 503
        assert json.load(refusal.value) == {"status": "a codec worker has ended"}
        refusal.value.close()
        with pytest.raises(EngineFull):
            server.hub.pool.open("encoder", lambda result: None)
    assert "a codec worker has ended" in caplog.text
