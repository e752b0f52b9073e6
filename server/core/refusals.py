"""The reasons for which a connection is closed that do not lie in one message. What one message
says wrong is refused where it is read (protocol/, uplink.py, room.py, net/transport/)."""

from __future__ import annotations

from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import SUBPROTOCOL

# Before a client is in a room


def shutting_down() -> ProtocolError:
    return ProtocolError("this server shuts down", CloseCode.SHUTTING_DOWN)


def draining() -> ProtocolError:
    return ProtocolError("this server ends soon and takes no new rooms", CloseCode.SHUTTING_DOWN)


def too_many_connections() -> ProtocolError:
    return ProtocolError("this server has too many connections", CloseCode.TOO_MANY_CONNECTIONS)


def too_many_of_address() -> ProtocolError:
    return ProtocolError("too many connections from your address", CloseCode.TOO_MANY_CONNECTIONS)


def too_many_joins() -> ProtocolError:
    return ProtocolError("too many from your address came in just now", CloseCode.TOO_MANY_CONNECTIONS)


def wrong_subprotocol() -> ProtocolError:
    return ProtocolError(f"the subprotocol must be {SUBPROTOCOL}", CloseCode.UNSUPPORTED_VERSION)


def bad_room_name() -> ProtocolError:
    return ProtocolError("a room name is 1 to 64 of A-Z a-z 0-9 _ -", CloseCode.BAD_ROOM)


def no_hello(timeout_s: float) -> ProtocolError:
    return ProtocolError(f"no hello within {timeout_s:g} s", CloseCode.HELLO_EXPECTED)


def before_hello(what: str) -> ProtocolError:
    return ProtocolError(f"{what} came before hello", CloseCode.HELLO_EXPECTED)


def too_many_rooms() -> ProtocolError:
    return ProtocolError("this server has too many rooms", CloseCode.TOO_MANY_ROOMS)


def too_many_rooms_of_address() -> ProtocolError:
    return ProtocolError("too many rooms of your address", CloseCode.TOO_MANY_ROOMS)


def no_time_for_another() -> ProtocolError:
    return ProtocolError(
        "this server is busy: one more would make those who talk late; try again later, or send and take "
        "codes (--uplink codes)",
        CloseCode.OVERLOADED,
    )


def share_is_taken(speakers: int) -> ProtocolError:
    return ProtocolError(
        f"{speakers} speakers from your address are its share of this server; send codes (--uplink codes)",
        CloseCode.OVERLOADED,
    )


def no_memory(reason: str) -> ProtocolError:
    return ProtocolError(reason, CloseCode.OVERLOADED)


# Who may enter


def no_token() -> ProtocolError:
    return ProtocolError(
        "only those who were invited come in here: ask for a link, or give its token (--token)", CloseCode.NOT_INVITED
    )


def bad_token(why: str) -> ProtocolError:
    return ProtocolError(f"this token does not count here: {why}", CloseCode.NOT_INVITED)


def token_expired() -> ProtocolError:
    return ProtocolError("this token has expired: ask for another", CloseCode.TOKEN_EXPIRED)


def another_room(room: str) -> ProtocolError:
    return ProtocolError(f"this token is not for the room {room}", CloseCode.ANOTHER_ROOM)


def not_granted(what: str, instead: str = "") -> ProtocolError:
    return ProtocolError(
        f"this token does not allow to {what}" + (f": {instead}" if instead else ""), CloseCode.NOT_GRANTED
    )


def came_back() -> ProtocolError:
    return ProtocolError("you came back by another connection", CloseCode.CAME_BACK)


def removed_by(name: str) -> ProtocolError:
    return ProtocolError(f"removed from this room by {name or 'a moderator'}", CloseCode.REMOVED)


def was_removed() -> ProtocolError:
    return ProtocolError("removed from this room by a moderator", CloseCode.REMOVED)


def room_locked(room: str) -> ProtocolError:
    return ProtocolError(f"room {room} is locked: ask a moderator to open it", CloseCode.ROOM_LOCKED)


# What a client sends


def too_many_messages(a_second: float) -> ProtocolError:
    return ProtocolError(f"more than {a_second:g} messages a second", CloseCode.TOO_MANY_MESSAGES)


def too_many_controls(a_second: float) -> ProtocolError:
    return ProtocolError(f"more than {a_second:g} control messages a second", CloseCode.TOO_MANY_MESSAGES)


def too_big(size: int, most: int) -> ProtocolError:
    return ProtocolError(f"message of {size} bytes: at most {most}", CloseCode.MESSAGE_TOO_BIG)


def second_hello() -> ProtocolError:
    return ProtocolError("a second hello", CloseCode.HELLO_EXPECTED)


def wrong_kind(came: str, said: str) -> ProtocolError:
    return ProtocolError(f"{came} came from a client that said it would send {said}")


def coded_without_model() -> ProtocolError:
    return ProtocolError("an entropy-coded packet came, and welcome names no language model")


# What a client cannot get


def too_slow() -> ProtocolError:
    return ProtocolError("you read too slowly: try a lower max_kbps", CloseCode.TOO_SLOW)


def no_time_for_rate(kbps: float) -> ProtocolError:
    return ProtocolError(
        f"this server is busy: to decode at {kbps:g} kbps for you too would make others late; come "
        "back at the rate you had, or take codes",
        CloseCode.OVERLOADED,
    )


def no_decoder() -> ProtocolError:
    return ProtocolError("this server cannot decode another speaker for you", CloseCode.OVERLOADED)


def encoder_failed() -> ProtocolError:
    return ProtocolError("the encoder failed", CloseCode.INTERNAL_ERROR)


def internal_error() -> ProtocolError:
    return ProtocolError("internal error of the server", CloseCode.INTERNAL_ERROR)
