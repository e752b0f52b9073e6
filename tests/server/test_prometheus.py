"""A real Prometheus scrapes a server in a call, and knows all that the dashboard asks it for."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from earshot.server.settings import Settings
from tests.peers import PATIENCE_S, join, running_server, tiny_model, until

DOCKER = Path(__file__).parents[2] / "docker"
DASHBOARD = json.loads((DOCKER / "grafana" / "earshot.json").read_text("utf-8"))
QUERIES = [
    target["expr"].replace("$__rate_interval", "5s") for panel in DASHBOARD["panels"] for target in panel["targets"]
]
OF_LABELS = {"le"}
"""Labels of buckets, which are not in the documents."""


def test_compose_scrapes_the_port_that_is_not_published() -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))["services"]
    scrapes = yaml.safe_load((DOCKER / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    ports = {name: compose[name]["environment"]["EARSHOT_HEALTH_PORT"] for name in ("one", "two")}
    targets = scrapes[0]["static_configs"][0]["targets"]
    assert targets == [f"{name}:{port}" for name, port in ports.items()]
    assert not [name for name in (*ports, "nats") if "ports" in compose[name]]
    for service in compose.values():
        assert all(published.startswith("127.0.0.1:") for published in service.get("ports", []))
        for mounted in service.get("volumes", []):
            path = mounted.split(":")[0]
            assert not path.startswith(".") or (DOCKER / path).is_file(), path


def test_compose_runs_two_nodes_of_one_bus_behind_a_proxy_that_asks_them_for_health() -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))["services"]
    one, two = (dict(compose[name]["environment"]) for name in ("one", "two"))
    assert {one.pop("EARSHOT_NODE"), two.pop("EARSHOT_NODE")} == {"one", "two"}
    assert one == two
    assert {name.removeprefix("EARSHOT_").lower() for name in one} - {"forwarded_allow_ips"} <= set(
        Settings.model_fields
    )
    assert one["EARSHOT_BUS"] == f"nats://nats:{compose['nats']['command'][-1]}"
    assert one["EARSHOT_DRAIN_S"] < int(compose["one"]["stop_grace_period"].removesuffix("s"))
    caddy = (DOCKER / "Caddyfile").read_text("utf-8")
    assert "reverse_proxy one:8765 two:8765" in caddy
    assert "health_uri /readyz" in caddy
    assert "[nats" in (DOCKER / "Dockerfile").read_text("utf-8")


ALARMS = re.findall(
    r"^ {4}((?:\w+\()*earshot_.+?)(?:\s{2,}#.*)?$",
    (DOCKER.parent / "docs" / "monitoring.md").read_text("utf-8"),
    re.M,
)


@pytest.mark.parametrize("query", [*QUERIES, *ALARMS])
def test_a_panel_or_an_alarm_asks_for_what_there_is(query: str, families: dict[str, set[str]]) -> None:
    named = re.findall(r"\b((?:earshot|process)_\w+)(?:\{(.*?)\})?", query)
    assert named
    grouped = {label for each in re.findall(r"by \(([\w, ]+)\)", query) for label in each.split(", ")}
    for name, selectors in named:
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        assert family in families, name
        labels = grouped - OF_LABELS | set(re.findall(r"(\w+)=~?\"", selectors))
        assert labels <= families[family], (name, labels)


@pytest.fixture(scope="module")
def families() -> dict[str, set[str]]:
    """Returns the labels of every metric of a server whom somebody was refused by, by its name."""
    with running_server(tiny_model(), health_port=0) as server:
        url = server.url.replace("ws", "http", 1)
        assert httpx.get(url, headers={"Origin": "https://evil.example"}).status_code == 403
        text = httpx.get(f"{url}/metrics").text
    found = {name: set[str]() for name in re.findall(r"^# TYPE (\w+) ", text, re.M)}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name if sample.name in found else family.name
            found[name] |= set(sample.labels) - OF_LABELS
    return found


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="there is no prometheus here (apt install prometheus)")
async def test_prometheus_scrapes_a_server(tmp_path: Path) -> None:
    patient = {"ready_max_lag": 1.0}  # a busy machine makes the event loop late, which is not what is tested
    with running_server(tiny_model(), health_port=0, **patient) as server:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = yaml.safe_load((DOCKER / "prometheus.yml").read_text("utf-8"))
        settings["global"]["scrape_interval"] = settings["global"]["scrape_timeout"] = "1s"
        settings["scrape_configs"][0]["static_configs"][0]["targets"] = [urlsplit(server.health_url or "").netloc]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(settings))
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        )
        try:
            await _call_and_ask(server, f"http://127.0.0.1:{port}/api/v1/query")
        finally:
            process.terminate()
            await process.wait()


async def _refuse(server: Any) -> None:
    """Refuses somebody now and then, so that the panels of refusals have something to show."""
    url = server.url.replace("ws", "http", 1)
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        while True:
            await client.get(url, headers={"Origin": "https://evil.example"})
            await client.get(f"{url}/v1/rooms")
            await asyncio.sleep(0.2)


async def _call_and_ask(server: Any, url: str) -> None:
    speaker, listener = await join(server, "den"), await join(server, "den")
    pcm = await join(server, "den", send="none", want="pcm")
    talking = asyncio.create_task(speaker.talk(np.zeros((8, 10_000), np.int64)))
    refusing = asyncio.create_task(_refuse(server))
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:

        async def ask(query: str) -> list[Any]:
            try:
                answer = (await client.get(url, params={"query": query})).json()
            except (httpx.HTTPError, ValueError):
                return []  # it is still starting
            assert answer["status"] == "success", (query, answer)
            return list(answer["data"]["result"])

        async with asyncio.timeout(PATIENCE_S):
            while not await ask("rate(earshot_frames_received_total[5s]) > 50"):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        for query in [*QUERIES, *(re.sub(r" (>|==) [\d.]+$", "", alarm) for alarm in ALARMS)]:
            async with asyncio.timeout(PATIENCE_S):
                while not await ask(query):  # noqa: ASYNC110 -- a rate takes two scrapes
                    await asyncio.sleep(0.2)
        assert (await ask("earshot_ready"))[0]["value"][1] == "1"
    for task in (talking, refusing):
        task.cancel()
    await asyncio.gather(talking, refusing, return_exceptions=True)
    for peer in (speaker, listener, pcm):
        await peer.leave()
    await until(lambda: not server.hub.rooms)
