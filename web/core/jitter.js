/**
 * The jitter buffer: frames wait here, in order, until they are due. How long they wait is learnt from
 * how they arrive. The twin of client/core/jitter.py, which says why its numbers are what they are; the
 * same recorded arrivals hold both to the same delays. All times are microseconds.
 */
import { Lateness } from "./lateness.js";
import { ReorderTracker, SEQUENCE_MODULUS, TIMESTAMP_MODULUS, unwrap } from "./sequence.js";

export const START_TARGET_US = 40_000;
const CAREFUL_US = 25_000, SPARE_US = 8_000;
export const MIN_TARGET_US = 13_000;
export const MAX_TARGET_US = 500_000;
const SPARE_OVER_SPAN_US = 12_000, MIN_OVER_SPAN_US = 17_000;
const BASE_WINDOW_US = 2_000_000, MAX_BASE = 1024;
const QUANTILE = 0.971, FORGET = 0.99, BUCKET_US = 2_500;
const MARGIN_FRAMES = 0.25, MAX_MARGIN_FRAMES = 4, MARGIN_FALL_PER_S = 0.02, FALL_SHARE_PER_S = 0.5;
const STALL_US = 60_000, STALL_FALL = 0.5, RARE_STALLS = 2, RARE_US = 5_000_000;
const PAUSE_US = 250_000, RESYNC_US = 3_000_000;

/** Estimates how long the frames of one speaker must wait so that nearly all are there in time. */
export class DelayEstimator {
    #frame_us;
    #histogram = new Float64Array(MAX_TARGET_US / BUCKET_US);
    /** @type {[number, number][]} arrival and transit, transits ascending */ #base = [];
    #target_us;
    #margin_us = 0;
    #least_us = CAREFUL_US;
    #careful = false;
    #lateness = new Lateness();
    /** when the speaker began to speak, after it had said nothing */ #spoke_us = 0;
    /** @type {number | null} */ #last_us = null;
    /** @type {number[]} when the last stalls ended */ #stalls = [];
    /** @type {[number, number] | null} media time and delay of the first frame of the stall that comes now */ #stall = null;
    resyncs = 0;

    /** @param {number} frame_us */
    constructor(frame_us) {
        this.#frame_us = frame_us;
        this.#target_us = Math.max(START_TARGET_US, frame_us);
    }

    /** How long a frame waits, counted from when the fastest frame of the last two seconds would have come. */
    get target_us() { return Math.min(this.#target_us + this.#margin_us, MAX_TARGET_US); }

    /** Arrival time minus media time of the fastest frame of the last two seconds. */
    get base_us() { return this.#base.length ? this.#base[0][1] : 0; }

    /**
     * Takes note that a packet has arrived whose first sample is at `media_us` of its speaker's timeline.
     * @param {number} media_us @param {number} arrival_us @param {number} frames
     */
    observe(media_us, arrival_us, frames = 1) {
        const span = (frames - 1) * this.#frame_us, transit = arrival_us - media_us - span, base = this.#base;
        if (base.length && Math.abs(transit - this.base_us) > RESYNC_US && arrival_us - base[base.length - 1][0] < BASE_WINDOW_US) {
            base.length = 0;
            this.resyncs++;
        }
        while (base.length && arrival_us - base[0][0] > BASE_WINDOW_US) base.shift();
        while (base.length && base[base.length - 1][1] >= transit) base.pop();
        base.push([arrival_us, transit]);
        if (base.length > MAX_BASE) base.shift();
        const relative = transit + span - this.base_us, histogram = this.#histogram;
        if (!this.#inRareStall(media_us, relative, arrival_us)) {
            const bucket = Math.min(Math.floor(relative / BUCKET_US), histogram.length - 1), kept = FORGET ** frames;
            for (let i = 0; i < histogram.length; i++) histogram[i] *= kept;
            histogram[bucket] += 1 - kept;
            if (!this.#beginsToSpeak(arrival_us)) this.#lateness.observe(transit, this.base_us, arrival_us);
            this.#least_us = this.#least(span);
        }
        const wanted = QUANTILE * histogram.reduce((a, b) => a + b, 0);
        if (!wanted) return;
        let reached = 0, sum = histogram[0];
        while (sum < wanted) sum += histogram[++reached];
        this.#moveTarget((reached + 1) * BUCKET_US, arrival_us);
    }

    /** Takes note that a block of the output is longer than a frame. */
    beCareful() {
        this.#careful = true;
    }

    /** Takes note that play-out ran dry although it kept this target. */
    underrun() {
        this.#margin_us = Math.min(this.#margin_us + MARGIN_FRAMES * this.#frame_us, MAX_MARGIN_FRAMES * this.#frame_us);
    }

    /** @param {number} media_us @param {number} relative_us @param {number} arrival_us */
    #inRareStall(media_us, relative_us, arrival_us) {
        if (this.#stall) {
            const [first, delay] = this.#stall;
            if (relative_us > delay - STALL_FALL * (media_us - first)) {
                this.#stall = null;
                return false;
            }
        } else if (relative_us > this.target_us + STALL_US) {
            this.#stall = [media_us, relative_us];
            this.#stalls.push(arrival_us);
            if (this.#stalls.length > RARE_STALLS + 1) this.#stalls.shift();
        }
        const stalls = this.#stalls;
        const frequent = stalls.length > RARE_STALLS && stalls[stalls.length - 1] - stalls[0] < RARE_US;
        return this.#stall !== null && !frequent;
    }

    /** @param {number} now_us */
    #beginsToSpeak(now_us) {
        if (this.#last_us === null || now_us - this.#last_us > PAUSE_US) this.#spoke_us = now_us;
        return now_us - this.#spoke_us < this.#frame_us / 2;
    }

    /** @param {number} span_us */
    #least(span_us) {
        if (span_us) return span_us + Math.max(this.#lateness.seen_us + SPARE_OVER_SPAN_US, MIN_OVER_SPAN_US);
        return Math.max(this.#lateness.expected_us + SPARE_US, this.#careful ? CAREFUL_US : MIN_TARGET_US);
    }

    /** Raises the target at once and lowers it slowly. @param {number} wanted_us @param {number} now_us */
    #moveTarget(wanted_us, now_us) {
        const elapsed_s = this.#last_us === null ? 0 : Math.min(Math.max(now_us - this.#last_us, 0) / 1e6, 1);
        this.#last_us = now_us;
        const marginFall = MARGIN_FALL_PER_S * Math.max(this.#margin_us, this.#frame_us);
        this.#margin_us = Math.max(this.#margin_us - marginFall * elapsed_s, 0);
        const fall = Math.max(this.#frame_us, FALL_SHARE_PER_S * (this.#target_us - wanted_us));
        const lowest = this.#target_us - fall * elapsed_s;
        this.#target_us = Math.min(Math.max(wanted_us, lowest, this.#least_us), MAX_TARGET_US);
    }
}

/**
 * A frame on its way to the decoder. `codes` or `pcm` is what came; `path` is the trace of its packet,
 * on the packet's first frame only.
 * @typedef {{sequence: number, timestamp: number, codes?: Int16Array, pcm?: Float32Array, samples: number,
 *     arrival_us: number, capture_us: number | null, path: import("./latency.js").Path | null, taken_us: number,
 *     decoded_us: number}} Frame
 */

/** Puts the frames of one speaker in order and hands them out. It never holds more than `maxFrames`. */
export class JitterBuffer {
    /** @type {Map<number, Frame>} */ #frames = new Map();
    /** @type {[number, number] | null} */ #newest = null;
    #sampleRate;
    #maxFrames;
    #order;
    received = 0;
    taken = 0;
    late = 0;
    duplicates = 0;
    overflow = 0;

    /** @param {number} sampleRate @param {number} hop @param {number} maxFrames */
    constructor(sampleRate, hop, maxFrames = 112) {
        this.#sampleRate = sampleRate;
        this.#maxFrames = maxFrames;
        this.#order = new ReorderTracker(maxFrames);
        this.delay = new DelayEstimator((hop * 1e6) / sampleRate);
    }

    get length() { return this.#frames.size; }

    /** Frames that were given up, because others behind them were due. */
    get missing() { return this.#order.missing; }

    /**
     * Adds the frames of a packet, one after the other. `sequence` and `timestamp` are those on the wire.
     * @param {number} sequence @param {number} timestamp
     * @param {{codes?: Int16Array, pcm?: Float32Array, samples: number}[]} frames
     * @param {number} arrival_us @param {import("./latency.js").Path | null} path
     */
    put(sequence, timestamp, frames, arrival_us, path) {
        const [number, first] = this.#newest === null ? [sequence, timestamp] : [
            unwrap(sequence, this.#newest[0], SEQUENCE_MODULUS), unwrap(timestamp, this.#newest[1], TIMESTAMP_MODULUS)];
        let position = first, taken = 0, firstTaken = first;
        frames.forEach(({ codes, pcm, samples }, index) => {
            const capture_us = path && path.capture_us + this.#us(position - first);
            const fits = this.#put({ sequence: number + index, timestamp: position, codes, pcm, samples, arrival_us, capture_us,
                path: index ? null : path, taken_us: 0, decoded_us: 0 });
            if (fits && !taken++) firstTaken = position;
            position += samples;
        });
        if (taken) this.delay.observe(this.#us(firstTaken), arrival_us, taken);
    }

    /** Returns the frame that comes next in order, whether or not others are missing before it. */
    peek() { return this.#frames.size ? this.#frames.get(this.#first()) ?? null : null; }

    /** Takes the frame that `peek` returns. Frames missing before it are given up. */
    take() {
        const frame = this.peek();
        if (!frame) return null;
        this.#order.handOut(frame.sequence);
        this.taken++;
        this.#frames.delete(frame.sequence);
        return frame;
    }

    /** Returns a sequence number on the wire as it would be without wrapping. @param {number} sequence */
    numberOf(sequence) { return this.#newest === null ? sequence : unwrap(sequence, this.#newest[0], SEQUENCE_MODULUS); }

    /** Returns whether no frame is missing before this one. @param {Frame} frame */
    isNext(frame) { return this.#order.isNext(frame.sequence); }

    #first() {
        let least = Infinity;
        for (const number of this.#frames.keys()) if (number < least) least = number;
        return least;
    }

    /** @param {number} samples */
    #us(samples) { return (samples * 1e6) / this.#sampleRate; }

    /** Returns whether a frame is not too late and new. @param {Frame} frame */
    #put(frame) {
        this.received++;
        const arrival = this.#order.arrive(frame.sequence, this.#frames);
        if (arrival === "duplicate") this.duplicates++;
        if (arrival === "late") this.late++;
        if (arrival !== "in time") return false;
        if (this.#newest === null || frame.sequence > this.#newest[0]) this.#newest = [frame.sequence, frame.timestamp];
        this.#frames.set(frame.sequence, frame);
        if (this.#frames.size > this.#maxFrames) {
            const oldest = this.#first();
            this.#order.handOut(oldest);
            this.overflow++;
            this.#frames.delete(oldest);
        }
        return true;
    }
}
