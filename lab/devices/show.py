"""Shows the delay between two sound devices: `earshot latency --devices`."""

from __future__ import annotations

from rich.table import Table

from earshot.client.core.latency import STAGES
from earshot.codec.errors import EarshotError
from earshot.codec.terminal import Terminal
from earshot.lab.devices.latency import DeviceDelay, measure

POINTS = (50, 95, 99)


def measure_devices(console: Terminal, seconds: float, kbps: float, latency: str, model: str) -> None:
    """Measures and prints a table. Raises EarshotError where less than half came out of the
    loudspeaker."""
    found = measure(seconds, kbps, latency, model, console.say)
    if not found.pieces or len(found.pieces_ms) < found.pieces / 2:
        raise EarshotError(f"of {found.pieces} pieces of speech only {len(found.pieces_ms)} were heard")
    console.print(table(found, latency))
    console.say(f"{len(found.pieces_ms)} of {found.pieces} pieces of speech were heard, {found.underruns} underruns")


def table(found: DeviceDelay, latency: str) -> Table:
    """Returns the percentiles of each stage, of what the call knows, and of what was recorded."""
    made = Table("", *(f"p{point} ms" for point in POINTS), title=f"from device to device, --latency {latency}")
    for column in made.columns[1:]:
        column.justify = "right"
    for stage in STAGES:
        made.add_row(stage, *_cells(found.stages_ms[stage]))
    made.add_section()
    made.add_row("mouth to ear, as the call knows it", *_cells(found.mouth_to_ear_ms))
    heard = [f"{value:.1f}" for point in POINTS if (value := found.percentile(point)) is not None]
    made.add_row("from device to device, by sound", *heard, style="bold")
    return made


def _cells(values: dict[str, float] | None) -> list[str]:
    return ["-" if values is None else f"{values[f'p{point}']:.1f}" for point in POINTS]
