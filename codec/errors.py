"""Every error that Earshot raises on purpose, in one tree that says who is to blame.

Local misuse is a `UsageError`, a model that cannot be had or trusted is a `ModelError`, bytes that
a remote peer should not have sent are a `ProtocolError`. Anything else that escapes is a bug."""

from __future__ import annotations

from enum import IntEnum


class EarshotError(Exception):
    """Base of all errors below. The message is one that a user can act on."""


class UsageError(EarshotError, ValueError):
    """An argument of a call in this process is wrong."""


class AudioError(EarshotError):
    """A sound device or an audio file cannot be opened or has failed."""


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


class CloseCode(IntEnum):
    """WebSocket close codes of the protocol (RFC 6455 section 7.4.2: 4000-4999 are for private
    use)."""

    MALFORMED = 4000
    UNSUPPORTED_VERSION = 4001
    MODEL_MISMATCH = 4002
    HELLO_EXPECTED = 4003
    MESSAGE_TOO_BIG = 4004
    TOO_MANY_MESSAGES = 4005
    FASTER_THAN_REAL_TIME = 4006
    ROOM_FULL = 4007
    TOO_MANY_ROOMS = 4008
    TOO_SLOW = 4009
    SHUTTING_DOWN = 4010
    TOO_MANY_CONNECTIONS = 4011
    BAD_ROOM = 4012
    OVERLOADED = 4013
    INTERNAL_ERROR = 4014


class ProtocolError(EarshotError):
    """A remote peer sent what docs/protocol.md does not allow. `code` is what its connection is
    closed with."""

    def __init__(self, message: str, code: CloseCode = CloseCode.MALFORMED) -> None:
        super().__init__(message)
        self.code = code
