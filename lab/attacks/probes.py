"""What others notice of an attack: newcomers from other addresses, and requests for `/healthz`."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

from earshot.codec.errors import CallError, EarshotError
from earshot.lab.loadtest.generator import Call, Client

EVERY_S = 1.0
LONGEST_S = 8.0
"""A try that takes longer counts as failed."""
END_S = 60.0


@dataclass
class Tries:
    """How long each try took, and why others failed."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)
    """Close codes with which the server refused a try; its `/stats` counts these, too."""

    @property
    def worst(self) -> float | None:
        """The longest time of a try that worked; None if none did."""
        return max(self.seconds, default=None)


class Probe:
    """Tries something once a second in a thread of its own, for as long as the context lasts."""

    def __init__(self, name: str, attempt: Callable[[int], None]) -> None:
        self.tries = Tries()
        self._attempt = attempt
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(END_S)

    def _run(self) -> None:
        number = 0
        while not self._stopping.is_set():
            begin = time.monotonic()
            try:
                self._attempt(number)
                self.tries.seconds.append(time.monotonic() - begin)
            except (EarshotError, OSError, ValueError, http.client.HTTPException) as error:
                self.tries.failures.append(str(error) or type(error).__name__)
                if isinstance(error, CallError) and error.code is not None:
                    self.tries.codes[error.code] += 1
            number += 1
            self._stopping.wait(max(begin + EVERY_S - time.monotonic(), 0.05))


def newcomer(call: Call, addresses: Sequence[str], prefix: str) -> Callable[[int], None]:
    """Returns what brings a client that sends PCM into a room of its own, from one address after
    the other."""

    def come(number: int) -> None:
        voice = bytes(2 * call.hop)
        Client(call, f"{prefix}-{number}", voice, 0, addresses[number % len(addresses)], LONGEST_S).close()

    return come


def health(host: str, port: int, address: str) -> Callable[[int], None]:
    """Returns what asks for `/healthz`."""

    def ask(_: int) -> None:
        connection = http.client.HTTPConnection(host, port, timeout=LONGEST_S, source_address=(address, 0))
        try:
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise OSError(f"HTTP status {answer.status}")
        finally:
            connection.close()

    return ask
