"""Calls over bad networks, beside WebRTC on the same ones: `make netlab`.

python -m earshot.lab.netlab
python -m earshot.lab.netlab --only lan,thin --seconds 20 --json figures.json"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from earshot.client.settings import LATENCIES
from earshot.codec.errors import UsageError
from earshot.codec.terminal import Terminal
from earshot.lab.netlab.figures import Figures
from earshot.lab.netlab.link import why_not
from earshot.lab.netlab.profiles import PROFILES
from earshot.lab.netlab.report import draw, table
from earshot.lab.netlab.run import Plan, earshot, webrtc, why_no_webrtc
from earshot.lab.start import start


def main(
    only: Annotated[str, typer.Option(help="Profiles, with commas between; all if not given.")] = "",
    seconds: Annotated[float, typer.Option(min=5, max=600, help="Speech in each call.")] = 60.0,
    latency: Annotated[str, typer.Option(help="low, balanced or thrift; what each profile says if not given.")] = "",
    model: Annotated[str, typer.Option(help="default or a path.")] = "default",
    json_: Annotated[
        Path | None, typer.Option("--json", help="Keep the figures in this file, beside those of other profiles there.")
    ] = None,
    arrivals: Annotated[
        Path | None, typer.Option(help="Write down in this folder when each packet came (`earshot arrivals`).")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw them to this PNG.")] = None,
    draw_only: Annotated[bool, typer.Option("--draw-only", help="Measure nothing; show what --json has.")] = False,
) -> None:
    """Let one client hear another over bad networks, by Earshot and by WebRTC at the same time."""
    console = Terminal()
    keys = [profile.key for profile in PROFILES]
    names = [name.strip() for name in only.split(",") if name.strip()] or keys
    if unknown := [name for name in names if name not in keys]:
        raise UsageError(f"there is no profile {unknown[0]!r}: {', '.join(keys)}")
    if latency and latency not in LATENCIES:
        raise UsageError(f"there is no latency {latency!r}: {', '.join(LATENCIES)}")
    rows: dict[tuple[str, str], Figures] = {}
    if json_ is not None and json_.exists():
        for each in json.loads(json_.read_text("utf-8")):
            rows[each["system"], each["profile"]] = Figures(**each)
    if not draw_only:
        if (reason := why_not()) is not None:
            console.say(f"skipped: {reason}")
            return
        if (missing := why_no_webrtc()) is not None:
            console.say(f"without WebRTC: {missing}")
        plan = Plan(seconds, model, latency, arrivals)
        systems = (earshot,) if missing else (earshot, webrtc)
        for profile in (profile for profile in PROFILES if profile.key in names):
            console.print(profile.label, style="dim")
            with ThreadPoolExecutor() as both:
                calls = [both.submit(system, profile, plan) for system in systems]
            for found in (call.result().figures() for call in calls):
                rows[found.system, found.profile] = found
            if json_ is not None:
                json_.write_text(json.dumps([row.to_json() for row in rows.values()], indent=1) + "\n", "utf-8")
    for line in table(list(rows.values())).splitlines():
        console.say(line)
    if picture is not None:
        draw(list(rows.values()), picture)


if __name__ == "__main__":
    start(main)
