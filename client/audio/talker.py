"""The thread of a call that encodes what is spoken, so that neither the source nor the event loop
waits for encoding."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import numpy as np

from earshot.client.audio.endpoints import SAMPLE_RATE, samples_us
from earshot.client.core.level import rms
from earshot.client.core.sender import MediaSender
from earshot.client.local_clock import monotonic_us
from earshot.codec.pcm import Pcm

MAX_BLOCKS = 76
"""Blocks of the source that may wait for the encoder (0.5 s of a device's 6.7 ms blocks). Beyond
that the oldest is dropped."""
MAX_GATHERED = 16
"""Blocks that are encoded in one step, at most."""
JOIN_US = 5_000
"""A block whose capture time is this close to the end of the one before it joins that one. The
sender looks after gaps."""

_Item = tuple[Pcm, int] | threading.Event | None
_NOTHING: _Item = (np.zeros(0, np.float32), 0)


class Talker:
    """Encodes on a thread of its own.

    `emit` is called on that thread with each batch of messages. While there is no `sender`, because
    there is no connection, sound only moves the level meter and is counted in `blocks_unsent`."""

    def __init__(
        self, emit: Callable[[list[bytes]], None], rate: int = SAMPLE_RATE, max_blocks: int = MAX_BLOCKS
    ) -> None:
        self.sender: MediaSender | None = None
        self.level = 0.0
        self.blocks_dropped = 0
        self.blocks_unsent = 0
        self.error: Exception | None = None
        self._emit, self._rate, self._max_blocks = emit, rate, max_blocks
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="earshot talker", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def on_block(self, pcm: Pcm, captured_us: int) -> None:
        """Takes what the source gives. It never waits."""
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
        """Ends the thread."""
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
                    self.level = rms(pcm)
                    self.blocks_unsent += 1
                else:
                    self._pass_on(sender.push(pcm, captured, now))
                    self.level = sender.level
                if item is _NOTHING:
                    item = self._queue.get()
        except Exception as error:
            self.error = error

    def _gather(self, pcm: Pcm, captured_us: int) -> tuple[Pcm, int, _Item]:
        """Joins a block with those that wait right behind it. Several frames in one step cost
        little more than one, and so a thread that was held up catches up.

        Returns the samples, their capture time, and the item that follows but does not join, or
        _NOTHING."""
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
