"""Says why a connection is closed: the codes of docs/protocol.md, and the error that carries
one."""

from __future__ import annotations

from enum import IntEnum

from earshot.codec.errors import EarshotError


class CloseCode(IntEnum):
    """The WebSocket close codes of the protocol. RFC 6455, section 7.4.2, leaves 4000-4999 to
    private use."""

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
    NOT_INVITED = 4015
    TOKEN_EXPIRED = 4016
    ANOTHER_ROOM = 4017
    NOT_GRANTED = 4018
    REMOVED = 4019
    ROOM_LOCKED = 4020
    CAME_BACK = 4021


class ProtocolError(EarshotError):
    """Says that a remote peer sent what docs/protocol.md does not allow. `code` is the close code
    for its connection."""

    def __init__(self, message: str, code: CloseCode = CloseCode.MALFORMED) -> None:
        super().__init__(message)
        self.code = code
