/**
 * What the background of a speaker who says nothing sounds like, in a few bytes (docs/protocol.md, "Silence"): the
 * twin of `BackgroundMeter` in client/core/background.py.
 */
import { BANDS, BANDS_HZ, NOTHING, STEP_DB } from "./background.js";
import { roundEven } from "./numbers.js";

/** Share of the levels that is left after a frame. */
const MEMORY = 0.9;

/** Measures the levels of a speaker's background. */
export class BackgroundMeter {
    /** @type {Float64Array | null} */ #powers = null;
    #hop;
    /** @type {[number, number][]} bins of each band */ #bins;
    #cos;
    #sin;

    /** @param {number} sampleRate @param {number} hop */
    constructor(sampleRate, hop) {
        const bin = (/** @type {number} */ hertz) => Math.max(Math.ceil((hertz * hop) / sampleRate), 1);
        this.#hop = hop;
        this.#bins = Array.from({ length: BANDS }, (_, band) => [bin(BANDS_HZ[band]), Math.min(bin(BANDS_HZ[band + 1]), hop >> 1)]);
        this.#cos = Float64Array.from({ length: hop }, (_, i) => Math.cos((2 * Math.PI * i) / hop));
        this.#sin = Float64Array.from({ length: hop }, (_, i) => Math.sin((2 * Math.PI * i) / hop));
    }

    /** Takes a frame in which nobody speaks. @param {Float32Array} frame [hop] */
    take(frame) {
        const powers = new Float64Array(BANDS), scale = 2 / this.#hop ** 2;
        this.#bins.forEach(([first, end], band) => {
            for (let bin = first; bin < end; bin++) powers[band] += this.#power(frame, bin) * scale;
        });
        this.#powers = this.#powers?.map((power, band) => MEMORY * power + (1 - MEMORY) * powers[band]) ?? powers;
    }

    /** The level of each band, as a sign of silence tells it. */
    get levels() {
        if (!this.#powers) return new Uint8Array(BANDS).fill(NOTHING);
        return Uint8Array.from(this.#powers, (power) =>
            Math.max(0, Math.min(NOTHING, roundEven((-10 * Math.log10(Math.max(power, 1e-30))) / STEP_DB))));
    }

    /** Returns the power of one bin of the spectrum. @param {Float32Array} frame @param {number} bin */
    #power(frame, bin) {
        const cos = this.#cos, sin = this.#sin, hop = this.#hop;
        let re = 0, im = 0;
        for (let i = 0, at = 0; i < hop; i++) {
            re += frame[i] * cos[at];
            im += frame[i] * sin[at];
            at += bin;
            if (at >= hop) at -= hop;
        }
        return re * re + im * im;
    }
}
