/**
 * What is heard of a speaker while its next frame has not come: a copy of the decoder goes on from
 * repeated codes, ever more quietly. The decoder itself waits for the true frames. The twin of
 * client/core/concealment.py.
 */
import { concat } from "./numbers.js";

/** Codebooks that are repeated, at most. */
const COARSE = 8;
/** How much quieter each frame is than the one before it. */
const FALL_DB = 2;
/** After so many frames there is nothing left to hear. */
const MOST_FRAMES = 8;

/** @typedef {{step(codes: Int16Array): Float32Array, copy(): Forkable, close(): void}} Forkable a decoder that can be copied in the middle of a stream */

/** Goes on with the sound of one speaker for a few frames. */
export class Concealment {
    #hop;
    #fade;
    /** @type {Forkable | null} */ #decoder = null;
    #codes = new Int16Array(1);
    #made = 0;
    #pcm = new Float32Array(0);

    /** @param {number} hop @param {number} fade samples of a fade */
    constructor(hop, fade) {
        this.#hop = hop;
        this.#fade = fade;
    }

    /** Whether there is something to hear. */
    get active() { return this.#decoder !== null; }

    /** Goes on where a decoder is, after a frame of these codes. @param {Forkable} decoder @param {Int16Array} codes */
    begin(decoder, codes) {
        this.close();
        this.#decoder = decoder.copy();
        this.#codes = codes.slice(0, COARSE);
        this.#made = 0;
        this.#pcm = new Float32Array(0);
    }

    /** Adds what comes next to samples, in place. @param {Float32Array} pcm */
    add(pcm) {
        while (this.#pcm.length < pcm.length && this.#decoder && this.#made < MOST_FRAMES) {
            const made = this.#made++, last = made === MOST_FRAMES - 1;
            const frame = this.#decoder.step(this.#codes).map((sample, i) =>
                sample * 10 ** ((-FALL_DB * (made + i / this.#hop)) / 20) * (last ? (this.#hop - i) / this.#hop : 1));
            this.#pcm = concat([this.#pcm, frame]);
        }
        const count = Math.min(this.#pcm.length, pcm.length);
        for (let i = 0; i < count; i++) pcm[i] += this.#pcm[i];
        this.#pcm = this.#pcm.slice(count);
        if (this.#made === MOST_FRAMES && !this.#pcm.length) this.close();
    }

    /** Fades out under `pcm`, the true sound that has come now, which fades in. @param {Float32Array} pcm */
    end(pcm) {
        const under = new Float32Array(this.#fade), count = Math.min(this.#fade, pcm.length);
        this.add(under);
        for (let i = 0; i < count; i++) pcm[i] += (under[i] * (this.#fade - 1 - i)) / this.#fade;
        this.close();
    }

    /** Ends at once. */
    close() {
        this.#decoder?.close();
        this.#decoder = null;
    }
}
