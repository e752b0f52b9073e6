/**
 * The AudioWorklet between microphone and codec: cuts what comes in into frames and says when, by the
 * context's clock, each of them ended.
 */
import { concat } from "../core/numbers.js";
import { Resampler } from "../core/resample.js";

/** Frames go to a port: {pcm, now_s, end_s}; `end_s` is when the last sample came in. */
class Capture extends AudioWorkletProcessor {
    #held = new Float32Array(0);
    /** @type {MessagePort | null} */ #port = null;
    #resampler;
    #hop;
    #rate;

    /** @param {{processorOptions: {hop: number, sampleRate: number}}} options */
    constructor({ processorOptions: { hop, sampleRate: rate } }) {
        super();
        this.#hop = hop;
        this.#rate = rate;
        this.#resampler = rate === sampleRate ? null : new Resampler(sampleRate, rate);
        this.port.onmessage = ({ data }) => { this.#port = data; };
    }

    /** @param {Float32Array<ArrayBuffer>[][]} inputs */
    process([[input]]) {
        if (!input || !this.#port) return true;
        const more = this.#resampler ? this.#resampler.push(input) : input.slice();
        this.#held = concat([this.#held, more]);
        const late_s = this.#resampler ? this.#resampler.delay / this.#rate : 0, now_s = currentTime;
        while (this.#held.length >= this.#hop) {
            const pcm = this.#held.slice(0, this.#hop);
            this.#held = this.#held.slice(this.#hop);
            this.#port.postMessage({ pcm, now_s, end_s: now_s - late_s - this.#held.length / this.#rate }, [pcm.buffer]);
        }
        return true;
    }
}

registerProcessor("capture", Capture);
