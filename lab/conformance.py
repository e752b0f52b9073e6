"""The server's WebSocket under Autobahn's test suite (CONTRIBUTING.md).

    python -m earshot.lab.conformance --wstest 'python2.7 wstest'

The suite (PyPI: autobahntestsuite) runs on Python 2.7 only, and wants whatever it sends to come
back. So it does not meet rooms here, but an echo on the same transport, with the same limits. Its
cases 9 are left out, which send up to 16 MB at once, and 12 and 13, about compression, which the
server does not offer."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from earshot.codec.errors import EarshotError
from earshot.server.net.serve import bind
from earshot.server.net.transport.server import Server
from earshot.server.settings import Settings

GOOD = ("OK", "NON-STRICT", "INFORMATIONAL", "FAILED BY CLIENT")
"""What the suite says of a case that has not failed. The last it calls "almost", and says it of
closes alone: the suite hung up first, where the server might have."""
CASES = ["[1-8].*", "10.*"]
START_S = 30.0
CLOSE_TIMEOUT_S = 1.0
"""The suite waits a second for a server to hang up, and a server waits half of this."""


async def echo(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """Sends back what comes, as an ASGI application."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        kept = {key: event[key] for key in ("text", "bytes") if event.get(key) is not None}
        await send({"type": "websocket.send"} | kept)


def run(wstest: list[str], cases: list[str]) -> dict[str, str]:
    """Returns what the suite says of each case. Raises EarshotError if it does not run."""
    settings = Settings(close_timeout_s=CLOSE_TIMEOUT_S)
    ready = threading.Event()
    ports: list[int] = []

    async def nothing() -> None: ...

    def at(port: int) -> None:
        ports.append(port)
        ready.set()

    server = Server(echo, settings, nothing, at)
    thread = threading.Thread(target=server.run, args=[[bind("127.0.0.1", 0)]], daemon=True)
    thread.start()
    if not ready.wait(START_S):
        raise EarshotError("the server did not start")
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            agent = {"agent": "earshot", "url": f"ws://127.0.0.1:{ports[0]}"}
            spec = {"outdir": str(folder / "out"), "servers": [agent], "cases": cases, "exclude-cases": []}
            (folder / "spec.json").write_text(json.dumps(spec), "utf-8")
            command = [*wstest, "-m", "fuzzingclient", "-s", str(folder / "spec.json")]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            index = folder / "out" / "index.json"
            if not index.exists():
                raise EarshotError(f"the suite did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
            found = json.loads(index.read_text("utf-8"))["earshot"]
    finally:
        server.should_exit = True
        thread.join(START_S)
    return {case: f"{each['behavior']}/{each['behaviorClose']}" for case, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m earshot.lab.conformance", description=__doc__)
    parser.add_argument("--wstest", required=True, help="how the suite is called")
    parser.add_argument("--cases", nargs="*", default=CASES)
    given = parser.parse_args()
    found = run(shlex.split(given.wstest), given.cases)
    failed = {case: said for case, said in found.items() if set(said.split("/")) - set(GOOD)}
    behaviours, closes = (Counter(said.split("/")[part] for said in found.values()) for part in (0, 1))
    print(json.dumps({"cases": len(found), "said": behaviours, "closes": closes, "failed": failed}, indent=1))
    sys.exit(bool(failed) or not found)


if __name__ == "__main__":
    main()
