/**
 * What a page does with sound on its way out: samples go in and messages come out. The twin of
 * client/core/sender.py.
 */
import { BITS } from "./bitstream.js";
import { BackgroundMeter } from "./background_meter.js";
import { dbfs, rms, sanitize, toS16 } from "./level.js";
import { concat, mod } from "./numbers.js";
import { encodeCodesUp, encodePcmUp, encodeSilenceUp } from "./packet.js";
import { SEQUENCE_MODULUS, TIMESTAMP_MODULUS } from "./sequence.js";
import { SendTimeline } from "./timeline.js";
import { Traffic } from "./traffic.js";
import { VoiceActivity } from "./voice_activity.js";

/** Time between two frames more in a packet. */
const MORE_FRAMES_S = 0.5;
/** Frames of silence that are sent after all, right before speech: one less than in a packet, so that the packet goes at once
 * with the first frame of speech, but so many at least and at most. */
const LEAST_PRE_ROLL = 2, MOST_PRE_ROLL = 8;
/** Time between two signs of the same silence. */
const SIGN_EVERY_S = 4;

/** @typedef {{step(pcm: Float32Array, codebooks: number): Int16Array}} Encoder what a sender needs of the codec */
/** @typedef {{codes: Int16Array, position: number, captured_us: number, framed_us: number, encoded_us: number}} Coded a frame that is not yet sent */

/** Cuts frames, encodes them, numbers them and traces them. Without an encoder it sends samples. */
export class Sender {
    muted = false;
    /** How many codes the next frame gets. */
    codebooks = 1;
    /** What packets should hold: fewer at once, more one by one, so that the jitter buffers of listeners grow before they must. */
    framesPerPacket = 1;
    /** Root mean square of the last block, also while muted. */
    level = 0;
    samplesLost = 0;
    framesMuted = 0;
    /** Frames that were not sent because nobody spoke in them. */
    framesSilent = 0;
    /** Whether silence is told of and not sent. */
    quiet;
    #encoder;
    #hop;
    #time_us;
    #timeline;
    #frames;
    #moreAt = 0;
    #moreAfter;
    #rest = new Float32Array(0);
    /** @type {Coded[]} */ #waiting = [];
    #made = 1;
    #activity;
    #background;
    /** @type {number | null} position of the last sign of silence, null while frames are sent */ #silentSince = null;
    #signEvery;
    /** @type {Coded[]} the last frames of silence, which are sent after all if speech follows */ #held = [];

    /**
     * @param {{encoder: Encoder | null, hop: number, sampleRate: number, clock: import("./clock.js").ServerClock,
     *     time_us: () => number, framesPerPacket?: number, traceEvery_us?: number, quiet?: boolean}} parts `time_us` reads the
     *     local clock after encoding; there is a trace for what was captured `traceEvery_us` after the last one was for; with
     *     `quiet` silence is not sent, where codes are, but told of
     */
    constructor({ encoder, hop, sampleRate, clock, time_us, framesPerPacket = 1, traceEvery_us = 0, quiet = false }) {
        this.traffic = new Traffic(sampleRate);
        this.#encoder = encoder;
        this.#hop = hop;
        this.#time_us = time_us;
        this.#timeline = new SendTimeline(sampleRate, clock, traceEvery_us);
        this.framesPerPacket = this.#frames = framesPerPacket;
        this.#moreAfter = Math.round(MORE_FRAMES_S * sampleRate);
        this.#signEvery = Math.round(SIGN_EVERY_S * sampleRate);
        this.#activity = new VoiceActivity(sampleRate / hop);
        this.#background = new BackgroundMeter(sampleRate, hop);
        this.quiet = quiet;
    }

    /**
     * Takes samples, the first of which was captured at `captured_us`, and returns the messages to send now.
     * @param {Float32Array<ArrayBuffer>} pcm @param {number} captured_us @param {number} now_us
     * @returns {Uint8Array<ArrayBuffer>[]}
     */
    push(pcm, captured_us, now_us) {
        if (!pcm.length) return [];
        sanitize(pcm);
        this.level = rms(pcm);
        const messages = this.#follow(pcm.length, captured_us, now_us);
        return [...messages, ...this.#send(pcm, now_us)];
    }

    /** Ends a talk and returns its last messages. @param {number} now_us */
    flush(now_us) { return [...this.#fillFrame(now_us), ...this.#sendWaiting(now_us)]; }

    /** Keeps the capture time. A gap ends the frame with silence and moves the timestamp on.
     * @param {number} samples @param {number} captured_us @param {number} now_us */
    #follow(samples, captured_us, now_us) {
        /** @type {Uint8Array<ArrayBuffer>[]} */ let messages = [];
        const lost = this.#timeline.lost(captured_us);
        if (lost) {
            this.samplesLost += lost;
            const filled = mod(-this.#rest.length, this.#hop);
            messages = this.flush(now_us);
            this.#timeline.skip(Math.max(lost - filled, 0));
            this.#held = [];
        }
        this.#timeline.follow(captured_us);
        this.#timeline.advance(samples);
        return messages;
    }

    /** @param {number} now_us */
    #fillFrame(now_us) {
        const missing = mod(-this.#rest.length, this.#hop);
        if (!missing) return [];
        this.#timeline.advance(missing);
        return this.#send(new Float32Array(missing), now_us);
    }

    /** @param {Float32Array<ArrayBuffer>} pcm @param {number} now_us */
    #send(pcm, now_us) {
        const stream = concat([this.#rest, pcm]), hop = this.#hop, count = Math.floor(stream.length / hop);
        this.#rest = stream.slice(count * hop);
        /** @type {Uint8Array<ArrayBuffer>[]} */ const messages = [];
        for (let i = 0; i < count; i++) {
            const { position } = this.#timeline, captured = this.#timeline.captured_us(stream.length - i * hop);
            this.#timeline.position += hop;
            if (this.muted) {
                this.framesMuted++;
                this.#silentSince = null;
                this.#held = [];
                messages.push(...this.#sendWaiting(now_us));
            } else messages.push(...this.#frame(stream.slice(i * hop, (i + 1) * hop), position, captured, now_us));
        }
        return messages;
    }

    /** @param {Float32Array} frame @param {number} position @param {number} captured_us @param {number} now_us */
    #frame(frame, position, captured_us, now_us) {
        if (!this.#encoder) {
            const trace = this.#timeline.trace(captured_us, now_us, null), sequence = this.#timeline.takeSequence(1);
            const message = encodePcmUp({ sequence, timestamp: mod(position, TIMESTAMP_MODULUS), trace, samples: toS16(frame) });
            this.traffic.add(now_us, 1, frame.length, 16 * frame.length);
            return [message];
        }
        /** @type {Uint8Array<ArrayBuffer>[]} */ let messages = [];
        if (this.codebooks !== this.#made) {
            messages = this.#sendWaiting(now_us);
            this.#held = [];
            this.#made = this.codebooks;
        }
        const codes = this.#encoder.step(frame, this.codebooks);
        messages.push(...this.#sendCoded({ codes, position, captured_us, framed_us: now_us, encoded_us: this.#time_us() }, frame, now_us));
        return messages;
    }

    /** Sends a frame, or holds it back: until its packet is full, or because it is silent.
     * @param {Coded} coded @param {Float32Array} frame @param {number} now_us */
    #sendCoded(coded, frame, now_us) {
        this.#chooseFrames(coded.position);
        if (!this.#speaks(frame) && this.quiet) return this.#beSilent(coded, now_us);
        if (this.#silentSince !== null) {
            const preRoll = Math.max(this.#frames - 1, LEAST_PRE_ROLL);
            this.#waiting = this.#held.slice(-preRoll);
            this.framesSilent -= this.#waiting.length;
            this.#held = [];
            this.#silentSince = null;
        }
        this.#waiting.push(coded);
        const messages = [];
        while (this.#waiting.length >= this.#frames) messages.push(this.#packet(this.#waiting.splice(0, this.#frames), now_us));
        return messages;
    }

    /** @param {number} position */
    #chooseFrames(position) {
        if (this.framesPerPacket > this.#frames && position < this.#moreAt) return;
        if (this.framesPerPacket !== this.#frames) this.#frames = Math.min(this.framesPerPacket, this.#frames + 1);
        this.#moreAt = position + this.#moreAfter;
    }

    /** @param {Float32Array} frame */
    #speaks(frame) {
        const level_db = dbfs(rms(frame));
        if (this.quiet && !this.#activity.isLoud(level_db)) this.#background.take(frame);
        return this.#activity.take(level_db);
    }

    /** @param {Coded} coded @param {number} now_us */
    #beSilent(coded, now_us) {
        const messages = this.#sendWaiting(now_us);
        this.#held.push(coded);
        if (this.#held.length > MOST_PRE_ROLL) this.#held.shift();
        this.framesSilent++;
        if (this.#silentSince === null || coded.position - this.#silentSince >= this.#signEvery) {
            this.#silentSince = coded.position;
            const sequence = mod(this.#timeline.sequence, SEQUENCE_MODULUS), timestamp = mod(this.#held[0].position, TIMESTAMP_MODULUS);
            messages.push(encodeSilenceUp({ sequence, timestamp, levels: this.#background.levels }));
        }
        return messages;
    }

    /** @param {number} now_us */
    #sendWaiting(now_us) { return this.#waiting.length ? [this.#packet(this.#waiting.splice(0), now_us)] : []; }

    /** @param {Coded[]} frames @param {number} now_us */
    #packet(frames, now_us) {
        const [{ position, captured_us, framed_us, encoded_us }] = frames, codes = frames.map((frame) => frame.codes);
        const sequence = this.#timeline.takeSequence(codes.length), trace = this.#timeline.trace(captured_us, framed_us, encoded_us);
        this.traffic.add(now_us, codes.length, codes.length * this.#hop, codes.length * codes[0].length * BITS);
        return encodeCodesUp({ sequence, timestamp: mod(position, TIMESTAMP_MODULUS), trace, codes });
    }
}
