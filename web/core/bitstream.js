/**
 * Codes as bytes (docs/protocol.md, "Packed codes"): codebook-major, 10 bits each, least significant
 * bit first. Frames are arrays of codes, one a codebook.
 */

export const BITS = 10;

/** Returns how many bytes codes take. @param {number} codebooks @param {number} frames */
export const packedSize = (codebooks, frames) => Math.ceil((codebooks * frames * BITS) / 8);

/**
 * Packs frames, which all have the same number of codes.
 * @param {Int16Array[]} frames at least one
 * @returns {Uint8Array}
 */
export function pack(frames) {
    const codebooks = frames[0].length, bytes = new Uint8Array(packedSize(codebooks, frames.length));
    let held = 0, bits = 0, at = 0;
    for (let codebook = 0; codebook < codebooks; codebook++) {
        for (const frame of frames) {
            held |= frame[codebook] << bits;
            bits += BITS;
            for (; bits >= 8; bits -= 8) {
                bytes[at++] = held & 255;
                held >>= 8;
            }
        }
    }
    if (bits) bytes[at] = held;
    return bytes;
}

/**
 * Unpacks what `pack` packed. Returns null where unused bits are set, so that every packet has only
 * one spelling.
 * @param {Uint8Array} bytes of the size that `packedSize` says
 * @param {number} codebooks @param {number} count of frames
 * @returns {Int16Array[] | null}
 */
export function unpack(bytes, codebooks, count) {
    const frames = Array.from({ length: count }, () => new Int16Array(codebooks));
    let held = 0, bits = 0, at = 0;
    for (let codebook = 0; codebook < codebooks; codebook++) {
        for (const frame of frames) {
            for (; bits < BITS; bits += 8) held |= bytes[at++] << bits;
            frame[codebook] = held & ((1 << BITS) - 1);
            held >>= BITS;
            bits -= BITS;
        }
    }
    return held ? null : frames;
}
