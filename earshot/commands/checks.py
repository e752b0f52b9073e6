"""What commands check before they load a model, which takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from earshot.codec.errors import AudioError, UsageError


def check_call(
    server: str,
    room: str,
    model: str,
    also: Sequence[str],
    kbps: float,
    max_kbps: float,
    source: Path | None,
    loop: bool,
    lm_model: Path | None,
) -> None:
    """Raises EarshotError for a call that cannot be: no address, no room, no such model, rate or
    file."""
    from earshot.client.net.websocket import room_url
    from earshot.codec.audio_reader import AudioReader
    from earshot.codec.weights.shape import shape_of

    for each in server.split(","):
        room_url(each, room)
    mine, others = shape_of(model), [shape_of(name) for name in also]
    if mine is not None:
        mine.n_q(kbps)
        # Music is heard beside the room's model, which is loaded for those who talk.
        if not others and mine.window_length is None:
            mine.n_q(max_kbps)
    if source is not None:
        AudioReader(source).close()
    elif loop:
        raise AudioError("only a file can be played in a loop")
    check_file(lm_model)


def check_file(file: Path | None, what: str = "language model") -> None:
    """Raises UsageError for a file that is named and is not there."""
    if file is not None and not file.exists():
        raise UsageError(f"there is no {what} {file}")


def check_address(host: str, *ports: int | None) -> None:
    """Raises UsageError for an address that cannot be listened on."""
    from earshot.server.net.serve import bind

    given = [port for port in ports if port]
    if len(set(given)) < len(given):
        raise UsageError(f"port {given[0]} is named twice")
    for port in given:
        bind(host, port).close()
