"""Every error that Earshot raises on purpose, in one tree.

A `UsageError` is a mistake of the caller in this process, a `ModelError` is a model that cannot be
loaded or trusted, and a `DataError` is malformed bytes from elsewhere. A `ProtocolError`
(protocol/close_codes.py) is a mistake of a remote peer. Any other exception that escapes is a
bug."""

from __future__ import annotations


class EarshotError(Exception):
    """Base of all errors below. Its message tells a user what to do."""


class UsageError(EarshotError, ValueError):
    """An argument of a call in this process is wrong."""


class AudioError(EarshotError):
    """A sound device or an audio file cannot be opened or has failed."""


class DataError(EarshotError):
    """Bytes that came from elsewhere are malformed."""


class ModelError(EarshotError):
    """A model is unknown, unsupported, or not what it should be."""


class WeightsError(ModelError):
    """A weight file is missing, truncated, tampered with, or does not have the shape of its
    model."""


class DownloadError(ModelError):
    """Weights could not be fetched."""


class TrainingError(EarshotError):
    """A training run failed, or missed what it must reach."""


class EngineFull(EarshotError):  # noqa: N818 -- a condition to handle, as queue.Full is
    """An engine has no slot left."""


class CallError(EarshotError):
    """A server refused or ended a call. `code` is the WebSocket close code, or None if there was
    none."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
