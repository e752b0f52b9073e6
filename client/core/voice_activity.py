"""Decides from the level of each frame whether somebody speaks, so that silence need not be sent.

The noise floor is learnt: it falls at once to the loudest of five frames in a row, and rises
slowly, so that long speech is not taken for noise. What is a little louder than the floor is
speech, and so is what follows it for a while, because words end softly."""

from __future__ import annotations

from collections import deque

CALM_FRAMES = 5
"""Frames in a row that must be quiet for the floor to fall: shorter dips are part of speech."""
RISE_DB_PER_S = 1.5
FIRST_FLOOR_DB, LOWEST_FLOOR_DB = -50.0, -70.0
"""The floor before anything was heard; and the lowest, under which nobody hears anything."""
OVER_FLOOR_DB = 5.0
"""What is so much louder than the floor is speech."""
HANG_OVER_S = 0.4
"""How long what follows speech counts as speech."""


class VoiceActivity:
    """The activity of one speaker."""

    def __init__(self, frames_per_s: float) -> None:
        self._rise_db = RISE_DB_PER_S / frames_per_s
        self._hang_over = round(HANG_OVER_S * frames_per_s)
        self._recent: deque[float] = deque(maxlen=CALM_FRAMES)
        self._left = self._hang_over
        """Frames that count as speech if nothing is heard in them."""
        self.floor_db = FIRST_FLOOR_DB

    def is_loud(self, level_db: float) -> bool:
        """Returns whether a frame of this level (dB of full scale, RMS) is louder than noise."""
        return level_db > self.floor_db + OVER_FLOOR_DB

    def take(self, level_db: float) -> bool:
        """Returns whether the next frame, of this level, is to be sent."""
        loud = self.is_loud(level_db)
        self._left = self._hang_over if loud else max(self._left - 1, 0)
        self._recent.append(level_db)
        if len(self._recent) == CALM_FRAMES:
            self.floor_db = max(min(self.floor_db + self._rise_db, max(self._recent)), LOWEST_FLOOR_DB)
        return self._left > 0
