"""One client's WebSocket: carries what comes to its session (server/core/session.py), and does what
the session says."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Coroutine
from functools import partial
from typing import Any

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.messages import SUBPROTOCOL, Error, ServerMessage
from earshot.server.audit import AuditKind, quote
from earshot.server.clock import clock_us
from earshot.server.core import effects as do
from earshot.server.core import refusals
from earshot.server.core.effects import Effect, Effects
from earshot.server.core.jobs import Result
from earshot.server.core.session import Session
from earshot.server.hub import Hub
from earshot.server.net.asgi_extensions import CLOSE_REASON_BYTES, LAST_WORDS, SHORT_CUT
from earshot.server.net.sender import Sender
from earshot.server.seats import Seat

log = logging.getLogger(__name__)

BROKEN = 1006
"""RFC 6455, section 7.4.1: the connection is gone, and no close went before that."""


class _Outside:
    """The place of a client that is in no room."""


class Connection:
    """Runs one client from accept to close. Whatever it does wrong ends here."""

    def __init__(self, websocket: WebSocket, room_name: str, hub: Hub) -> None:
        self._websocket, self._room_name, self._hub = websocket, room_name, hub
        self.address = websocket.client.host if websocket.client else ""
        self._loop = asyncio.get_running_loop()
        self._session = Session(hub.session_limits, clock_us(), hub.paused_us())
        self._sender = Sender(websocket, self._session, hub.settings.close_after_ms / 1000)
        self.wake = self._sender.wake
        self._place: Seat | _Outside = _Outside()
        self._ended: asyncio.Future[do.Close | do.Leave] = self._loop.create_future()
        self._timer = self._loop.call_later(hub.settings.hello_timeout_s, self._time)

    # What comes

    def tell(self, message: ServerMessage) -> None:
        """Queues a control message."""
        self._perform(self._session.tell(message))

    def fail(self, error: ProtocolError) -> None:
        """Ends this connection soon, with this error."""
        self._perform(self._session.fail(error))

    def _hear(self, data: bytes) -> None:
        """Takes a binary message by the short cut, which may not see an error."""
        try:
            self._session.paused(self._hub.paused_us())
            for effect in self._session.media(data, clock_us()):
                self._do(effect)
        except Exception:
            self._fault()

    def _encoded(self, result: Result) -> None:
        for effect in self._session.encoded(result):
            self._do(effect)

    def _time(self) -> None:
        try:
            self._session.paused(self._hub.paused_us())
            self._perform(self._session.time(clock_us()))
        except Exception:
            self._fault()
        self._set_timer()

    def _set_timer(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later((self._session.next_time_us - clock_us()) / 1e6, self._time)

    def _fault(self) -> None:
        log.exception("connection of %s in room %s failed", quote(self.address), quote(self._room_name))
        self.fail(refusals.internal_error())

    async def _receive(self) -> None:
        while True:
            event = await self._websocket.receive()
            if event["type"] == "websocket.disconnect":
                self._perform(self._session.lost(event.get("code") or 1005, event.get("reason") or ""))
                return
            text, now_us = event.get("text"), clock_us()
            self._session.paused(self._hub.paused_us())
            if text is not None:
                await self._hear_text(text, now_us)
            else:
                for effect in self._session.media(event.get("bytes") or b"", now_us):
                    if isinstance(effect, do.Decode):
                        packet = await self._sender.coding.decode(effect.packet, effect.admitted)
                        self._perform(self._session.decoded(packet))
                    else:
                        self._do(effect)
            # Messages that are already here come without a pause; everyone else's turn is between
            # them.
            await asyncio.sleep(0)

    async def _hear_text(self, text: str, now_us: int) -> None:
        effects = self._session.text(text, now_us)
        for effect in effects:
            if isinstance(effect, do.Join):
                self._timer.cancel()  # the hello is there; what is next is set when its client has joined
                await self._hub.nodes.find(self._room_name, partial(self._hub.admit, self._room_name, effect.hello))
                if self._ended.done():
                    return
        self._perform(effects)

    # What the session says

    def _perform(self, effects: Effects) -> None:
        for effect in effects:
            self._do(effect)
        if self._session.outbox:
            self._sender.notice()

    def _do(self, effect: Effect) -> None:
        place = self._place
        if isinstance(place, Seat):
            self._do_in_room(place, effect)
        elif isinstance(effect, do.Join):
            self._try(self._join, effect)
        elif isinstance(effect, do.Close | do.Leave):
            self._ended.set_result(effect)
        else:
            raise RuntimeError("this connection is in no room")

    def _do_in_room(self, seat: Seat, effect: Effect) -> None:
        if isinstance(effect, do.Relay):
            seat.relay(effect)
        elif isinstance(effect, do.Encode):
            if seat.encode(effect):
                seat.peer.uplink.discard(1)
        elif isinstance(effect, do.Close | do.Leave):
            self._ended.set_result(effect)
        elif isinstance(effect, do.Hush):
            seat.live.hush(seat.peer, effect.silence)
        elif isinstance(effect, do.Announce):
            seat.live.announce(effect.message)
        elif isinstance(effect, do.NoteMuted):
            seat.live.recorder.muted(seat.peer)
        elif isinstance(effect, do.AskRecording):
            seat.live.record(seat.peer, effect.message)
        elif isinstance(effect, do.AskModeration):
            self._try(self._hub.moderate, seat.live, effect.message, seat.peer.grants, seat.peer)
        elif isinstance(effect, do.ChangeRate):
            self._try(seat.live.change_rate, seat.peer, effect.message)
        else:
            raise RuntimeError(f"{type(effect).__name__} is nothing to do at once")

    def _try(self, act: Any, *args: Any) -> None:
        try:
            act(*args)
        except ProtocolError as error:
            self.fail(error)

    def _join(self, effect: do.Join) -> None:
        seat, welcome = self._hub.join(self._room_name, effect.hello, self, self._encoded)
        self._place = seat
        self._sender.coding = seat.coding
        link = self._websocket.scope.get("extensions", {}).get(SHORT_CUT)
        if link is not None and welcome.entropy is None:  # coding takes its time: the tasks wait for it
            link.media = self._hear
            self._sender.take_short_cut(link)
        self._session.joined(seat.live.room, seat.peer, welcome, clock_us())
        if not seat.resumed:
            seat.live.explain_recording(seat.peer)
        if (news := self._hub.drain_news()) is not None:
            self.tell(news)
        hello = effect.hello
        resumed = 1 if seat.resumed else None
        self._audit(
            "joined", seat, send=hello.send, want=hello.want, token=seat.peer.grants.id or None, resumed=resumed
        )
        self._set_timer()

    # The course of a connection

    async def run(self) -> None:
        """Returns when the client is gone. Raises nothing that a client could cause."""
        try:
            await self._serve()
        except ProtocolError as error:
            _forget(error)
            self.fail(error)
        except WebSocketDisconnect as gone:
            _forget(gone)
            self._perform(self._session.lost(gone.code, gone.reason))
        except Exception:
            self._fault()
        finally:
            self._timer.cancel()
            if not self._ended.done():  # this task was cancelled
                self._perform(self._session.lost(0, ""))
            end = self._ended.result()
            # The room first: the others need not wait for this one's goodbye.
            self._leave(end)
            try:
                if end.code:
                    self._hub.count_closed(end.code)
                if isinstance(end, do.Close):
                    await self._say_why(end)
            finally:
                self._session.closed()
                self._hub.exit(self)

    async def _serve(self) -> None:
        self._hub.enter(self)
        offered = SUBPROTOCOL in self._websocket.scope["subprotocols"]
        await self._websocket.accept(SUBPROTOCOL if offered else None)
        self._perform(self._session.accepted(offered, self._room_name))
        await self._until_one_ends(self._receive(), self._sender.run())

    async def _until_one_ends(self, *parts: Coroutine[None, None, None]) -> None:
        """Runs the parts until one ends, or the session has; cancels the others."""
        tasks = [asyncio.create_task(part) for part in parts]
        ends: list[asyncio.Future[Any]] = [*tasks, self._ended]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finished = [task for task in tasks if task.done()]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in finished:
            task.result()

    def _leave(self, end: do.Close | do.Leave) -> None:
        self._sender.leave_short_cut()
        place, self._place = self._place, _Outside()  # what a seat holds leads back to this connection
        broken = isinstance(end, do.Leave) and end.code == BROKEN
        left = isinstance(place, Seat) and self._hub.leave(place, self, end.reason, broken)
        outside: AuditKind = "refused" if isinstance(end, do.Close) else "gone"
        self._audit("left" if left else outside, place, code=end.code or None, reason=end.reason)

    def _audit(self, kind: AuditKind, place: Seat | _Outside, **fields: str | int | None) -> None:
        peer = place.peer if isinstance(place, Seat) else None
        who = {"peer": peer.id, "name": peer.name or None} if peer is not None else {}
        self._hub.audit.note(kind, address=self.address, room=self._room_name, **who, **fields)

    async def _say_why(self, end: do.Close) -> None:
        """Says why and closes. A client that does not read cannot hold this up: see LAST_WORDS."""
        last_words = self._websocket.scope.get("extensions", {}).get(LAST_WORDS)
        if last_words is not None:
            last_words()
        text = Error(code=end.code, message=end.reason).model_dump_json()
        reason = end.reason.encode()[:CLOSE_REASON_BYTES].decode(errors="ignore")
        try:
            async with asyncio.timeout(self._hub.settings.close_timeout_s):
                if self._websocket.application_state is WebSocketState.CONNECTING:
                    await self._websocket.accept()
                await self._websocket.send_text(text)
                await self._websocket.close(end.code, reason)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            pass  # it went first, or never will; the transport is cut after its own deadline


def _forget(error: BaseException) -> None:
    """Lets go of the frames that an error came through. With what they hold they form circles
    around it, and to collect those of a crowd that is sent away would stop everyone's sound for
    tens of milliseconds."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link.__traceback__ = None
        link = link.__context__
