/**
 * Brings sound from one sample rate to another, block by block: a windowed sinc, one set of weights for
 * each of the places that an output sample can have between two input samples.
 */
import { concat, gcd } from "./numbers.js";

/** Zero crossings of the sinc on either side. */
const CROSSINGS = 16;
const KAISER_BETA = 8;

/** The modified Bessel function of order 0. @param {number} x */
function bessel(x) {
    let sum = 1, term = 1;
    for (let k = 1; term > 1e-12 * sum; k++) {
        term *= (x / (2 * k)) ** 2;
        sum += term;
    }
    return sum;
}

/** Resamples one stream. It is late by `delay` output samples. */
export class Resampler {
    #up;
    #down;
    #half;
    /** @type {Float32Array[]} */ #weights = [];
    #held;
    #place;

    /** @param {number} from whole samples a second @param {number} to */
    constructor(from, to) {
        const divisor = gcd(from, to), cutoff = Math.min(1, to / from) * 0.94;
        this.#up = to / divisor;
        this.#down = from / divisor;
        this.#half = Math.ceil(CROSSINGS / cutoff);
        this.#held = new Float32Array(2 * this.#half);
        /** Where the next output sample is, in 1/up of an input sample after the one in the middle. */
        this.#place = 0;
        /** Output samples by which the stream is late. */
        this.delay = (this.#half * to) / from;
        for (let phase = 0; phase < this.#up; phase++) {
            const weights = Float32Array.from({ length: 2 * this.#half }, (_, i) => {
                const x = i - this.#half + 1 - phase / this.#up, angle = Math.PI * cutoff * x, edge = x / this.#half;
                if (Math.abs(edge) >= 1) return 0;
                const window = bessel(KAISER_BETA * Math.sqrt(1 - edge * edge)) / bessel(KAISER_BETA);
                return cutoff * window * (angle ? Math.sin(angle) / angle : 1);
            });
            const sum = weights.reduce((a, b) => a + b, 0);
            this.#weights.push(weights.map((weight) => weight / sum));
        }
    }

    /** Takes samples and returns those that they complete. @param {Float32Array<ArrayBuffer>} pcm */
    push(pcm) {
        const width = 2 * this.#half, stream = concat([this.#held, pcm]), out = [];
        let at = 0;
        while (at + width < stream.length) {
            const weights = this.#weights[this.#place];
            let sum = 0;
            for (let i = 0; i < width; i++) sum += weights[i] * stream[at + 1 + i];
            out.push(sum);
            this.#place += this.#down;
            at += Math.floor(this.#place / this.#up);
            this.#place %= this.#up;
        }
        this.#held = stream.slice(at);
        return Float32Array.from(out);
    }
}
