"""The figures of one speaker, whether it talks in frames or plays music in windows."""

from __future__ import annotations

from dataclasses import dataclass

from earshot.client.core.level import SILENCE_DBFS


@dataclass(frozen=True)
class SourceStats:
    """One speaker as heard here. Of its frames, `received` = `played` + `late` + `duplicate` +
    `overflow` + `waiting`."""

    frames_received: int = 0
    frames_played: int = 0
    frames_waiting: int = 0
    frames_missing: int = 0
    frames_late: int = 0
    frames_duplicate: int = 0
    frames_overflow: int = 0
    underruns: int = 0
    underrun_ms: float = 0.0
    """How long there was nothing to play although the speaker spoke, concealed or not."""
    samples_stretched: int = 0
    samples_compressed: int = 0
    samples_silent: int = 0
    playout_delay_ms: float = 0.0
    target_delay_ms: float = 0.0
    level_dbfs: float = SILENCE_DBFS
    codec_kbps: float = 0.0
    """Codec rate over the last two seconds of its audio."""
    codec_kbps_total: float = 0.0
    """Codec rate since its first frame."""
    sample_rate: int = 24_000
    codec_latency_ms: float = 0.0
    """What coding alone delays it by: a frame, or a window."""
