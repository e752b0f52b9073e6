/**
 * Plays a little faster or slower without changing the pitch: one period is cut out or repeated at a
 * time. The twin of client/core/timescale.py.
 */

export const SHORTEST_LAG_S = 0.0025;
export const LONGEST_LAG_S = 0.015;
export const TEMPLATE_S = 0.005;
const TINY = 1e-9;

/**
 * Returns the lag at which `pcm` repeats its first `template` samples best, and how well it does
 * (-1..1); [0, 0] where `pcm` is too short for any.
 * @param {Float32Array} pcm @param {number} shortest @param {number} longest @param {number} template
 * @returns {[number, number]}
 */
export function findLag(pcm, shortest, longest, template) {
    longest = Math.min(longest, Math.floor(pcm.length / 2), pcm.length - template);
    if (longest < shortest) return [0, 0];
    const sums = new Float64Array(longest + template + 1);
    for (let i = 0; i < longest + template; i++) sums[i + 1] = sums[i] + pcm[i] * pcm[i];
    let best = 0, most = -Infinity;
    for (let lag = shortest; lag <= longest; lag++) {
        let product = 0;
        for (let i = 0; i < template; i++) product += pcm[lag + i] * pcm[i];
        const similarity = product / (Math.sqrt((sums[lag + template] - sums[lag]) * sums[template]) + TINY);
        if (similarity > most) {
            most = similarity;
            best = lag;
        }
    }
    return [best, most];
}

/**
 * Takes one period out: the first `lag` samples fade into the next.
 * @template {Float32Array | Float64Array} T
 * @param {T} x at least 2 * lag @param {number} lag
 * @returns {T}
 */
export function shorten(x, lag) {
    const rest = /** @type {T} */ (x.slice(lag));
    for (let i = 0; i < lag; i++) rest[i] = x[i] * (1 - i / lag) + x[lag + i] * (i / lag);
    return rest;
}

/**
 * Plays one period twice: the second `lag` samples fade back into the first.
 * @template {Float32Array | Float64Array} T
 * @param {T} x at least 2 * lag @param {number} lag
 * @returns {T}
 */
export function lengthen(x, lag) {
    const longer = /** @type {T} */ (new (/** @type {any} */ (x.constructor))(x.length + lag));
    longer.set(x.subarray(0, lag));
    for (let i = 0; i < lag; i++) longer[lag + i] = x[lag + i] * (1 - i / lag) + x[i] * (i / lag);
    longer.set(x.subarray(lag), 2 * lag);
    return longer;
}
