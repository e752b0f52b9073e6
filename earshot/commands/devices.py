"""The command `earshot devices`; imports the rest when it runs."""

from __future__ import annotations

from earshot.codec.terminal import Terminal

console = Terminal()


def devices() -> None:
    """List the microphones and loudspeakers of this machine, for `earshot call`.

    \b
    earshot devices
    earshot call den --input 3 --output headset   by number, or part of a name
    """
    from rich.table import Table

    from earshot.client.audio.portaudio import list_devices
    from earshot.codec.errors import AudioError

    found = list_devices()
    if not found:
        raise AudioError("this machine has no sound device; `earshot call` takes files as --input and --output too")
    table = Table("", "device", "system", "in", "out", "Hz")
    for device in found:
        default = " ".join(word for word, yes in [("in", device.default_input), ("out", device.default_output)] if yes)
        table.add_row(
            str(device.index),
            device.name + (f" (default {default})" if default else ""),
            device.host_api,
            str(device.inputs or ""),
            str(device.outputs or ""),
            f"{device.rate:g}",
        )
    console.print(table)
    console.print("Choose by number or by part of the name: earshot call ROOM --input 3 --output headset")
