/**
 * A call: connections one after the other, the frames of the microphone on their way out, and blocks for
 * the loudspeaker. It connects again by itself.
 */
import { ContextClock } from "../core/context_clock.js";
import { SILENCE_DBFS, dbfs } from "../core/level.js";
import { BusyMeter } from "./busy_meter.js";
import { Connection, PACES } from "./connection.js";
import { Fault } from "./fault.js";
import { Line } from "./line.js";

const BACKOFF_MS = 500, BACKOFF_MAX_MS = 5000;
/** Blocks between two sets of figures: 0.1 s. */
const BLOCKS_PER_FIGURES = 15;
/** The close code of a server that has no time to code for one more. */
const BUSY = 4013;
/** A frame of the microphone that waited longer than this for this thread is not sent. */
const MAX_FRAME_AGE_US = 250_000;

/** @typedef {Omit<import("./connection.js").Purpose, "time_us" | "line">} Settings */

/** Reads the local clock, in microseconds. */
const time_us = () => Math.round(performance.now() * 1000);
const wait = (/** @type {number} */ ms) => new Promise((done) => setTimeout(done, ms));

export class Call {
    #purpose;
    #tell;
    /** @type {Connection | null} */ #connection = null;
    /** What is played, also between two connections. @type {import("./seat.js").Seat | null} */ #seat = null;
    #context = new ContextClock();
    #busy = new BusyMeter();
    #left = false;
    #reconnects = 0;
    #input_us = 0;
    #output_us = 0;
    #blocks = 0;
    #framesOld = 0;
    /** @type {{dry: number, depth_ms: number}} */ #output = { dry: 0, depth_ms: 0 };
    /** @type {Map<number, number>} */ #volumes = new Map();

    /** @param {Settings} settings @param {(event: object) => void} tell takes what the page shows */
    constructor(settings, tell) {
        const { codec, kbps, latency, model } = settings;
        this.#purpose = { ...settings, time_us, line: new Line({ frames: PACES[latency].frames, kbps }, model.bandwidths, model.frame_rate) };
        this.#purpose.line.thrifty = PACES[latency].thrifty;
        this.#tell = tell;
        if (codec) this.#purpose.codec = this.#busy.watch(codec);
    }

    /** Stays in the room until `leave`, or until another try would be of no use. Throws Fault then. */
    async run() {
        for (let pause = BACKOFF_MS; !this.#left;) {
            const connection = new Connection(this.#purpose, this.#seat, () => this.#room());
            this.#connection = connection;
            const fault = await connection.over, { joined, seat } = connection;
            this.#connection = null;
            const goesOn = seat.secret !== "" && !this.#left && !fault.final;
            if (!goesOn) seat.close();
            this.#seat = goesOn ? seat : null;
            if (this.#left) return;
            if (fault.final) throw fault;
            if (fault.code === BUSY && !this.#purpose.codec && this.#purpose.spare) {
                this.#purpose.codec = this.#busy.watch(this.#purpose.spare);
                seat.close();
                this.#seat = null;
                continue;
            }
            if (joined) {
                pause = BACKOFF_MS;
                this.#reconnects++;
            }
            this.#tell({ kind: "state", state: joined || this.#reconnects ? "reconnecting" : "connecting", detail: fault.message });
            await wait(pause * (0.5 + Math.random() / 2)); // so that not all come at once when a server restarts
            pause = Math.min(2 * pause, BACKOFF_MAX_MS);
        }
    }

    leave() {
        this.#left = true;
        this.#connection?.close();
    }

    /** Sets what the browser says of its devices. @param {number} input_ms @param {number} output_ms */
    setLatencies(input_ms, output_ms) {
        this.#input_us = input_ms * 1000;
        this.#output_us = output_ms * 1000;
    }

    /** @param {boolean} muted */
    mute(muted) {
        this.#purpose.muted = muted;
        if (this.#connection) this.#connection.mute(muted);
        else this.#seat?.mute(muted, time_us());
        this.#room();
    }

    /** @param {number} kbps */
    setRate(kbps) {
        this.#purpose.kbps = kbps;
        this.#purpose.line.want({ kbps });
        this.#connection?.setRate(kbps);
    }

    /** @param {import("./connection.js").Latency} latency */
    setLatency(latency) {
        this.#purpose.latency = latency;
        this.#purpose.line.thrifty = PACES[latency].thrifty;
        this.#purpose.line.want({ frames: PACES[latency].frames });
        this.#connection?.setLatency(latency);
    }

    /** @param {boolean} quiet */
    setQuiet(quiet) {
        this.#purpose.quiet = quiet;
        this.#connection?.setQuiet(quiet);
    }

    /** @param {number} peer @param {number} volume */
    setVolume(peer, volume) {
        this.#volumes.set(peer, volume);
        this.#connection?.seat.receiver.setVolume(peer, volume);
    }

    /** @param {string} action @param {number | null} peer */
    moderate(action, peer) { this.#connection?.moderate(action, peer); }

    /** @param {boolean} on */
    record(on) { this.#connection?.record(on); }

    /** Takes frames from a capture worklet. @param {MessagePort} port */
    listenTo(port) {
        port.onmessage = ({ data: { pcm, now_s, end_s } }) => {
            const now_us = time_us();
            this.#context.observe(now_s, now_us);
            const ended_us = this.#context.local_us(end_s);
            if (now_us - ended_us > MAX_FRAME_AGE_US) return void this.#framesOld++;
            const length_us = (pcm.length * 1e6) / this.#purpose.model.sample_rate;
            const seat = this.#connection?.seat ?? this.#seat;
            const messages = seat?.speak(pcm, Math.round(ended_us - length_us - this.#input_us), now_us) ?? [];
            this.#connection?.send(messages);
        };
    }

    /** Fills the queue of a playback worklet. @param {MessagePort} port */
    playTo(port) {
        port.onmessage = ({ data: { need, at_s, now_s, depth_ms, dry } }) => {
            const now_us = time_us();
            this.#context.observe(now_s, now_us);
            // What is asked for late is played late.
            const heard_us = Math.max(this.#context.local_us(at_s), now_us) + this.#output_us;
            const pcm = (this.#connection?.seat ?? this.#seat)?.receiver.pull(need, now_us, heard_us) ?? new Float32Array(need);
            port.postMessage(pcm, [pcm.buffer]);
            this.#output = { dry, depth_ms };
            if (++this.#blocks % BLOCKS_PER_FIGURES === 0) this.#figures(time_us());
        };
    }

    /** Tells the page who is in the room. */
    #room() {
        const connection = this.#connection;
        if (!connection?.joined) return;
        if (connection.seat !== this.#seat) this.#volumes.clear(); // they were for the ids of another seat
        this.#seat = connection.seat;
        for (const [peer, volume] of this.#volumes) connection.seat.receiver.setVolume(peer, volume);
        const { welcome, recording, recordingReason, locked, endsWithin_s, seat: { peers, silencedBy } } = connection;
        this.#tell({ kind: "state", state: "connected", detail: "" });
        this.#tell({ kind: "room", me: welcome.peer, room: welcome.room, may: welcome.may, peers: [...peers.values()], recording, recordingReason,
            locked, silencedBy, endsWithin_s, muted: this.#purpose.muted, resumed: welcome.resumed ?? false });
    }

    /** Tells the page how it sounds. @param {number} now_us */
    #figures(now_us) {
        const connection = this.#connection;
        if (!connection?.joined) return;
        const { sender, receiver, clock } = connection.seat;
        this.#tell({
            kind: "figures",
            speakers: receiver.stats(now_us),
            latency: receiver.latency.recent(4),
            level_dbfs: sender && !sender.muted ? dbfs(sender.level) : SILENCE_DBFS,
            up: { codecKbps: sender?.traffic.codecKbps(now_us) ?? 0, wireKbps: connection.sent.kbps(now_us),
                dropped: connection.dropped + this.#framesOld, silent: sender?.framesSilent ?? 0,
                slow: this.#purpose.line.slow },
            down: { codecKbps: receiver.traffic.codecKbps(now_us), wireKbps: connection.heard.kbps(now_us) },
            roundTrip_ms: (clock.roundTrip_us ?? 0) / 1000,
            codec: this.#busy.figures(),
            output: this.#output,
            malformed: connection.malformed,
            reconnects: this.#reconnects,
            lost: connection.stats?.frames_discarded ?? 0,
        });
    }
}

export { Fault };
