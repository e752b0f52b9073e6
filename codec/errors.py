"""Every error that Earshot raises on purpose, in one tree that says who is to blame.

Local misuse is a `UsageError`, a model that cannot be had or trusted is a `ModelError`, and bytes
from elsewhere that nothing could have written are a `DataError`. What a remote peer does wrong is a
`ProtocolError` (protocol/close_codes.py). Anything else that escapes is a bug."""

from __future__ import annotations


class EarshotError(Exception):
    """Base of all errors below. The message is one that a user can act on."""


class UsageError(EarshotError, ValueError):
    """An argument of a call in this process is wrong."""


class AudioError(EarshotError):
    """A sound device or an audio file cannot be opened or has failed."""


class DataError(EarshotError):
    """Bytes that came from elsewhere are malformed."""


class ModelError(EarshotError):
    """A model is unknown, unsupported, or not what it should be."""


class WeightsError(ModelError):
    """A weight file is missing, truncated, tampered with, or of another shape than its model."""


class DownloadError(ModelError):
    """Weights could not be fetched."""


class TrainingError(EarshotError):
    """A training run did not do what it must."""


class EngineFull(EarshotError):  # noqa: N818 -- a condition to handle, as queue.Full is
    """An engine has no slot left."""


class CallError(EarshotError):
    """A server refused or ended a call. `code` is the WebSocket close code, None where there was
    none."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
