"""Where a connection can be in its course, and what may happen there: the table of session.py."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a connection is in its course."""

    HELLO = "hello"
    """The client has not said hello."""
    JOINING = "joining"
    """It has, and the rooms of this server are asked for a place."""
    JOINED = "joined"
    CLOSING = "closing"
    """It is over; what still comes is ignored."""
    CLOSED = "closed"


class Event(Enum):
    """What can happen: a method of `Session` for each."""

    ACCEPTED = "accepted"
    TEXT = "text"
    MEDIA = "media"
    TIME = "time"
    JOINED = "joined"
    ENCODED = "encoded"
    DECODED = "decoded"
    TELL = "tell"
    FAIL = "fail"
    LOST = "lost"
    CLOSED = "closed"


_IGNORED = frozenset({State.CLOSING})
_ENDS = frozenset({State.CLOSING})
_STAYS_OR_ENDS = frozenset({State.JOINED, State.CLOSING})
TABLE: dict[State, dict[Event, frozenset[State]]] = {
    State.HELLO: {
        Event.ACCEPTED: frozenset({State.HELLO, State.CLOSING}),
        Event.TEXT: frozenset({State.JOINING, State.CLOSING}),
        Event.MEDIA: _ENDS,
        Event.TIME: frozenset({State.HELLO, State.CLOSING}),
        Event.FAIL: _ENDS,
        Event.LOST: _ENDS,
    },
    State.JOINING: {
        Event.JOINED: frozenset({State.JOINED}),
        Event.TIME: frozenset({State.JOINING}),
        Event.FAIL: _ENDS,
        Event.LOST: _ENDS,
    },
    State.JOINED: {
        Event.TEXT: _STAYS_OR_ENDS,
        Event.MEDIA: _STAYS_OR_ENDS,
        Event.TIME: _STAYS_OR_ENDS,
        Event.ENCODED: _STAYS_OR_ENDS,
        Event.DECODED: frozenset({State.JOINED}),
        Event.TELL: _STAYS_OR_ENDS,
        Event.FAIL: _ENDS,
        Event.LOST: _ENDS,
    },
    State.CLOSING: {
        Event.TEXT: _IGNORED,
        Event.MEDIA: _IGNORED,
        Event.TIME: _IGNORED,
        Event.ENCODED: _IGNORED,
        Event.DECODED: _IGNORED,
        Event.TELL: _IGNORED,
        Event.FAIL: _IGNORED,
        Event.LOST: _IGNORED,
        Event.CLOSED: frozenset({State.CLOSED}),
    },
    State.CLOSED: {},
}
"""The states that an event may lead to; an event that is not named is illegal there."""
