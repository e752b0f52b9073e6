"""A call in figures: for the view while it lasts, and as a report afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earshot.client.call import Call
from earshot.client.core.latency import STAGES
from earshot.client.core.traffic import Traffic
from earshot.client.local_clock import monotonic_us
from earshot.client.net.connection import Connection
from earshot.client.ui.view import QUIETEST_DB, EntropyState, SpeakerState, ViewState, decibels

RECENT = 5
"""Packets with a trace whose median is the latency that is shown: the last two or three seconds."""
TIMELINE_ROWS = 1000
"""Rows of the report's timeline, at most."""


def _percentiles(values: NDArray[np.float64]) -> dict[str, float] | None:
    """Returns the percentiles of microseconds, in milliseconds."""
    if not values.size:
        return None
    return {
        f"p{point}": round(float(value) / 1000, 3)
        for point, value in zip((50, 95, 99), np.percentile(values, (50, 95, 99)), strict=True)
    }


def _overhead_kbps(traffic: Traffic) -> float:
    """Returns the rate that headers add. A message carries several speakers, so the headers are
    those of all together."""
    return traffic.wire_kbps - traffic.codec_kbps


def view_state(call: Call) -> ViewState:
    """Returns what there is to see of a call at this moment."""
    now = monotonic_us()
    connection = call.connections[-1] if call.connections else None
    sender = connection.sender if connection else None
    entropy = _entropy(call, connection, now)
    return ViewState(
        name=call.settings.name,
        room=call.settings.room,
        server=call.settings.server,
        state=call.state,
        connected=call.state == "connected",
        detail=call.detail or call.source.notice or call.sink.notice or call.room.notice or call.line.notice,
        uplink=call.sends,
        send_kbps=call.kbps,
        muted=call.muted,
        level_db=decibels(call.talker.level),
        codec_kbps=sender.traffic.recent_codec_kbps if sender else 0.0,
        wire_kbps=connection.sent.recent_kbps(now) if connection else 0.0,
        heard_codec_kbps=connection.receiver.traffic.recent_codec_kbps_of_time(now) if connection else 0.0,
        heard_wire_kbps=connection.heard.recent_kbps(now) if connection else 0.0,
        latency=call.latency,
        round_trip_ms=None if call.clock.round_trip_us is None else call.clock.round_trip_us / 1000,
        seconds=call.seconds,
        reconnects=call.reconnects,
        codec_latency_ms=call.models.mine.config.latency_s * 1000,
        max_kbps=call.max_kbps,
        dropped=call.outbox.dropped + call.talker.blocks_dropped + call.source.overflows,
        loudspeaker_dry=call.sink.underflows,
        output_file=call.sink.file,
        recording=call.room.recording,
        recording_said=_recording_said(call, connection) if connection else "",
        speakers=_speakers(call, connection) if connection else [],
        entropy=entropy,
    )


def _entropy(call: Call, connection: Connection | None, now_us: int) -> EntropyState:
    coder = connection.coder if connection else None
    if coder is None:
        return EntropyState(call.coding is not None)
    sent, heard = coder.sent.recent(now_us), coder.heard.recent(now_us)
    return EntropyState(
        True,
        True,
        round(sent.plain_kbps, 3),
        round(sent.coded_kbps, 3),
        round(heard.plain_kbps, 3),
        round(heard.coded_kbps, 3),
        round(sent.cpu_share + heard.cpu_share, 4),
    )


def _recording_said(call: Call, connection: Connection) -> str:
    told = call.room.recording_told
    if told is None or told.reason:
        return "" if told is None else told.reason if told.on else f"not recorded: {told.reason}"
    if not told.on:
        return "not recorded"
    if told.by is None:
        return "the server began it"
    you = call.room.welcome is not None and told.by == call.room.welcome.peer
    return f"{'you' if you else connection.names.get(told.by) or f'peer {told.by}'} began it"


def _speakers(call: Call, connection: Connection) -> list[SpeakerState]:
    receiver, figures = connection.receiver, connection.receiver.stats()
    room_ms = call.models.talk.config.latency_s * 1000 if call.models.talk else 0.0
    speakers = []
    for peer in sorted(call.room.peers.copy().values(), key=lambda peer: peer.id):
        name = peer.name or f"peer {peer.id}"
        heard, log = figures.get(peer.id), receiver.latency_of(peer.id)
        model = peer.model
        state = SpeakerState(
            name,
            muted=peer.muted,
            volume_db=call.volumes_db.get(peer.name, 0.0),
            music=model.name if model else "",
            decodable=model is None or (receiver.windows is not None and receiver.windows.can_decode(model)),
            codec_latency_ms=model.latency_s * 1000 if model else room_ms,
        )
        if heard is None:
            speakers.append(state)
            continue
        recent = log.rows()[-RECENT:, 1:].sum(axis=1) if log else np.zeros(0)
        speakers.append(
            replace(
                state,
                level_db=max(heard.level_dbfs, QUIETEST_DB),
                codec_kbps=heard.codec_kbps,
                wire_kbps=heard.codec_kbps + _overhead_kbps(receiver.traffic) if heard.codec_kbps else 0.0,
                mouth_to_ear_ms=float(np.median(recent)) / 1000 if recent.size else None,
                buffer_ms=heard.playout_delay_ms,
                underruns=heard.underruns,
                missing=heard.frames_missing,
            )
        )
    return speakers


def call_report(call: Call) -> dict[str, Any]:
    """Returns everything about a call that is over, ready for JSON.

    Times ending in `_us` are those of this machine's monotonic clock. `codec_kbps` is without any
    header. Rates of speakers, and the codec rate of what was sent, are bits a second of audio that
    was sent; `wire_kbps` of `sent`, and the rates of `received`, are bits a second of the call,
    control messages and silence included. Figures are those of the last connections."""
    traffics = [connection.sender.traffic for connection in call.connections if connection.sender]
    samples = sum(traffic.samples for traffic in traffics)
    seconds = samples / call.models.mine.config.sample_rate
    return {
        "name": call.settings.name,
        "peer": call.room.welcome.peer if call.room.welcome else None,
        "room": call.settings.room,
        "model": {"name": call.models.mine.config.name, "digest": call.models.mine.digest},
        "codec_latency_ms": round(call.models.mine.config.latency_s * 1000, 3),
        "also": {digest: model.config.name for digest, model in call.models.windows.items()},
        "uplink": call.sends,
        "kbps": call.kbps,
        "clock": {"offset_us": call.clock.offset_us, "round_trip_us": call.clock.round_trip_us},
        "spoken_start_us": call.source.started_us,
        "heard_start_us": call.sink.started_us,
        "seconds": round(call.seconds, 3),
        "reconnects": call.reconnects,
        "resumes": call.resumes,
        "sent": {
            "frames": sum(traffic.frames for traffic in traffics),
            "messages": sum(traffic.messages for traffic in traffics),
            "silent_frames": sum(each.sender.frames_silent for each in call.connections if each.sender),
            # PCM has no codec rate here: its cost is in wire_kbps, and its codec rate is what the
            # listeners get.
            "codec_kbps": _kbps(sum(traffic.payload_bytes for traffic in traffics), seconds)
            if call.sends == "codes"
            else None,
            "wire_kbps": _kbps(sum(each.sent.bytes for each in call.connections), call.seconds),
            "dropped_messages": call.outbox.dropped,
            "dropped_blocks": call.talker.blocks_dropped,
            "unsent_blocks": call.talker.blocks_unsent,
        },
        "received": {
            "messages": sum(each.heard.messages for each in call.connections),
            "codec_kbps": _kbps(sum(each.receiver.traffic.payload_bytes for each in call.connections), call.seconds),
            "wire_kbps": _kbps(sum(each.heard.bytes for each in call.connections), call.seconds),
        },
        "devices": {"overflows": call.source.overflows, "underflows": call.sink.underflows},
        "malformed_messages": call.malformed,
        "unheard_messages": call.unheard,
        "entropy": _entropy_report(call),
        "speakers": _speaker_reports(call),
        "server_stats": call.room.server_stats.model_dump(exclude={"type"}) if call.room.server_stats else None,
    }


def _entropy_report(call: Call) -> dict[str, Any] | None:
    """Returns the bytes of codes that were sent and heard entropy-coded, and the part of one core
    that this took. Returns None without entropy coding."""
    coders = [each.coder for each in call.connections if each.coder]
    if not coders:
        return None
    report: dict[str, Any] = {"model": coders[-1].digest}
    for way, meters in (("sent", [coder.sent for coder in coders]), ("heard", [coder.heard for coder in coders])):
        plain = sum(meter.total.plain_bytes for meter in meters)
        coded = sum(meter.total.coded_bytes for meter in meters)
        report[way] = {"plain_bytes": plain, "coded_bytes": coded}
    cpu_us = sum(coder.sent.total.cpu_us + coder.heard.total.cpu_us for coder in coders)
    return report | {"cpu_share": round(cpu_us / 1e6 / call.seconds, 5) if call.seconds else 0.0}


def _kbps(size: int, seconds: float) -> float:
    return round(size * 8 / seconds / 1000, 3) if seconds else 0.0


def _speaker_reports(call: Call) -> dict[str, dict[str, Any]]:
    reports = {}
    for number, connection in enumerate(call.connections):
        for peer, figures in connection.receiver.stats().items():
            # A server that has restarted gives the same ids to other peers.
            key = str(peer) if str(peer) not in reports else f"{peer}.{number}"
            log = connection.receiver.latency_of(peer)
            rows = log.rows() if log else np.zeros((0, 1 + len(STAGES)))
            reports[key] = {
                "name": connection.names.get(peer, ""),
                "codec_kbps": round(figures.codec_kbps_total, 3),
                "wire_kbps": round(figures.codec_kbps_total + _overhead_kbps(connection.receiver.traffic), 3),
                "frames": figures.frames_played,
                "missing": figures.frames_missing,
                "late": figures.frames_late,
                "underruns": figures.underruns,
                "underrun_ms": round(figures.underrun_ms, 1),
                "stretched_ms": round(figures.samples_stretched / figures.sample_rate * 1000, 1),
                "compressed_ms": round(figures.samples_compressed / figures.sample_rate * 1000, 1),
                "codec_latency_ms": round(figures.codec_latency_ms, 3),
                "mouth_to_ear_ms": _percentiles(rows[:, 1:].sum(axis=1)),
                "stages_ms": {stage: _percentiles(rows[:, index + 1]) for index, stage in enumerate(STAGES)},
                "timeline": _timeline(rows, call.began_us or 0),
            }
    return reports


def _timeline(rows: NDArray[np.float64], began_us: int) -> list[list[float]]:
    """Returns at most TIMELINE_ROWS rows: [seconds since the call began, then the STAGES in ms].
    Each row is the mean of a part of the call."""
    if not len(rows):
        return []
    parts = (part.mean(axis=0) for part in np.array_split(rows, min(TIMELINE_ROWS, len(rows))))
    return [
        [round((part[0] - began_us) / 1e6, 3), *(round(float(stage) / 1000, 3) for stage in part[1:])] for part in parts
    ]
