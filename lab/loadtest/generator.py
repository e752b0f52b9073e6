"""A process of clients that speak and listen to each other, in rooms of two.

    python -m earshot.lab.loadtest.generator

It takes a line of JSON for each command and answers with one: `open` brings clients into rooms,
`reset` begins to count, `report` says what was counted. There is no event loop: every client has
its turn once a frame, reads what came since the last one, and speaks. So a frame costs two system
calls, and no client waits for a listener. The times that matter are the server's, in the trace."""

from __future__ import annotations

import gc
import heapq
import json
import queue
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.http11 import Response
from websockets.uri import parse_uri

from earshot.codec.audio_files import audio_files, read_audio
from earshot.codec.errors import CallError, EarshotError
from earshot.codec.pcm import to_s16
from earshot.lab.loadtest.tally import TICKS_PER_MS, Ear, Tally
from earshot.lab.loadtest.wire import BINARY, CLOSE, PING, PONG, TEXT, Inbox, Utterance, arrivals, client_frame
from earshot.protocol.messages import PROTOCOL, SUBPROTOCOL, Error, Hello, Welcome, parse_server

TOO_LATE_NS = 500_000_000
"""A client that is so late goes on from now: to catch up it would speak faster than real time."""
SHORTEST_SLEEP_NS, LONGEST_SLEEP_NS = 500_000, 10_000_000
"""To wake for every message would cost more than the messages, on cores that the server needs."""
OPEN_TIMEOUT_S = 20.0
CONNECTION_LOST = 1006


@dataclass(frozen=True)
class Call:
    """What all clients of a process have in common."""

    url: str
    digest: str
    kbps: float
    hop: int
    sample_rate: int


class Client:
    """One speaker and listener."""

    def __init__(
        self,
        call: Call,
        room: str,
        voice: bytes,
        start: int,
        source: str | None = None,
        timeout_s: float = OPEN_TIMEOUT_S,
    ) -> None:
        """Connects, from the address `source` if it is given, and waits for the welcome. Raises
        CallError or OSError if there is none."""
        self._call = call
        self._utterance = Utterance(voice, call.hop, start)
        self._frame_us = call.hop * 1_000_000 // call.sample_rate
        self._inbox = Inbox()
        self._unsent = b""
        self.ear = Ear()
        self.closed: str | None = None
        self._socket = shake_hands(f"{call.url}/v1/rooms/{room}", source, timeout_s)
        hello = Hello(protocol=PROTOCOL, model=call.digest, send_kbps=call.kbps, max_kbps=call.kbps, trace=True)
        try:
            self._socket.sendall(client_frame(TEXT, hello.model_dump_json().encode()))
            self._welcome()
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def _welcome(self) -> None:
        while True:
            data = self._socket.recv(1 << 16)
            if not data:
                raise CallError("the server hung up", CONNECTION_LOST)
            for first, payload in self._inbox.feed(data):
                message = parse_server(payload.decode()) if first == TEXT else None
                if isinstance(message, Error):
                    raise CallError(message.message, message.code)
                if isinstance(message, Welcome):
                    return

    @property
    def sent(self) -> int:
        return self._utterance.sent

    def turn(self, tally: Tally) -> None:
        """Reads what has come, and sends a frame."""
        try:
            self._listen(tally)
            self._send(self._utterance.next(time.monotonic_ns() // 1000, self._frame_us))
        except OSError as error:
            self.closed = self.closed or str(error)

    def _listen(self, tally: Tally) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return
        if not data:
            self.closed = self.closed or "the server hung up"
        for first, payload in self._inbox.feed(data):
            if first == BINARY:
                for arrival in arrivals(payload):
                    self.ear.hear(arrival, tally)
            elif first == PING:
                self._send(client_frame(PONG, payload))
            elif first == CLOSE:
                self.closed = f"{int.from_bytes(payload[:2], 'big')} {payload[2:].decode(errors='replace')}"

    def _send(self, message: bytes | bytearray) -> None:
        """Sends a message; what the kernel does not take goes before the next one."""
        if self._unsent:
            message = self._unsent + message
        try:
            sent = self._socket.send(message)
        except BlockingIOError:
            sent = 0
        self._unsent = b"" if sent == len(message) else bytes(message[sent:])

    def close(self) -> None:
        self._socket.close()


def shake_hands(url: str, source: str | None, timeout_s: float) -> socket.socket:
    """Returns a socket whose other end speaks WebSocket from here on. Raises CallError."""
    uri = parse_uri(url)
    protocol = ClientProtocol(uri, subprotocols=[SUBPROTOCOL])  # type: ignore[list-item]
    raw: socket.socket | None = None
    try:
        raw = socket.create_connection((uri.host, uri.port), timeout_s, (source, 0) if source else None)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        protocol.send_request(protocol.connect())
        raw.sendall(b"".join(protocol.data_to_send()))
        while not any(isinstance(event, Response) for event in protocol.events_received()):
            data = raw.recv(1 << 12)
            if not data:
                raise CallError("the server hung up", CONNECTION_LOST)
            protocol.receive_data(data)
        if protocol.handshake_exc is not None:
            raise CallError(f"no WebSocket there: {protocol.handshake_exc}", CONNECTION_LOST)
    except (OSError, WebSocketException, CallError) as error:
        if raw is not None:
            raw.close()
        raise error if isinstance(error, CallError) else CallError(f"{url}: {error}", CONNECTION_LOST) from error
    return raw


class Generator:
    """All clients of this process, each with its own phase within a frame."""

    def __init__(self, call: Call, voices: list[bytes], seed: int) -> None:
        self._call, self._voices = call, voices
        self._random = np.random.default_rng(seed)
        self._frame_ns = call.hop * 1_000_000_000 / call.sample_rate
        self._pairs: list[tuple[Client, Client]] = []
        self._turns: list[tuple[int, int, int, Client]] = []
        self._opened: queue.SimpleQueue[tuple[Client, Client]] = queue.SimpleQueue()
        self.tally = Tally()
        self._cpu_s = time.process_time()
        self._since_s = time.monotonic()

    def open(self, rooms: list[str]) -> dict[str, Any]:
        """Brings two clients into each room, until one is refused.

        It is called in a thread of its own: the clients that talk must go on."""
        opened = 0
        for room in rooms:
            pair: list[Client] = []
            try:
                for _ in range(2):
                    voice = self._voices[int(self._random.integers(len(self._voices)))]
                    pair.append(Client(self._call, room, voice, int(self._random.integers(1 << 16))))
            except EarshotError as error:
                for client in pair:
                    client.close()
                code = error.code if isinstance(error, CallError) else None
                return {"opened": opened, "refused": {"code": code, "message": str(error)}}
            opened += 1
            self._opened.put((pair[0], pair[1]))
        return {"opened": opened, "refused": None}

    def _take_in(self) -> None:
        while not self._opened.empty():
            pair = self._opened.get()
            self._pairs.append(pair)
            for client in pair:
                due = time.monotonic_ns() + int(self._random.random() * self._frame_ns)
                heapq.heappush(self._turns, (due, id(client), due, client))

    def go_on(self) -> None:
        """Gives every client whose time has come a turn; sleeps if there is none."""
        self._take_in()
        now = time.monotonic_ns()
        if not self._turns or self._turns[0][0] > now:
            wait = self._turns[0][0] - now if self._turns else LONGEST_SLEEP_NS
            time.sleep(min(max(wait, SHORTEST_SLEEP_NS), LONGEST_SLEEP_NS) / 1e9)
            return
        due, key, began, client = self._turns[0]
        self.tally.late[(now - due) * TICKS_PER_MS // 1_000_000] += 1
        if now - due > TOO_LATE_NS:
            began += now - due
        client.turn(self.tally)
        if client.closed is not None:
            heapq.heappop(self._turns)
            return
        following = began + round(client.sent * self._frame_ns)
        heapq.heapreplace(self._turns, (following, key, began, client))

    def reset(self) -> dict[str, Any]:
        self.tally = Tally()
        self._cpu_s, self._since_s = time.process_time(), time.monotonic()
        return {}

    def report(self) -> dict[str, Any]:
        for pair in self._pairs:
            for listener, speaker in (pair, pair[::-1]):
                self.tally.lost += listener.ear.overdue(speaker.sent)
        busy = (time.process_time() - self._cpu_s) / max(time.monotonic() - self._since_s, 1e-9)
        closed = [client.closed for pair in self._pairs for client in pair if client.closed is not None]
        return {**self.tally.to_json(), "cpu": busy, "closed": closed}


def main() -> None:
    """Reads whom to call and with which voices from the first line, then obeys commands."""
    settings = json.loads(sys.stdin.readline())
    call = Call(**settings["call"])
    voices = [to_s16(read_audio(file, call.sample_rate)) for file in audio_files(settings["voices"])]
    generator = Generator(call, voices, settings["seed"])
    gc.freeze()
    gc.disable()  # what a frame needs is freed at once; nothing here makes circles
    commands: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    answers = threading.Lock()

    def answer(values: dict[str, Any]) -> None:
        with answers:
            print(json.dumps(values), flush=True)

    def lines() -> Iterator[dict[str, Any]]:
        for line in sys.stdin:
            yield json.loads(line)

    def obey() -> None:
        for command in lines():
            if command["do"] == "open":
                answer(generator.open(command["rooms"]))
            else:
                commands.put(command)
        commands.put(None)

    threading.Thread(target=obey, daemon=True).start()
    answer({"ready": True})
    while True:
        generator.go_on()
        if commands.empty():
            continue
        command = commands.get()
        if command is None:
            return
        answer(generator.reset() if command["do"] == "reset" else generator.report())


if __name__ == "__main__":
    main()
