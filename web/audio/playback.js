/**
 * The AudioWorklet between codec and loudspeaker: a queue of samples, filled on request. It holds as
 * little as the machine allows: a little more each time that it runs dry, a little less after seconds in
 * which much of it was never needed.
 */
import { Resampler } from "../core/resample.js";

/** Samples that are asked for at once. */
const BLOCK = 160;
const START = 3 * BLOCK, LEAST = 2 * BLOCK, MOST = 20 * BLOCK;
/** Time over which it is observed how much of the queue was never needed. */
const OBSERVE_S = 3;

/** Asks its `port` with {need, at_s, depth_ms, dry} (when, by the context's clock, the first sample will be played); samples come back. */
class Playback extends AudioWorkletProcessor {
    /** @type {MessagePort | null} */ #port = null;
    /** @type {Float32Array[]} */ #queue = [];
    #read = 0;
    #held = 0;
    #asked = 0;
    #depth = START;
    #dry = 0;
    #began = false;
    #spare = Infinity;
    #observed = 0;
    #rate;
    #resampler;
    /** @type {Float32Array<ArrayBuffer>} */ #resampled = new Float32Array(0);

    /** @param {{processorOptions: {sampleRate: number}}} options */
    constructor({ processorOptions: { sampleRate: rate } }) {
        super();
        this.#rate = rate;
        this.#resampler = rate === sampleRate ? null : new Resampler(rate, sampleRate);
        this.port.onmessage = ({ data }) => {
            this.#port = /** @type {MessagePort} */ (data);
            this.#port.onmessage = ({ data: pcm }) => {
                this.#queue.push(pcm);
                this.#held += pcm.length;
                this.#asked -= pcm.length;
                this.#began ||= this.#held >= this.#depth;
            };
        };
    }

    /** @param {Float32Array[][]} _ @param {Float32Array<ArrayBuffer>[][]} outputs */
    process(_, [[output]]) {
        if (!this.#port) return true;
        if (this.#resampler) this.#resample(output, this.#resampler);
        else this.#take(output);
        this.#adapt(output.length);
        for (; this.#held + this.#asked < this.#depth; this.#asked += BLOCK) {
            const ahead = (this.#held + this.#asked) / this.#rate + output.length / sampleRate;
            this.#port.postMessage({ need: BLOCK, at_s: currentTime + ahead, now_s: currentTime,
                depth_ms: (this.#depth * 1000) / this.#rate, dry: this.#dry });
        }
        return true;
    }

    /** Fills a block of the device from the queue, with silence where that is empty. @param {Float32Array} output */
    #take(output) {
        if (!this.#began) return;
        let filled = 0;
        while (filled < output.length && this.#queue.length) {
            const [first] = this.#queue, count = Math.min(output.length - filled, first.length - this.#read);
            output.set(first.subarray(this.#read, this.#read + count), filled);
            filled += count;
            this.#read += count;
            if (this.#read < first.length) continue;
            this.#queue.shift();
            this.#read = 0;
        }
        this.#held -= filled;
        this.#spare = Math.min(this.#spare, this.#held);
        if (filled === output.length) return;
        this.#dry++;
        this.#depth = Math.min(this.#depth + BLOCK, MOST);
        this.#observed = 0;
        this.#spare = Infinity;
    }

    /** @param {Float32Array} output @param {Resampler} resampler */
    #resample(output, resampler) {
        while (this.#resampled.length < output.length) {
            const block = new Float32Array(128);
            this.#take(block);
            const more = resampler.push(block), all = new Float32Array(this.#resampled.length + more.length);
            all.set(this.#resampled);
            all.set(more, this.#resampled.length);
            this.#resampled = all;
        }
        output.set(this.#resampled.subarray(0, output.length));
        this.#resampled = this.#resampled.slice(output.length);
    }

    /** Holds less where blocks that were never needed were there all the time. @param {number} samples */
    #adapt(samples) {
        this.#observed += samples / sampleRate;
        if (this.#observed < OBSERVE_S) return;
        const idle = Number.isFinite(this.#spare) ? Math.floor(this.#spare / BLOCK) - 1 : 0;
        if (idle > 0) this.#depth = Math.max(this.#depth - BLOCK * Math.ceil(idle / 2), LEAST);
        this.#observed = 0;
        this.#spare = Infinity;
    }
}

registerProcessor("playback", Playback);
