"""A few speakers and a crowd that listens, over one server or several: what comes of each frame,
and how late.

There is no event loop: a speaker sends when a frame is due, and the listeners take turns to read
all that has come. The times that matter are the servers', in the trace."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from earshot.codec.bitstream import pack
from earshot.codec.errors import CallError
from earshot.lab.loadtest.generator import OPEN_TIMEOUT_S, Call, shake_hands
from earshot.lab.loadtest.tally import Ear, Tally, percentile_ms
from earshot.lab.loadtest.wire import BINARY, CLOSE, FRAME_TICKS, PING, PONG, TEXT, Inbox, arrivals, client_frame
from earshot.protocol.messages import PROTOCOL, Error, Hello, Welcome, parse_server
from earshot.protocol.packet import Packet, Trace, encode_codes_up
from earshot.protocol.sequence import CLOCK_MODULUS

N_Q = 8
READ_BYTES = 1 << 18
TURNS = 8
"""Frames in which every listener has its turn once."""
OPEN_AT_ONCE = 20
"""Listeners that come in between two turns of all others."""


@dataclass(frozen=True)
class Row:
    """What a crowd of one size heard. Times in ms."""

    listeners: int
    heard: int
    lost: int
    added_p50: float | None
    """From a message's last sample spoken to the message in the listener's socket."""
    added_p99: float | None
    late_p99: float | None
    """How late the speakers sent."""
    servers_cpu: list[float]
    """Cores that each server took."""
    closed: int


class Client:
    """A socket whose other end is in a room."""

    def __init__(self, call: Call, url: str, room: str, hello: Hello) -> None:
        """Raises CallError or OSError if it is not let in."""
        self.call, self.ear, self.closed = call, Ear(), False
        self._inbox = Inbox()
        self.socket = shake_hands(f"{url}/v1/rooms/{room}", None, OPEN_TIMEOUT_S)
        try:
            self.socket.sendall(client_frame(TEXT, hello.model_dump_json().encode()))
            self._welcome()
        except BaseException:
            self.socket.close()
            raise
        self.socket.setblocking(False)

    def _welcome(self) -> None:
        while True:
            data = self.socket.recv(READ_BYTES)
            if not data:
                raise CallError("the server hung up", 1006)
            frames = list(self._inbox.feed(data))  # all of them: what follows a welcome may have come with it
            if not frames or frames[0][0] != TEXT:
                continue
            message = parse_server(frames[0][1].decode())
            if isinstance(message, Error):
                raise CallError(message.message, message.code)
            if isinstance(message, Welcome):
                return

    def read(self, tally: Tally) -> None:
        """Takes all that has come."""
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.closed = True
        for first, payload in self._inbox.feed(data):
            if first == BINARY:
                for arrival in arrivals(payload):
                    times = arrival.times
                    if times is not None:  # the trace is of the first frame, and the message goes with its last
                        framed, encoded, received, relayed = times
                        whole = framed + (arrival.frames - 1) * FRAME_TICKS
                        arrival = type(arrival)(
                            arrival.source, arrival.sequence, arrival.frames, (whole, encoded, received, relayed)
                        )
                    self.ear.hear(arrival, tally)
            elif first == PING:
                self.send(client_frame(PONG, payload))
            elif first == CLOSE:
                self.closed = True

    def send(self, data: bytes) -> None:
        """Sends, unless the server reads nothing at the moment, or notes that it has hung up."""
        try:
            self.socket.send(data)
        except BlockingIOError:
            return
        except OSError:
            self.closed = True


class Speaker(Client):
    """One that says codes, a frame at a time."""

    def __init__(self, call: Call, url: str, room: str, hello: Hello, seed: int) -> None:
        super().__init__(call, url, room, hello)
        codes = np.random.default_rng(seed).integers(0, 1024, (64, N_Q, 1))
        self._payloads = [pack(each) for each in codes]
        self.sent = 0

    def speak(self) -> None:
        """Sends the next frame, as if its last sample were spoken now."""
        call, number = self.call, self.sent
        frame_us = call.hop * 1_000_000 // call.sample_rate
        trace = Trace((time.monotonic_ns() // 1000 - frame_us) % CLOCK_MODULUS, FRAME_TICKS)
        packet = Packet(N_Q, 1, number % (1 << 16), number * call.hop, self._payloads[number % 64], trace)
        self.send(client_frame(BINARY, encode_codes_up(packet)))
        self.sent += 1


class Crowd:
    """All clients of a test."""

    def __init__(self, call: Call, urls: Sequence[str], rooms: int, frames: int) -> None:
        self._call, self._urls, self._rooms, self._frames = call, urls, rooms, frames
        self.speakers: list[Speaker] = []
        self.listeners: list[Client] = []
        self.tally = Tally()
        self._began = time.monotonic()
        self._turn = 0

    def _hello(self, send: str, want: str) -> Hello:
        return Hello(
            protocol=PROTOCOL,
            model=self._call.digest,
            send=send,  # type: ignore[arg-type]
            want=want,  # type: ignore[arg-type]
            max_kbps=self._call.kbps,
            trace=True,
            frames=self._frames,
            stats_every_s=60,
        )

    def add_speakers(self, count: int) -> None:
        """Brings speakers in; rooms and servers take turns."""
        for number in range(count):
            url, room = self._urls[number % len(self._urls)], f"fan-{number % self._rooms}"
            self.speakers.append(Speaker(self._call, url, room, self._hello("codes", "none"), number))
        self._began = time.monotonic()

    def add_listeners(self, count: int) -> None:
        """Brings listeners in, until there are so many."""
        hello = self._hello("none", "codes")
        while (number := len(self.listeners)) < count:
            url, room = self._urls[number % len(self._urls)], f"fan-{number // len(self._urls) % self._rooms}"
            self.listeners.append(Client(self._call, url, room, hello))
            if number % OPEN_AT_ONCE == 0:
                self.go_on(0.0, everyone=True)

    def go_on(self, seconds: float, everyone: bool = False) -> None:
        """Speaks and listens for so long, or once."""
        frame_s = self._call.hop / self._call.sample_rate
        until = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            due = self._began + self.speakers[0].sent * frame_s
            if now - due > 0.5:
                self._began += now - due  # to catch up it would speak faster than real time
                due = now
            if now < due and not everyone:
                time.sleep(due - now)
            if time.monotonic() >= due:
                self.tally.late[int(max(0.0, time.monotonic() - due) * 10_000)] += 1
                for speaker in self.speakers:
                    speaker.speak()
                    if not speaker.closed:
                        speaker.read(self.tally)
            part = self.listeners if everyone else self.listeners[self._turn % TURNS :: TURNS]
            self._turn += 1
            for listener in part:
                if not listener.closed:
                    listener.read(self.tally)
            if time.monotonic() >= until:
                return

    def measure(self, seconds: float, cpu_s: Callable[[], list[float]]) -> Row:
        """Returns what is heard in so long a time."""
        self.go_on(1.0)
        self.tally = Tally()
        before, began = cpu_s(), time.monotonic()
        self.go_on(seconds)
        tally, after, span = self.tally, cpu_s(), time.monotonic() - began
        self.tally = Tally()
        return Row(
            listeners=len(self.listeners),
            heard=tally.heard,
            lost=tally.lost,
            added_p50=percentile_ms(tally.added, 0.5),
            added_p99=percentile_ms(tally.added, 0.99),
            late_p99=percentile_ms(tally.late, 0.99),
            servers_cpu=[round((now - was) / span, 2) for now, was in zip(after, before, strict=True)],
            closed=sum(each.closed for each in (*self.speakers, *self.listeners)),
        )

    def close(self) -> None:
        """Hangs up, all of them."""
        for client in (*self.speakers, *self.listeners):
            try:
                client.socket.close()
            except OSError:
                continue


def sizes(listeners: int, steps: int = 4) -> list[int]:
    """Returns the sizes of the crowd that are measured."""
    return sorted({max(1, listeners * step // steps) for step in range(1, steps + 1)})
