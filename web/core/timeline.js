/**
 * The timeline of one speaker: numbers and capture times of what is sent, and when samples are due that
 * are played. The twin of client/core/timeline.py.
 */
import { mod } from "./numbers.js";
import { ticksAt } from "./packet.js";
import { CLOCK_MODULUS, SEQUENCE_MODULUS } from "./sequence.js";

/** A capture time this much later than the samples before it means that the device lost some. */
const GAP_US = 20_000;
const CAPTURE_SMOOTHING = 1 / 32;

/** Sequence numbers, timestamps and capture times of what one speaker sends. */
export class SendTimeline {
    sequence = 0;
    /** Position of the first sample that has not been sent, not wrapped. */
    position = 0;
    /** @type {number | null} */ #next_us = null;
    #traced_us = -Infinity;
    #sampleRate;
    #clock;
    #traceEvery_us;

    /** @param {number} sampleRate @param {import("./clock.js").ServerClock} clock @param {number} traceEvery_us */
    constructor(sampleRate, clock, traceEvery_us = 0) {
        this.#sampleRate = sampleRate;
        this.#clock = clock;
        this.#traceEvery_us = traceEvery_us;
    }

    /** Returns how long samples last. @param {number} samples */
    us(samples) { return (samples * 1e6) / this.#sampleRate; }

    /** Returns how many samples the device lost before a block that was captured now. @param {number} captured_us */
    lost(captured_us) {
        const late = this.#next_us === null ? 0 : captured_us - this.#next_us;
        return late > GAP_US ? Math.round((late * this.#sampleRate) / 1e6) : 0;
    }

    /** Leaves out samples that were lost. @param {number} samples */
    skip(samples) {
        this.position += samples;
        this.#next_us = null;
    }

    /** Takes the capture time of the next sample: smoothed, or as it is after a jump. @param {number} captured_us */
    follow(captured_us) {
        const late = this.#next_us === null ? 0 : captured_us - this.#next_us;
        if (this.#next_us === null || Math.abs(late) > GAP_US) this.#next_us = captured_us;
        else this.#next_us += late * CAPTURE_SMOOTHING;
    }

    /** Moves the capture time on by samples that have come. @param {number} samples */
    advance(samples) { this.#next_us = (this.#next_us ?? 0) + this.us(samples); }

    /** Returns when the first of the last `held` samples was captured. @param {number} held */
    captured_us(held) { return (this.#next_us ?? 0) - this.us(held); }

    /** Returns the sequence number, wrapped, for the next `count` frames or messages. @param {number} count */
    takeSequence(count) {
        const sequence = mod(this.sequence, SEQUENCE_MODULUS);
        this.sequence += count;
        return sequence;
    }

    /**
     * Returns the trace of a packet, or null while the server's clock is unknown, and so soon after another trace that none is due.
     * @param {number} captured_us @param {number} framed_us @param {number | null} encoded_us
     * @returns {import("./packet.js").Trace | null}
     */
    trace(captured_us, framed_us, encoded_us) {
        if (!this.#clock.ready || captured_us - this.#traced_us < this.#traceEvery_us) return null;
        this.#traced_us = captured_us;
        const capture_us = mod(Math.round(this.#clock.toServer(captured_us)), CLOCK_MODULUS);
        const at = (/** @type {number} */ local_us) => ticksAt(capture_us, this.#clock.toServer(local_us));
        return { capture_us, framed: at(framed_us), encoded: encoded_us === null ? 0 : at(encoded_us), received: 0, relayed: 0 };
    }
}

/** When the samples of one speaker are due, and how often they were not there. */
export class PlayoutTimeline {
    underruns = 0;
    /** Whether the speaker has said that it is silent, so that what does not come is no underrun. */
    silenceAnnounced = false;
    /** @type {number | null} */ #dry_us = null;
    #sampleRate;
    #spurtEnd_us;

    /** @param {number} sampleRate @param {number} spurtEnd_us silence after which a speaker has stopped talking */
    constructor(sampleRate, spurtEnd_us) {
        this.#sampleRate = sampleRate;
        this.#spurtEnd_us = spurtEnd_us;
    }

    /** Returns how long samples last. @param {number} samples */
    us(samples) { return (samples * 1e6) / this.#sampleRate; }

    /** Whether play-out stopped so recently that the speaker may be in the middle of a word. */
    get dry() { return this.#dry_us !== null; }

    /** Returns how many samples of a block, beyond those that are `filled`, go by until a sample is due.
     * @param {number} due_us @param {number} now_us when the block begins @param {number} filled */
    wait(due_us, now_us, filled) { return Math.max(Math.ceil(((due_us - now_us) * this.#sampleRate) / 1e6) - filled, 0); }

    /** Takes note that play-out stopped because nothing came. @param {number} now_us */
    ranDry(now_us) { this.#dry_us = now_us; }

    /** Takes note that play-out goes on. */
    resume() { this.#dry_us = null; }

    /** Counts an underrun for a speaker that ran dry and has stayed so for too long. @param {number} now_us */
    blockPlayed(now_us) {
        if (this.#dry_us === null || now_us - this.#dry_us <= this.#spurtEnd_us) return;
        this.underruns += this.silenceAnnounced ? 0 : 1;
        this.#dry_us = null;
    }
}
