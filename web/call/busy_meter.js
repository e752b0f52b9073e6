/** Measures what the codec takes of the processor. */
import { percentile } from "../core/latency.js";

const KEEP = 512, WINDOW_US = 2_000_000;

/** Times every step of the streams that a codec opens. */
export class BusyMeter {
    /** @type {{encode: number[], decode: number[]}} the last steps, in microseconds */ #steps = { encode: [], decode: [] };
    /** @type {[number, number][]} when, and how long */ #recent = [];
    #time_us = () => performance.now() * 1000;
    #began_us = this.#time_us();

    /**
     * Returns a codec whose steps are timed.
     * @param {import("../codec/codec.js").Codec} codec @returns {import("../codec/codec.js").Codec}
     */
    watch(codec) {
        const timed = Object.create(codec);
        timed.encoder = () => this.#timed(codec.encoder(), "encode");
        timed.decoder = () => this.#timed(codec.decoder(), "decode");
        return timed;
    }

    /** Returns the share of the last two seconds, and how long a frame takes, in ms. */
    figures() {
        const now = this.#time_us(), recent = this.#recent;
        while (recent.length && now - recent[0][0] > WINDOW_US) recent.shift();
        const busy = recent.reduce((sum, [, took]) => sum + took, 0);
        const of = (/** @type {number[]} */ took, /** @type {number} */ point) => (took.length ? percentile(took, point) / 1000 : null);
        const { encode, decode } = this.#steps;
        return { share: busy / Math.min(WINDOW_US, Math.max(now - this.#began_us, 1)), encode_ms: of(encode, 50), decode_ms: of(decode, 50),
            encodeP99_ms: of(encode, 99), decodeP99_ms: of(decode, 99) };
    }

    /** @template {{step: Function}} T @param {T} stream @param {"encode" | "decode"} what @returns {T} */
    #timed(stream, what) {
        const step = stream.step.bind(stream), took = this.#steps[what];
        stream.step = (/** @type {any[]} */ ...given) => {
            const began = this.#time_us(), result = step(...given), ended = this.#time_us();
            took.push(ended - began);
            if (took.length > KEEP) took.shift();
            this.#recent.push([ended, ended - began]);
            if (this.#recent.length > 4096) this.#recent.shift();
            return result;
        };
        return stream;
    }
}
