/**
 * Noise that sounds like the background of a speaker who says nothing (docs/protocol.md, "Silence"), in
 * place of dead silence. The twin of client/core/background.py, with a shorter loop: a thread that plays
 * makes it.
 */

/** Edges of the bands whose levels are told. */
export const BANDS_HZ = [0, 250, 500, 1000, 2000, 4000, 12_000];
export const BANDS = BANDS_HZ.length - 1;
/** The level of a band in which there is nothing. */
export const NOTHING = 255;
export const STEP_DB = 0.5;
const LOOP = 8192, FADE_S = 0.01;

/** @param {ArrayLike<number>} levels */
const isNothing = (levels) => Array.prototype.every.call(levels, (level) => level === NOTHING);

/** Turns a spectrum into a signal, in place, scaled by its length, a power of two. @param {Float64Array} re @param {Float64Array} im */
function inverseFft(re, im) {
    const size = re.length;
    for (let i = 1, j = 0; i < size; i++) {
        let bit = size >> 1;
        for (; j & bit; bit >>= 1) j ^= bit;
        j ^= bit;
        if (i < j) [re[i], re[j], im[i], im[j]] = [re[j], re[i], im[j], im[i]];
    }
    for (let half = 1; half < size; half *= 2) {
        for (let k = 0; k < half; k++) {
            const c = Math.cos((Math.PI * k) / half), s = Math.sin((Math.PI * k) / half);
            for (let a = k; a < size; a += 2 * half) {
                const b = a + half, x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
                re[b] = re[a] - x;
                im[b] = im[a] - y;
                re[a] += x;
                im[a] += y;
            }
        }
    }
}

/** Returns a loop of noise. @param {ArrayLike<number>} levels @param {number} sampleRate */
function noise(levels, sampleRate) {
    const re = new Float64Array(LOOP), im = new Float64Array(LOOP);
    let random = 1;
    for (let band = 0; band < BANDS; band++) {
        const bin = (/** @type {number} */ hertz) => Math.max(Math.ceil((hertz * LOOP) / sampleRate), 1);
        const first = bin(BANDS_HZ[band]), end = Math.min(bin(BANDS_HZ[band + 1]), LOOP / 2);
        if (levels[band] === NOTHING || end <= first) continue;
        const size = Math.sqrt(10 ** ((-levels[band] * STEP_DB) / 10) / (end - first) / 2);
        for (let i = first; i < end; i++) {
            random = (random * 48271) % 2147483647; // the same levels always make the same noise
            const phase = (2 * Math.PI * random) / 2147483647;
            re[i] = re[LOOP - i] = size * Math.cos(phase);
            im[i] = size * Math.sin(phase);
            im[LOOP - i] = -im[i];
        }
    }
    inverseFft(re, im);
    return Float32Array.from(re);
}

/** Plays noise of given levels where nothing else is played. */
export class ComfortNoise {
    #sampleRate;
    #slope;
    /** @type {number[]} what is wanted */ #levels = [];
    #changed = false;
    #sinceMade = Infinity;
    /** @type {Float32Array | null} */ #loop = null;
    #at = 0;
    #gain = 0;

    /** @param {number} sampleRate */
    constructor(sampleRate) {
        this.#sampleRate = sampleRate;
        this.#slope = 1 / (FADE_S * sampleRate);
    }

    /** Sets the level of each band; none for no noise. @param {ArrayLike<number>} levels */
    describe(levels) {
        if (levels.length === this.#levels.length && this.#levels.every((level, band) => level === levels[band])) return;
        this.#levels = Array.from(levels);
        this.#changed = true;
    }

    /** Adds noise to samples, in place, where their places are not known, with short fades.
     * @param {Float32Array} pcm @param {Float64Array} positions @param {boolean} hushed whether there may be noise at all */
    add(pcm, positions, hushed) {
        this.#sinceMade += pcm.length;
        if (this.#changed && this.#sinceMade >= this.#sampleRate) { // once a second at most, whatever a speaker tells
            this.#loop = isNothing(this.#levels) ? null : noise(this.#levels, this.#sampleRate);
            this.#changed = false;
            this.#sinceMade = 0;
        }
        const loop = this.#loop;
        if (!loop || !(this.#gain || hushed)) return;
        for (let i = 0; i < pcm.length; i++) {
            const wanted = hushed && Number.isNaN(positions[i]);
            this.#gain = Math.max(0, Math.min(1, this.#gain + (wanted ? this.#slope : -this.#slope)));
            pcm[i] += loop[this.#at] * this.#gain;
            this.#at = (this.#at + 1) % LOOP;
        }
    }
}
