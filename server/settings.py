"""What a server allows. Every field can be set by an environment variable, EARSHOT_ and its name in
capitals."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from earshot.protocol.packet import MAX_FRAMES

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Milliseconds = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
LogLevel = Literal["debug", "info", "warning", "error"]


IDLE_NICE = 20
"""Stands for the idle scheduling class; one more than any niceness."""


class Settings(BaseSettings):
    """Limits and deadlines. The close code that a client gets for passing one is in
    docs/protocol.md."""

    model_config = SettingsConfigDict(env_prefix="EARSHOT_", frozen=True)

    model: str = "default"
    """The codec of those who talk: "default", "encodec_24khz" or a path."""

    max_rooms: Count = 256
    max_peers_per_room: Annotated[int, Field(ge=1, le=1200)] = 32
    """No more than 200 of them speak, because one message from the server has at most 255
    speakers. Everyone is told of everyone, so that a crowd costs by the square to come in."""
    max_rooms_per_address: Count = 128
    """Rooms that clients of one address opened. Here and in all that follows, an address of IPv6
    stands for its /64."""
    max_connections: Count = 1024
    max_connections_per_address: Count = 256
    joins_per_second: Rate = 20.0
    """Clients of one address that come into rooms: everyone there is told of each, and of its
    leaving."""
    join_burst: Count = 256

    max_half_made_per_address: Count = 64
    """Connections that have not brought a whole request. Those above it are closed unheard."""
    max_waiting_per_address: Count = 64
    """Connections that wait to be let in; the addresses take turns."""
    http_requests_per_second: Rate = 200.0
    """HTTP requests from one address, on connections that stay open too: each costs the event loop
    some 0.3 ms."""
    health_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """A second port, for health and figures alone, which no crowd at the first one blocks."""

    accept_interval_ms: Milliseconds = 10.0
    """Time between two new connections: each costs the event loop about 0.4 ms, and 200 at once
    were 0.1 s of silence."""

    max_message_bytes: Annotated[int, Field(ge=4096, le=1 << 17)] = 1 << 16
    messages_per_second: Rate = 150.0
    """Twice as many as one message a frame."""
    message_burst: Count = 450
    """At least what a client of one frame a message has said in `audio_burst_ms`, and its control
    messages."""
    control_per_second: Rate = 20.0
    """Limit for text messages: most of them go on to everyone in the room, so they are dearer than
    media."""
    control_burst: Count = 60
    change_interval_s: Seconds = 0.05
    """Time between two looks at what the peers of a room have changed (`set_rate`, `mute`): the
    others are told the newest state of each."""
    changes_per_second: Rate = 500.0
    """Copies of such news, one for each that is told, that one room may cause. What is over waits,
    and only its newest state; nobody is closed for it."""
    changes_burst: Annotated[int, Field(ge=200)] = 2000
    """At least what one change costs in a full room."""
    address_changes_per_second: Rate = 1000.0
    """The same for all clients of one address."""
    audio_burst_ms: Milliseconds = 5000.0
    """Audio that may come ahead of real time, for clients whose network stood still: all that they
    said meanwhile comes at once. A client takes a connection for dead after 6 s."""

    tokens: bool = False
    """Whether only those come in who have a token (docs/deploy.md), with the key in
    `token_key_file`, or in a file in the user's own folder, which is made if it is not there."""
    token_key_file: Path | None = None
    """A secret of at least 32 characters, or an Ed25519 key in PEM. It asks for `tokens`."""
    token_key: SecretStr | None = None
    """The same as text, for containers."""
    open: bool = False
    """Whether everyone comes in, those without a token too. That is so without a key anyway, but
    then `earshot serve` warns where others can reach it."""

    tls: str = ""
    """A PEM file with a certificate (and its key, unless `tls_key` has that), or "self-signed". The
    port for health and figures speaks plain HTTP all the same."""
    tls_key: Path | None = None

    allowed_origins: str = ""
    """Web pages that may use this server beside those of its own host: origins such as
    `https://calls.example.org`, with commas between."""
    allowed_hosts: str = ""
    """Names of this server, with commas between, that a Host header may have on a loopback address
    beside `localhost` and IP addresses."""
    stats_requests_per_second: Rate = 200.0
    """Requests for `/stats` and `/metrics` from one address."""
    weights_mb_per_second: Rate = 25.0
    """How fast the weights of the model go out, to all who fetch them together, after the first
    half a second's worth: calls need the line and the event loop, too."""
    stats_age_s: Seconds = 0.25
    """How long an answer of `/stats` is given again: to make one for many peers takes
    milliseconds of the event loop."""

    hello_timeout_s: Seconds = 5.0
    ping_interval_s: Seconds = 10.0
    ping_timeout_s: Seconds = 10.0
    close_timeout_s: Seconds = 2.0
    """Time that a client has to answer a close; what is then left of its connection is cut."""
    shutdown_timeout_s: Seconds = 5.0
    drain_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """How long calls may go on after SIGTERM, while no new rooms are taken; a second SIGTERM, or
    Ctrl-C, ends them at once. Whatever starts the server must let it take that long to end, and
    `shutdown_timeout_s` more: docker and systemd kill after a time of their own."""
    resume_s: Annotated[float, Field(ge=0, le=600)] = 10.0
    """How long the seat of a client is kept whose connection broke, if it asked for that. Seats are
    bounded as connections are, beside these. With 0 none is kept."""
    stats_interval_s: Seconds = 1.0
    log_level: LogLevel = "info"
    """What `earshot serve` logs to stderr. With "info" that includes the audit log: who joins,
    leaves or is refused, and recordings (server/audit.py)."""
    audit_lines_per_second: Count = 50
    """An attacker cannot fill a disk or hide in the log: each kind of event has its part of these,
    and more are counted."""
    stuck_after_s: Seconds = 2.0
    """Longest time that one step of a thread may take: a step of the codec, a write to disk, a turn
    of the event loop. After a longer one `/healthz` says that the thread is stuck."""

    ready_max_lag: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Part of the last 3 s that the event loop may be late for before `/readyz` says that this
    server should get no more calls."""

    join_after_ms: Milliseconds = 40.0
    """The degradation of docs/protocol.md, "Slow listeners": the age of what waits at which each
    rung begins."""
    cut_to_4_after_ms: Milliseconds = 120.0
    cut_to_2_after_ms: Milliseconds = 190.0
    drop_after_ms: Milliseconds = 250.0
    close_after_ms: Milliseconds = 3000.0
    recover_ms: Milliseconds = 1000.0
    """Calm that it takes to climb up one rung again."""
    max_waiting_control: Count = 512

    engine: str = "auto"
    """What the codec steps in, with its precision: names of earshot.codec.engine.choice, which
    refuses others."""
    precision: str = "fp32"
    workers: Annotated[int, Field(ge=0)] = 0
    """Encoder threads; 0 makes one for each core, or one for a GPU."""
    pin_workers: bool = False
    """Each encoder thread stays on a core of its own. With two cores that keeps threads from making
    way for the event loop and was slower (docs/capacity.md)."""
    worker_nice: Annotated[int, Field(ge=0, le=IDLE_NICE)] = 5
    """Niceness of encoder threads, on Linux: the event loop need not wait for the end of their time
    slice. With 20 they run only while nothing else in their control group wants to, and give way at
    once (SCHED_IDLE): right for a server that has its container, or its machine, to itself
    (docs/capacity.md)."""
    late_after: Annotated[float, Field(gt=0)] = 0.8
    """Longest time, in frames, that results may take: a new speaker is refused if they would take
    longer with it."""
    max_address_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Part of the speakers that this server can encode, and of those that it can decode for
    listeners to PCM, which one address may have, rounded up."""
    decoder_idle_s: Seconds = 30.0
    """Time without a packet after which a speaker's decoders close; its next packet opens them
    again."""
    encoders_per_worker: Count = 512
    """A bound of memory only."""
    decoders_per_worker: Count = 512
    max_batch: Count = 64
    max_entropy_links: Annotated[int, Field(ge=0)] = 128
    """Connections whose packets are entropy-coded, some 1.1 MB each at most; others get plain
    codes, and so do clients that come in while the encoder threads are busy for half of the time.
    `max_address_share` holds for these, too. With 0 none is coded."""
    encoder_backlog_frames: Annotated[int, Field(ge=MAX_FRAMES)] = MAX_FRAMES
    """More than that behind, a speaker's oldest frames are dropped. The longest packet of codes
    must fit."""

    write_high_water_bytes: Count = 4096
    """What waits below the send queues has an age that nobody bounds, so there it is bounded in
    bytes, and small."""
    socket_send_buffer_bytes: Count = 1 << 16

    bus: SecretStr = SecretStr("")
    """Address of the NATS server over which several nodes serve the same rooms: nats://HOST:4222,
    with a user and password if need be. Without it a server is alone."""
    node: str = ""
    """This node's name on the bus, of A-Z a-z 0-9 _ -; made from the host's if not given."""
    public_url: str = ""
    """Where clients reach this node, ws(s)://HOST: the other nodes tell theirs, for when they
    end."""
    bus_timeout_s: Annotated[float, Field(ge=0.5)] = 1.5
    """A node of which nothing is heard for so long is gone, and whoever is connected to it with
    it."""
    bus_tick_ms: Annotated[float, Field(ge=0, le=20)] = 1.0
    """Least time between two messages of media to the same node."""

    record_to: Path | None = None
    """Folder for recordings (docs/recordings.md). Nobody is recorded unless one of the next two
    says so."""
    record_rooms: str = ""
    """Rooms that are recorded whenever anybody is in them: names or patterns as a shell's, with
    commas between."""
    record_on_request: bool = False
    """Whether any peer may begin and end a recording of its room."""
    record_max_kbps: Annotated[float, Field(gt=0)] | None = None
    """What is kept of each speaker at most; None keeps what came."""
    record_max_mb: Annotated[float, Field(gt=0)] = 1000.0
    """Size of one recording at most."""
    record_max_hours: Annotated[float, Field(gt=0, le=48)] = 24.0
    record_max_at_once: Count = 16
    record_folder_mb: Annotated[float, Field(gt=0)] = 10_000.0
    """Size of all recordings in the folder at most; nothing is ever deleted or written over."""
    record_backlog_mb: Annotated[float, Field(gt=0)] = 4.0
    """Size of what may wait for the disk; more is lost to the recording, never to the call."""

    @property
    def forwarded_allow_ips(self) -> str:
        """Returns the proxies whose X-Forwarded-For is believed, as uvicorn reads them too."""
        return os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")

    @property
    def worker_count(self) -> int:
        if self.workers:
            return self.workers
        if self.engine == "cuda":
            return 1
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
