/** Arithmetic that Python has and JavaScript has not, and arrays of samples put together. */

/** Returns the remainder that is never negative. @param {number} value @param {number} modulus */
export const mod = (value, modulus) => ((value % modulus) + modulus) % modulus;

/** Rounds to the nearest whole number, halves to the even one. @param {number} value */
export function roundEven(value) {
    const floor = Math.floor(value), rest = value - floor;
    if (rest !== 0.5) return Math.round(value);
    return floor % 2 === 0 ? floor : floor + 1;
}

/** @param {number} a @param {number} b @returns {number} */
export const gcd = (a, b) => (b ? gcd(b, a % b) : a);

/**
 * Puts arrays of one kind together.
 * @template {Float32Array | Float64Array} T
 * @param {T[]} parts at least one
 * @returns {T}
 */
export function concat(parts) {
    if (parts.length === 1) return parts[0];
    const size = parts.reduce((sum, part) => sum + part.length, 0);
    const all = new (/** @type {any} */ (parts[0].constructor))(size);
    let at = 0;
    for (const part of parts) {
        all.set(part, at);
        at += part.length;
    }
    return all;
}
