"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Kbps = Annotated[float, typer.Option(help="Codec rate: 1.5, 3, 6 or 12.")]
Model = Annotated[str, typer.Option(help="default, encodec_24khz or a path.")]
TlsFingerprint = Annotated[
    str | None,
    typer.Option(
        envvar="EARSHOT_TLS_FINGERPRINT", help="The server's certificate, where it made one: `serve` shows it."
    ),
]
