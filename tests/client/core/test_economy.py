"""What silence saves, in fake time."""

from __future__ import annotations

import pytest

from earshot.client.core.economy import HEADER_BITS, WINDOW_US, Economy

PER_S = 75


def after(economy: Economy, *shares: tuple[int, float], start: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Lets (seconds, share that is spoken) go by. Returns the time then, and the frames."""
    now_s, frames = start
    for seconds, share in shares:
        for _ in range(seconds):
            economy.note(frames, now_s * 1_000_000)
            now_s, frames = now_s + 1, frames + round(share * PER_S)
    economy.note(frames, now_s * 1_000_000)
    return now_s, frames


@pytest.mark.parametrize(
    ("spoken", "frames"),
    [
        ([], 3),
        ([(5, 0)], 3),
        ([(120, 1)], 3),
        ([(120, 0.8)], 3),
        ([(120, 0.6)], 2),
        ([(120, 0.3)], 1),
        ([(30, 0)], 2),
        ([(60, 0)], 1),
        ([(120, 0.3), (20, 1)], 2),
        ([(120, 0.3), (60, 1)], 3),
        ([(120, 2)], 3),
    ],
    ids=[
        "begin",
        "too soon to know",
        "never silent",
        "short pauses",
        "half of the time",
        "a third",
        "half a minute silent",
        "a minute silent",
        "then longer speech",
        "then no pause",
        "two at once",
    ],
)
def test_fewer_frames_where_silence_has_saved_the_bits(spoken: list[tuple[int, float]], frames: int) -> None:
    economy = Economy(PER_S)
    after(economy, *spoken)
    assert economy.choose(3, 6.0) == frames


def test_it_does_not_go_to_and_fro() -> None:
    economy, seen = Economy(PER_S), []
    at = after(economy, (120, 0.36))
    for second in range(200):
        at = after(economy, (1, 0.34 if second % 2 else 0.4), start=at)
        seen.append(economy.choose(3, 6.0))
    assert len(set(seen)) == 1


def test_a_call_costs_no_more_than_speech_without_a_pause() -> None:
    """Whatever the speaker does: turns of 1 s to 40 s, then a long speech. A minute of speech after
    a minute of silence may cost more, for the minute before it cost nothing."""
    economy, at = Economy(PER_S), (0, 0)
    kbits: list[float] = []
    for turn in (1, 5, 20, 40, 10, 3, 30, 8, 60, 90):
        for speaks in (True, False):
            for _ in range(turn):
                at = after(economy, (1, float(speaks)), start=at)
                frames = economy.choose(3, 6.0)
                kbits.append(speaks * (6.0 + PER_S / frames * HEADER_BITS / 1000))
    window = WINDOW_US // 1_000_000
    minutes = [sum(kbits[start : start + window]) / window for start in range(len(kbits) - window)]
    assert max(minutes) < 40
    assert max(sum(kbits[:end]) / end for end in range(window, len(kbits))) < 24


def test_another_connection_begins_anew() -> None:
    economy = Economy(PER_S)
    after(economy, (120, 0.3))
    assert economy.choose(3, 6.0) == 1
    economy.note(0, 200_000_000)
    assert economy.choose(3, 6.0) == 3
    assert economy.choose(1, 6.0) == 1
