"""Makes one stream for a loudspeaker out of the peers that talk and those that play music, at the
rate of the music."""

from __future__ import annotations

import math

import numpy as np
import soxr

from earshot.client.core.receiver import Receiver
from earshot.client.music.speakers import Music
from earshot.codec.pcm import Pcm, soft_limit


class Mixer:
    """Mixes music with talk, which it resamples and puts into all channels. It belongs to the
    thread that plays."""

    def __init__(self, receiver: Receiver, music: Music, talk_rate: int, sample_rate: int, channels: int) -> None:
        self._receiver, self._music = receiver, music
        self._talk_rate, self._sample_rate, self._channels = talk_rate, sample_rate, channels
        # As for sound devices: the mode for variable rates holds back a third of what the other
        # mode does.
        self._resampler = (
            None
            if talk_rate == sample_rate
            else soxr.ResampleStream(talk_rate, sample_rate, 1, dtype="float32", quality="HQ", vr=True)
        )
        self._talk: Pcm = np.zeros(0, np.float32)
        self._pulled = self._made = 0

    def pull(self, n: int, now_us: int, heard_us: int) -> Pcm:
        """Returns the next samples, float32 [channels, n] in -1..1, which are taken at `now_us`.
        The first is heard at `heard_us`."""
        while (lacking := n - self._talk.size) > 0:
            # All that lacks is pulled at once: play-out would take several pulls at one time for
            # speech that grows older.
            need = math.ceil(lacking * self._talk_rate / self._sample_rate)
            held = self._pulled * self._sample_rate / self._talk_rate - self._made  # inside the resampler
            ahead = (self._talk.size + held) * 1e6 / self._sample_rate
            pcm = self._receiver.pull(need, now_us, heard_us + round(ahead))
            self._pulled += pcm.size
            if self._resampler is not None:
                pcm = self._resampler.resample_chunk(pcm)
            self._made += pcm.size
            self._talk = np.concatenate([self._talk, pcm])
        talk, self._talk = self._talk[:n], self._talk[n:]
        return soft_limit(self._music.pull(n, now_us, heard_us) + talk)
