"""The thread of a call that encodes what is spoken, so that neither the source nor the event loop
waits for it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import numpy as np
from earshot.client.audio.endpoints import SAMPLE_RATE, monotonic_us, samples_us
from earshot.client.core.sender import Sender
from earshot.client.music.window_sender import WindowSender
from earshot.codec.pcm import Pcm

MAX_BLOCKS = 38
"""Blocks of the source that wait for the encoder (0.5 s of 13.3 ms blocks); then the oldest
goes."""

MAX_GATHERED = 8
JOIN_US = 5_000
"""Blocks whose capture times lie this close belong together; the sender looks after gaps."""

_Item = tuple[Pcm, int] | threading.Event | None
_NOTHING: _Item = (np.zeros(0, np.float32), 0)


class Talker:
    """Encodes on a thread of its own. `on_block` takes what the source gives and never waits.

    `emit` is called on that thread with each batch of messages. Without a `sender` (no connection),
    sound only moves the level meter and is counted in `blocks_unsent`."""

    def __init__(
        self, emit: Callable[[list[bytes]], None], rate: int = SAMPLE_RATE, max_blocks: int = MAX_BLOCKS
    ) -> None:
        self.sender: Sender | WindowSender | None = None
        self.level = 0.0
        self.blocks_dropped = 0
        self.blocks_unsent = 0
        self.error: Exception | None = None
        self._emit, self._rate, self._max_blocks = emit, rate, max_blocks
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="earshot talker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def on_block(self, pcm: Pcm, captured_us: int) -> None:
        while self._queue.qsize() >= self._max_blocks:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
            self.blocks_dropped += 1
        self._queue.put((pcm, captured_us))

    def flush(self, timeout_s: float) -> None:
        """Waits until what was spoken is encoded, with the partial last frame."""
        done = threading.Event()
        self._queue.put(done)
        done.wait(timeout_s)

    def stop(self) -> None:
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        try:
            item = self._queue.get()
            while item is not None:
                sender, now = self.sender, monotonic_us()
                if isinstance(item, threading.Event):
                    self._pass_on(sender.flush(now) if sender else [])
                    item.set()
                    item = self._queue.get()
                    continue
                pcm, captured, item = self._gather(*item) if sender else (*item, _NOTHING)
                if sender is None:
                    self.level = float(np.sqrt(np.mean(np.square(pcm)))) if pcm.size else 0.0
                    self.blocks_unsent += 1
                else:
                    self._pass_on(sender.push(pcm, captured, now))
                    self.level = sender.level
                if item is _NOTHING:
                    item = self._queue.get()
        except Exception as error:
            self.error = error

    def _gather(self, pcm: Pcm, captured_us: int) -> tuple[Pcm, int, _Item]:
        """The block with those that wait right behind it, since several frames in one step cost
        little more than one: so a thread that was held up catches up. Last, what follows but does
        not join, or _NOTHING."""
        blocks, end = [pcm], captured_us + samples_us(pcm.shape[-1], self._rate)
        following: _Item = _NOTHING
        while len(blocks) < MAX_GATHERED:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None or isinstance(following, threading.Event) or abs(following[1] - end) > JOIN_US:
                break
            blocks.append(following[0])
            end += samples_us(following[0].shape[-1], self._rate)
            following = _NOTHING
        return (np.concatenate(blocks, axis=-1) if len(blocks) > 1 else pcm), captured_us, following

    def _pass_on(self, messages: list[bytes]) -> None:
        if messages:
            self._emit(messages)
