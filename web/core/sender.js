/**
 * What a page does with sound on its way out: samples go in and messages come out. The twin of
 * client/core/sender.py.
 */
import { BITS } from "./bitstream.js";
import { rms, sanitize, toS16 } from "./level.js";
import { concat, mod } from "./numbers.js";
import { encodeCodesUp, encodePcmUp } from "./packet.js";
import { TIMESTAMP_MODULUS } from "./sequence.js";
import { SendTimeline } from "./timeline.js";
import { Traffic } from "./traffic.js";

/** Time between two frames more in a packet. */
const MORE_FRAMES_S = 0.5;

/** @typedef {{step(pcm: Float32Array, codebooks: number): Int16Array}} Encoder what a sender needs of the codec */

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
    #encoder;
    #hop;
    #time_us;
    #timeline;
    #frames;
    #moreAt = 0;
    #moreAfter;
    #rest = new Float32Array(0);
    /** @type {{codes: Int16Array, position: number, captured_us: number, framed_us: number, encoded_us: number}[]} */ #waiting = [];

    /**
     * @param {{encoder: Encoder | null, hop: number, sampleRate: number, clock: import("./clock.js").ServerClock,
     *     time_us: () => number, framesPerPacket?: number, traceEvery_us?: number}} parts `time_us` reads the local clock
     *     after encoding; there is a trace for what was captured `traceEvery_us` after the last one was for
     */
    constructor({ encoder, hop, sampleRate, clock, time_us, framesPerPacket = 1, traceEvery_us = 0 }) {
        this.traffic = new Traffic(sampleRate);
        this.#encoder = encoder;
        this.#hop = hop;
        this.#time_us = time_us;
        this.#timeline = new SendTimeline(sampleRate, clock, traceEvery_us);
        this.framesPerPacket = this.#frames = framesPerPacket;
        this.#moreAfter = Math.round(MORE_FRAMES_S * sampleRate);
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
            this.traffic.add(now_us, 1, frame.length, 16 * frame.length, message.length);
            return [message];
        }
        if (this.framesPerPacket <= this.#frames) this.#frames = this.framesPerPacket;
        else if (position >= this.#moreAt) {
            this.#frames++;
            this.#moreAt = position + this.#moreAfter;
        }
        const changed = this.#waiting.length && this.#waiting[0].codes.length !== this.codebooks;
        const messages = changed ? this.#sendWaiting(now_us) : [];
        const codes = this.#encoder.step(frame, this.codebooks);
        this.#waiting.push({ codes, position, captured_us, framed_us: now_us, encoded_us: this.#time_us() });
        return this.#waiting.length < this.#frames ? messages : [...messages, ...this.#sendWaiting(now_us)];
    }

    /** @param {number} now_us */
    #sendWaiting(now_us) {
        if (!this.#waiting.length) return [];
        const [{ position, captured_us, framed_us, encoded_us }] = this.#waiting, codes = this.#waiting.splice(0).map((frame) => frame.codes);
        const sequence = this.#timeline.takeSequence(codes.length), trace = this.#timeline.trace(captured_us, framed_us, encoded_us);
        const message = encodeCodesUp({ sequence, timestamp: mod(position, TIMESTAMP_MODULUS), trace, codes });
        this.traffic.add(now_us, codes.length, codes.length * this.#hop, codes.length * codes[0].length * BITS, message.length);
        return [message];
    }
}
