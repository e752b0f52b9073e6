/**
 * One WebSocket from hello to its close, with what belongs to it. It takes the seat that the one before had,
 * where the server has kept that; otherwise all begins anew, and ids of peers may be different ones.
 */
import { Economy } from "../core/economy.js";
import { ProtocolError, decodeDown } from "../core/packet.js";
import { Sender } from "../core/sender.js";
import { LinkReader, LinkWriter } from "../core/short_headers.js";
import { WireMeter } from "../core/traffic.js";
import { Fault } from "./fault.js";
import { Outbox } from "./outbox.js";
import { Seat } from "./seat.js";

const SUBPROTOCOL = "earshot.v1", PROTOCOL = 1;
const FIRST_PINGS = 5, FIRST_PING_EVERY_MS = 40;
/** Time between two packets that say when what happened to them. */
const TRACE_EVERY_US = 200_000;
/** A server that says nothing for so long is gone; it answers pings. */
const SILENT_MS = 6000;
/** Time between two looks at what waits for the network. */
const LOOK_EVERY_MS = 50;
/** Time after which a connection is closed that nothing came from: no server keeps a seat for longer. */
const FORGOTTEN_MS = 60_000;

/**
 * A peer of the room (docs/protocol.md).
 * @typedef {{id: number, name: string, send: string, want: string, send_kbps: number, max_kbps: number, muted: boolean,
 *     model: object | null}} Peer
 * What a call saves: time, or bits on the wire (client/settings.py).
 * @typedef {"low" | "balanced" | "thrift"} Latency
 * What a connection is made for. With `quiet` silence is not sent. `codec` null leaves coding to the server; `spare` codes here, slowly, where
 * that has no time for it.
 * @typedef {{url: string, name: string, token: string | null, speaks: boolean, kbps: number, latency: Latency,
 *     muted: boolean, quiet: boolean, codec: import("../codec/codec.js").Codec | null, spare?: import("../codec/codec.js").Codec | null, model: import("./model.js").Model,
 *     line: import("./line.js").Line, time_us: () => number}} Purpose
 */

/** @type {Record<Latency, {frames: number, pingEvery_ms: number, statsEvery_s: number, thrifty: boolean}>} as in client/settings.py */
export const PACES = { low: { frames: 1, pingEvery_ms: 1000, statsEvery_s: 1, thrifty: true },
    balanced: { frames: 3, pingEvery_ms: 2500, statsEvery_s: 5, thrifty: false },
    thrift: { frames: 7, pingEvery_ms: 2500, statsEvery_s: 10, thrifty: true } };

export class Connection {
    /** @type {any} what the server said of the room and of this client */ welcome = null;
    recording = false;
    /** Why the room is not recorded, where that was asked for. */
    recordingReason = "";
    locked = false;
    /** @type {number | null} how soon the server ends, null if nothing is known of that */ endsWithin_s = null;
    /** Messages that could not be read. */
    malformed = 0;
    /** @type {any} what the server last counted */ stats = null;
    /** All that came. */
    heard = new WireMeter(false);
    /** Settles when the connection is over. @type {Promise<Fault>} */ over;
    #purpose;
    #socket;
    #outbox;
    /** Reads packets with short headers, where they are agreed on. @type {LinkReader | null} */ #reader = null;
    /** @type {Fault | null} */ #fault = null;
    /** @type {(fault: Fault) => void} */ #end = () => {};
    #heard_ms = performance.now();
    #pings = 0;
    #economy;
    /** Frames that the server was asked to put into a message. */
    #asked = 0;
    #reported_ms = -Infinity;
    /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
    /** @type {ReturnType<typeof setInterval> | undefined} */ #looking;
    #changed;

    /** @param {Purpose} purpose @param {Seat | null} before what the connection before had
     * @param {() => void} changed is called when something of the room has changed */
    constructor(purpose, before, changed) {
        this.#purpose = purpose;
        this.#changed = changed;
        this.#economy = new Economy(purpose.model.frame_rate);
        this.seat = before ?? new Seat(purpose);
        this.#socket = new WebSocket(purpose.url, SUBPROTOCOL);
        this.#socket.binaryType = "arraybuffer";
        this.#outbox = new Outbox(this.#socket, purpose.time_us);
        this.over = new Promise((settle) => { this.#end = settle; });
        this.#socket.onclose = ({ code, reason }) => {
            this.#stop();
            this.#end(this.#fault ?? this.#closed(code, reason));
        };
        this.#socket.onopen = () => this.#hello();
        this.#socket.onmessage = ({ data }) => this.#message(data);
        this.#timer = setTimeout(() => this.#keepTime(), SILENT_MS);
    }

    /** Media messages that the network did not take in time. */
    get dropped() { return this.#outbox.dropped; }

    /** All that was sent. */
    get sent() { return this.#outbox.meter; }

    get joined() { return this.welcome !== null; }

    /** Sends what is said, if there is somebody to say it to. @param {Uint8Array<ArrayBuffer>[]} messages */
    send(messages) { if (this.joined) for (const message of messages) this.#outbox.media(message); }

    /** @param {boolean} muted */
    mute(muted) {
        this.#purpose.muted = muted;
        this.send(this.seat.mute(muted, this.#purpose.time_us()));
        if (this.joined) this.#outbox.tell({ type: "mute", muted });
    }

    /** Takes another codec rate, of both directions. @param {number} kbps */
    setRate(kbps) {
        this.#steer();
        if (this.joined) this.#outbox.tell({ type: "set_rate", send_kbps: kbps, max_kbps: kbps });
    }

    /** Sets how many frames messages hold, both ways. @param {Latency} latency */
    setLatency(latency) {
        this.#purpose.latency = latency;
        this.#steer();
        this.#ask(this.#pace.frames);
    }

    /** Asks the server for so many frames in a message. @param {number} frames */
    #ask(frames) {
        if (this.joined && frames !== this.#asked) this.#outbox.tell({ type: "set_rate", frames: this.#asked = frames });
    }

    /** Sets whether silence is not sent. @param {boolean} quiet */
    setQuiet(quiet) {
        this.#purpose.quiet = quiet;
        this.#steer();
    }

    /** Mutes, unmutes or removes a peer, or locks the room. @param {string} action @param {number | null} peer */
    moderate(action, peer) { this.#outbox.tell({ type: "moderate", action, peer }); }

    /** Asks for a recording of the room, or for its end. @param {boolean} on */
    record(on) { this.#outbox.tell({ type: "record", on }); }

    close() { this.#socket.close(1000); }

    get #pace() { return PACES[this.#purpose.latency]; }

    /** @param {number} kbps */
    #codebooks(kbps) {
        const { model } = this.#purpose;
        return Math.max(1, Math.min(model.n_codebooks, Math.floor(kbps / ((10 * model.frame_rate) / 1000) + 1e-9)));
    }

    #hello() {
        const { name, model, codec, speaks, kbps, token, line } = this.#purpose, form = codec ? "codes" : "pcm";
        this.#asked = this.#pace.frames;
        this.#outbox.tell({ type: "hello", protocol: PROTOCOL, name, model: model.digest, send: speaks ? form : "none", want: form,
            send_kbps: line.amount.kbps, max_kbps: kbps, trace: true, token, silence: true, short_headers: true,
            frames: this.#asked, stats_every_s: this.#pace.statsEvery_s, resume: this.seat.secret });
    }

    /** @param {number} code @param {string} reason */
    #closed(code, reason) {
        if (code >= 4000) return new Fault("refused", reason || `The server closed the connection (code ${code}).`, code);
        return new Fault("unreachable", this.joined ? "The connection to the server broke off." : "The server does not answer.");
    }

    /** @param {string | ArrayBuffer} data */
    #message(data) {
        this.#heard_ms = performance.now();
        this.heard.add(this.#purpose.time_us(), typeof data === "string" ? data.length : data.byteLength);
        try {
            if (typeof data === "string") this.#hear(JSON.parse(data), this.#purpose.time_us());
            else this.seat.receiver.take(this.#read(data), this.#purpose.time_us());
        } catch (error) {
            if (!(error instanceof ProtocolError || error instanceof SyntaxError)) throw error;
            this.malformed++;
        }
    }

    /** Reads a binary message. After one that cannot be read, short headers would be misread. @param {ArrayBuffer} data */
    #read(data) {
        try {
            return this.#reader?.down(data) ?? decodeDown(data);
        } catch (error) {
            if (this.#reader && error instanceof ProtocolError) this.#abandon(`The server's packets cannot be read (${error.message}).`);
            throw error;
        }
    }

    /** Gives the connection up. A polite close that came late would end the seat: this one says nothing until all is over.
     * @param {string} why */
    #abandon(why) {
        this.#stop();
        const socket = this.#socket;
        socket.onclose = socket.onmessage = socket.onopen = null;
        setTimeout(() => socket.close(), this.joined ? FORGOTTEN_MS : 0);
        this.#end(new Fault("unreachable", why));
    }

    /** Takes the seat that the server gives, the one before or a new one. @param {any} told @param {number} now_us */
    #sit(told, now_us) {
        this.welcome = told;
        if (told.short_headers) {
            this.#reader = new LinkReader(told.model.hop_length);
            this.#outbox.writer = new LinkWriter(told.model.hop_length);
        }
        this.recording = told.recording ?? false;
        this.locked = told.locked ?? false;
        if (this.seat.secret && !told.resumed) {
            this.seat.close();
            this.seat = new Seat(this.#purpose);
        }
        this.seat.secret = told.resume ?? "";
        this.#purpose.line.begin(now_us);
        this.#looking = setInterval(() => this.#look(), LOOK_EVERY_MS);
        this.seat.meetAll(told.peers);
        if (this.seat.sender) {
            this.#steer();
            this.#outbox.tell({ type: "mute", muted: this.#purpose.muted });
            this.send(this.seat.missed(told.next_sequence ?? null, now_us));
        }
    }

    /** @param {any} told @param {number} now_us */
    #hear(told, now_us) {
        switch (told.type) {
            case "welcome":
                this.#sit(told, now_us);
                this.#keepTime();
                break;
            case "peer_joined":
            case "peer_changed":
                this.seat.meet(told.peer);
                break;
            case "peer_left":
                this.seat.leave(told.id);
                break;
            case "recording":
                this.recording = told.on;
                this.recordingReason = told.reason ?? "";
                break;
            case "moderated":
                this.#moderated(told);
                break;
            case "draining":
                this.endsWithin_s = told.within_s;
                break;
            case "stats":
                this.stats = told;
                return;
            case "pong":
                if (this.seat.clock.pong(told, now_us) && !this.seat.sender && this.#purpose.speaks && this.#pings >= FIRST_PINGS) this.#beginSpeech();
                return;
            case "error":
                this.#fault = new Fault("refused", told.message, told.code);
                return;
            default:
                return; // a later version of the protocol
        }
        this.#changed();
    }

    /** @param {{action: string, by: number | null, peer: number | null}} done */
    #moderated({ action, by, peer }) {
        if (action === "lock" || action === "unlock") this.locked = action === "lock";
        else if (peer === this.welcome?.peer) {
            this.seat.silencedBy = action === "mute" ? this.seat.peers.get(by ?? 0)?.name || "a moderator" : null;
            if (this.seat.silencedBy) this.mute(true);
        }
    }

    #beginSpeech() {
        const { model, time_us, muted } = this.#purpose, { seat } = this;
        seat.sender = new Sender({ encoder: seat.openEncoder(), hop: model.hop_length, sampleRate: model.sample_rate,
            clock: seat.clock, time_us, framesPerPacket: this.#purpose.line.amount.frames, traceEvery_us: TRACE_EVERY_US });
        this.#steer();
        if (muted) this.#outbox.tell({ type: "mute", muted });
    }

    /** Sends less where the line is thin, and as much as is wanted where it is not. */
    #look() {
        const { line, codec, time_us } = this.#purpose, now_us = time_us(), { sender } = this.seat;
        if (codec && sender && line.observe(this.#outbox.age_us(now_us), this.seat.clock, sender.traffic.frames, now_us)) this.#steer();
    }

    #stop() {
        clearTimeout(this.#timer);
        clearInterval(this.#looking);
    }

    /** Lets the sender do what is wanted now. */
    #steer() {
        const { sender } = this.seat, { muted, quiet } = this.#purpose;
        if (!sender) return;
        const { frames, kbps } = this.#purpose.line.amount;
        sender.codebooks = this.#codebooks(kbps);
        sender.framesPerPacket = frames;
        sender.quiet = quiet && Boolean(this.welcome?.silence ?? sender.quiet);
        sender.muted = muted;
    }

    /** Compares the clocks, at first in quick succession, and reports once a second how well one hears. */
    #keepTime() {
        clearTimeout(this.#timer);
        if (performance.now() - this.#heard_ms > SILENT_MS) return this.#abandon("Nothing comes from the server any more.");
        if (this.joined) {
            this.#outbox.tell(this.seat.clock.ping(this.#purpose.time_us()));
            if (++this.#pings > FIRST_PINGS && performance.now() - this.#reported_ms >= this.#pace.statsEvery_s * 1000) this.#report();
            this.#economise(this.#purpose.time_us());
        }
        this.#timer = setTimeout(() => this.#keepTime(), this.#pings < FIRST_PINGS ? FIRST_PING_EVERY_MS : this.#pace.pingEvery_ms);
    }

    /** Asks for as few frames in a message as silence has paid for. @param {number} now_us */
    #economise(now_us) {
        const { traffic } = this.seat.receiver, { frames, thrifty } = this.#pace;
        this.#economy.note(traffic.frames, now_us);
        this.#ask(thrifty ? frames : this.#economy.choose(frames, traffic.allCodecKbps));
    }

    #report() {
        this.#reported_ms = performance.now();
        const figures = this.seat.receiver.stats(this.#purpose.time_us());
        const sum = (/** @type {"underruns" | "played" | "missing"} */ name) => figures.reduce((all, each) => all + each[name], 0);
        this.#outbox.tell({ type: "report", playout_delay_ms: Math.max(0, ...figures.map((each) => each.delay_ms)),
            underruns: sum("underruns"), frames_played: sum("played"), frames_missing: sum("missing") });
    }
}
