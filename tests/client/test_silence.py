"""Silence that is not sent: what goes out, and what is heard at the far end, in fake time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from earshot import codec
from earshot.client.core.background import LOOP, BackgroundMeter, ComfortNoise
from earshot.client.core.level import dbfs, rms
from earshot.client.core.playout import Decoder, Playout
from earshot.client.core.sender import LEAST_PRE_ROLL, MOST_PRE_ROLL, SIGN_EVERY_S, Encoder, Sender
from earshot.client.core.traffic import wire_size
from earshot.client.core.voice_activity import HANG_OVER_S, VoiceActivity
from earshot.codec.bitstream import unpack
from earshot.codec.pcm import Pcm
from earshot.lab import VOICES
from earshot.protocol.packet import Packet
from earshot.protocol.short_headers import LinkReader, LinkWriter
from earshot.protocol.silence import BANDS, NOTHING, Silence
from earshot.server.core.uplink import Uplink

HOP, RATE = 320, 24_000
FRAME_US = HOP * 1e6 / RATE
FLIGHT_US = 20_000
HANG_OVER = round(HANG_OVER_S * RATE / HOP)


class Sine:
    """Codes and sound of a voice that does not matter: the level of a frame, in 1/1000."""

    kbps = 1.5

    def __init__(self) -> None:
        self.place = 0

    def push(self, data: NDArray[np.generic]) -> NDArray[np.generic]:
        if data.dtype == np.int16:
            return np.repeat(data[0].astype(np.float32) / 1000, HOP)
        frames = data.reshape(-1, HOP)
        return np.tile(np.rint(np.sqrt(np.square(frames).mean(axis=1)) * 1000).astype(np.int16), (2, 1))


def noise(seconds: float, level_db: float, seed: int = 0) -> Pcm:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return np.asarray(samples * 10 ** (level_db / 20), np.float32)


@dataclass
class Heard:
    """One speaker at the far end."""

    playout: Playout
    said: Sender
    bytes: int = 0
    messages: list[tuple[int, Packet | Silence]] = field(default_factory=list)
    pcm: list[Pcm] = field(default_factory=list)
    positions: list[NDArray[np.float64]] = field(default_factory=list)

    def on_timeline(self, size: int) -> Pcm:
        """What was heard of the speaker itself, where it was spoken."""
        places, pcm = np.concatenate(self.positions), np.concatenate(self.pcm)
        known = ~np.isnan(places)
        at = np.rint(places[known]).astype(int)
        out = np.zeros(size, np.float32)
        within = at < size
        out[at[within]] = pcm[known][within]
        return out


def call(
    pcm: Pcm,
    encoder: Encoder,
    decoder: Decoder,
    frames: int,
    quiet: bool = True,
    more_frames: dict[int, int] | None = None,
) -> Heard:
    """Sends `pcm` frame by frame; each message arrives after 20 ms, if the server's rules let it
    pass. `more_frames` are packet sizes by the frame at which they are asked for."""
    sender = Sender("codes", encoder=encoder, frames_per_packet=frames, quiet=quiet)
    heard = Heard(Playout(lambda: decoder, HOP, RATE), sender)
    writer, reader, uplink = LinkWriter(HOP), LinkReader(HOP), Uplink(codec.config.LITE_24KHZ, 500, 0)
    flying: list[tuple[int, Packet | Silence]] = []
    for number in range(pcm.size // HOP + 30):
        now = round((number + 1) * FRAME_US)
        if more_frames and number in more_frames:
            sender.frames_per_packet = more_frames[number]
        frame = pcm[number * HOP : (number + 1) * HOP]
        for message in sender.push(frame, now - round(FRAME_US), now) if frame.size else sender.flush(now):
            part = LinkReader(HOP).up(message)
            data = message if isinstance(part, Silence) else writer.up(part)  # type: ignore[arg-type]
            heard.bytes += wire_size(len(data), masked=True)
            again = reader.up(data)
            assert isinstance(again, Packet | Silence)
            passed = (
                uplink.silence(again, False, now) if isinstance(again, Silence) else uplink.codes(again, False, now)
            )
            assert passed, f"the server would discard {again}"
            heard.messages.append((number, again))
            flying.append((now + FLIGHT_US, again))
        while flying and flying[0][0] <= now:
            arrival, part = flying.pop(0)
            if isinstance(part, Silence):
                heard.playout.hush(part.sequence, part.levels)
                continue
            codes = unpack(part.payload, part.n_q, part.frames)
            columns = [(codes[:, index], HOP) for index in range(part.frames)]
            heard.playout.jitter.put(part.sequence, part.timestamp, columns, arrival, None)
        if number * HOP > pcm.size:
            heard.playout.announce_silence(True)
        block = heard.playout.pull(HOP, now)
        heard.pcm.append(block.pcm)
        heard.positions.append(block.positions)
    return heard


def test_only_a_rare_sign_goes_out_in_silence() -> None:
    heard = call(noise(60, -60), Sine(), Sine(), frames=3)
    sent = [part for _, part in heard.messages]
    signs = [part for part in sent if isinstance(part, Silence)]
    assert sum(part.frames for part in sent if isinstance(part, Packet)) == HANG_OVER - 1
    assert len(signs) == pytest.approx(60 / SIGN_EVERY_S, abs=1)
    assert all(isinstance(part, Silence) for part in sent[-len(signs) :])
    assert {sign.sequence for sign in signs} == {HANG_OVER - 1}
    assert signs[0].timestamp == (HANG_OVER - 1) * HOP
    assert heard.bytes * 8 / 60 / 1000 < 0.5  # kbps, of which most is the first 0.4 s
    assert heard.playout.underruns == 0


@pytest.mark.parametrize("frames", [1, 3, 6])
def test_speech_begins_with_what_was_before_it_and_ends_with_what_was_behind(frames: int) -> None:
    word = noise(0.48, -20, 1)
    pcm = np.concatenate([noise(2, -60), word, noise(3, -60, 2), word, noise(2, -60, 3)])
    heard = call(pcm, Sine(), Sine(), frames)
    packets = [(number, part) for number, part in heard.messages if isinstance(part, Packet)]
    starts = [part.timestamp // HOP for _, part in packets]
    first = next(at for at in starts if at > HANG_OVER)
    pre_roll = min(max(frames - 1, LEAST_PRE_ROLL), MOST_PRE_ROLL)
    assert first == 150 - pre_roll
    # At once with the first frame of speech, in packets that are not longer than others.
    opening = [part.frames for number, part in packets if number == 150]
    assert opening == [frames] * ((pre_roll + 1) // frames)
    spoken = sorted(at + index for at, (_, part) in zip(starts, packets, strict=True) for index in range(part.frames))
    for begin in (150, 150 + 36 + 225):
        expected = range(begin - pre_roll, begin + 36 + HANG_OVER - 1)
        assert [at for at in spoken if begin - 100 < at < begin + 100] == list(expected)
    assert heard.playout.underruns == 0
    assert heard.playout.jitter.missing == 0


@pytest.mark.parametrize("pause_s", [0.45, 0.6, 0.98, 1.02, 1.5, 4.2])
@pytest.mark.parametrize("frames", [1, 3])
def test_no_pause_is_an_underrun_and_the_background_goes_on(pause_s: float, frames: int) -> None:
    word = noise(0.8, -20, 1)
    pcm = np.concatenate([noise(2, -50), *[part for seed in range(4) for part in (word, noise(pause_s, -50, seed))]])
    heard = call(pcm, Sine(), Sine(), frames)
    assert heard.playout.underruns == 0
    assert heard.playout.jitter.missing == 0
    places, sound = np.concatenate(heard.positions), np.concatenate(heard.pcm)
    between = np.isnan(places)
    between[: round(1.5 * RATE)] = between[-RATE:] = False
    if between.sum() > RATE // 4:
        assert dbfs(rms(sound[between])) == pytest.approx(-50, abs=1.5)


def test_more_and_fewer_frames_in_a_packet_leave_no_gap() -> None:
    heard = call(noise(12, -20), Sine(), Sine(), 1, more_frames={150: 6, 600: 2, 700: 1, 750: 3})
    sizes = [part.frames for _, part in heard.messages if isinstance(part, Packet)]
    assert set(sizes) == {1, 2, 3, 4, 5, 6}
    assert heard.playout.underruns == 0
    assert heard.playout.jitter.missing == 0
    silent = np.isnan(np.concatenate(heard.positions))
    assert not silent[RATE // 2 : -RATE].any()


def test_the_ends_of_utterances_are_as_without_it() -> None:
    """The energy of the first and last 100 ms of 20 utterances, with the default model."""
    model = codec.load("default")
    clips = [soundfile.read(VOICES / f"{name}.flac", dtype="float32")[0] for name in ("ada", "ben")]
    length, part = round(1.3 * RATE) // HOP * HOP, round(0.1 * RATE)
    starts, pieces = [], [noise(1.5, -62)]
    for seed in range(20):
        clip = clips[seed % 2]
        begin = round((0.4 + 0.9 * seed) * RATE)
        starts.append(sum(piece.size for piece in pieces))
        pieces += [clip[begin : begin + length] + noise(length / RATE, -62, seed), noise(1.0, -62, seed)]
    pcm = np.concatenate(pieces)
    with_it, without = (
        call(pcm, model.frame_encoder(6.0), model.frame_decoder(), 3, quiet=quiet) for quiet in (True, False)
    )
    assert with_it.said.frames_silent > 0.2 * pcm.size / HOP
    for sound in (with_it, without):
        assert sound.playout.underruns == 0
    a, b = with_it.on_timeline(pcm.size), without.on_timeline(pcm.size)
    for start in starts:
        for where in (slice(start, start + part), slice(start + length - part, start + length)):
            if dbfs(rms(pcm[where])) > -50:  # there is speech in it, not a pause in the clip
                assert dbfs(rms(a[where])) == pytest.approx(dbfs(rms(b[where])), abs=1.0)


def test_a_floor_is_learnt_and_speech_is_not_taken_for_it() -> None:
    activity = VoiceActivity(75)
    assert all(activity.take(-40) for _ in range(HANG_OVER))  # louder than the first floor
    assert not [activity.take(-40) for _ in range(75 * 8)][-1]
    assert activity.floor_db == pytest.approx(-40)
    assert activity.take(-30)
    for _ in range(75):
        activity.take(-80)
    assert activity.floor_db == -70
    syllables = [-20, -20, -25, -40, -60, -60] * 2 + [-20] * 30
    assert all(activity.take(level) for level in syllables * 5)


def test_the_background_sounds_at_the_far_end_as_here() -> None:
    hiss = np.convolve(noise(2, -40), np.ones(8) / 8, "same").astype(np.float32)  # less of it high up
    meter = BackgroundMeter(RATE, HOP)
    for frame in hiss[: hiss.size // HOP * HOP].reshape(-1, HOP):
        meter.take(frame)
    played = ComfortNoise(RATE)
    played.describe(meter.levels)
    sound = np.zeros(2 * RATE, np.float32)
    played.add(sound, np.ones(sound.size, bool))
    assert dbfs(rms(sound[RATE:])) == pytest.approx(dbfs(rms(hiss)), abs=1)
    again = BackgroundMeter(RATE, HOP)
    for frame in sound[RATE : RATE + 60 * HOP].reshape(-1, HOP):
        again.take(frame)
    for here, there in zip(meter.levels, again.levels, strict=True):
        assert here == pytest.approx(there, abs=6)  # 3 dB
    assert np.abs(np.diff(sound[LOOP - 100 : LOOP + 100])).max() < 0.05  # the loop has no seam


def test_nothing_is_played_of_nothing() -> None:
    silent = BackgroundMeter(RATE, HOP)
    assert silent.levels == bytes([NOTHING] * BANDS)
    silent.take(np.zeros(HOP, np.float32))
    assert silent.levels == bytes([NOTHING] * BANDS)
    played, sound = ComfortNoise(RATE), np.zeros(HOP, np.float32)
    played.describe(silent.levels)
    played.add(sound, np.ones(HOP, bool))
    assert not sound.any()


def test_other_levels_with_every_frame_cost_little() -> None:
    played, made = ComfortNoise(RATE), 0
    for number in range(300):
        before = played._loop
        played.describe(bytes([60 + number % 50] * BANDS))
        played.add(np.zeros(HOP, np.float32), np.ones(HOP, bool))
        made += played._loop is not before
    assert made == 4  # one a second
    played.describe(bytes([NOTHING] * BANDS))  # but silence at once
    sound = np.zeros(HOP, np.float32)
    played.add(sound, np.ones(HOP, bool))
    assert not sound.any()


def test_low_latency_stays_low_behind_a_pause() -> None:
    word = noise(0.8, -20, 1)
    pcm = np.concatenate([noise(2, -60), word, noise(3, -60), word])
    with_it, without = (call(pcm, Sine(), Sine(), 1, quiet=quiet).playout for quiet in (True, False))
    assert with_it.delay_us <= without.delay_us + 7_000
    assert with_it.jitter.delay.target_us == pytest.approx(without.jitter.delay.target_us, abs=7_000)


def test_noise_fades_in_and_out() -> None:
    played = ComfortNoise(RATE)
    played.describe(bytes([60] * BANDS))
    where = np.zeros(4 * HOP, bool)
    where[HOP : 2 * HOP] = True
    sound = np.zeros(where.size, np.float32)
    played.add(sound, where)
    assert not sound[:HOP].any()
    assert not sound[2 * HOP + 240 :].any()  # 10 ms
    assert rms(sound[HOP : HOP + 24]) < 0.2 * rms(sound[HOP + 240 : 2 * HOP])
