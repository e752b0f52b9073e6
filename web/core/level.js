/** How loud samples are, and what keeps them within bounds. */

export const SILENCE_DBFS = -96;
const LARGEST_SAMPLE = 16, LIMIT_FROM = 0.8;

/** Returns the root mean square of samples, 0 of none. @param {Float32Array} pcm */
export function rms(pcm) {
    let sum = 0;
    for (const sample of pcm) sum += sample * sample;
    return pcm.length ? Math.sqrt(sum / pcm.length) : 0;
}

/** Returns a root mean square in decibels of full scale. @param {number} level */
export const dbfs = (level) => (level > 0 ? Math.max(20 * Math.log10(level), SILENCE_DBFS) : SILENCE_DBFS);

/** Makes samples that are not finite silent and limits impossible ones, in place. @param {Float32Array} pcm */
export function sanitize(pcm) {
    for (let i = 0; i < pcm.length; i++) {
        if (Math.abs(pcm[i]) <= LARGEST_SAMPLE) continue;
        pcm[i] = Number.isFinite(pcm[i]) ? Math.sign(pcm[i]) * LARGEST_SAMPLE : 0;
    }
}

/** Bends loud samples so that none passes 1, in place, and leaves the others as they are. @param {Float32Array} mix */
export function softLimit(mix) {
    const room = 1 - LIMIT_FROM;
    for (let i = 0; i < mix.length; i++) {
        const size = Math.abs(mix[i]);
        if (size > LIMIT_FROM) mix[i] = Math.sign(mix[i]) * (LIMIT_FROM + room * Math.tanh((size - LIMIT_FROM) / room));
    }
}

/** Converts samples to 16 bits. Full scale is 32767; louder samples are clipped. @param {Float32Array} pcm */
export const toS16 = (pcm) => Int16Array.from(pcm, (sample) => Math.round(Math.max(-1, Math.min(1, sample)) * 32767));
