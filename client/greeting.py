"""What a call tells the server of itself: its hello, and how well it hears."""

from __future__ import annotations

from typing import Literal

from earshot.client.core.receiver import Receiver
from earshot.client.models import CallModels
from earshot.client.settings import CallSettings, Pace
from earshot.protocol.messages import PROTOCOL, Hello, Report


def make_hello(
    settings: CallSettings,
    models: CallModels,
    sends: Literal["pcm", "codes", "none"],
    kbps: float,
    max_kbps: float,
    pace: Pace,
    listens: bool,
    entropy: str | None,
    secret: str,
) -> Hello:
    """Returns the hello of a new connection. `kbps` is the rate of what is said now, `max_kbps`
    the most that is taken of each speaker, `entropy` the digest of the language model with which
    packets may be coded, and `secret` that of the seat that this client had, "" if none."""
    spoken = models.spoken
    return Hello(
        protocol=PROTOCOL,
        name=settings.name,
        model=models.talk.digest if models.talk and (listens or not spoken) else None,
        send=sends,
        want="codes" if listens else "none",
        send_kbps=kbps,
        max_kbps=max_kbps,
        trace=True,
        send_model=spoken if sends != "none" else None,
        also=list(models.windows) if listens else [],
        entropy=[entropy] if entropy else [],
        token=settings.token,
        short_headers=True,
        silence=True,
        frames=pace.frames,
        stats_every_s=pace.stats_every_s,
        resume=secret,
    )


def make_report(receiver: Receiver) -> Report:
    """Returns what the server is told of how well this client hears."""
    figures = receiver.stats().values()
    return Report(
        playout_delay_ms=round(max((each.playout_delay_ms for each in figures), default=0.0), 1),
        underruns=sum(each.underruns for each in figures),
        frames_played=sum(each.frames_played for each in figures),
        frames_missing=sum(each.frames_missing for each in figures),
    )
