/**
 * What a stream costs: its codec rate beside its wire rate (client/core/traffic.py).
 */

/** Headers of a message: IPv4 20, TCP with time stamps 32, TLS 1.3 record 22, WebSocket 2; one from a client has a mask, too. */
export const MESSAGE_OVERHEAD_BYTES = 76;
export const MASK_BYTES = 4;
const WINDOW_US = 2_000_000, MOST = 4096;

/** Counts all that goes one way through one WebSocket, control messages too, with an estimate of the network's headers. */
export class WireMeter {
    messages = 0;
    /** @type {[number, number][]} when, and how many bytes */ #recent = [];
    #masked;

    /** @param {boolean} masked as what goes to a server is */
    constructor(masked) { this.#masked = masked; }

    /** Counts a message. @param {number} now_us @param {number} bytes */
    add(now_us, bytes) {
        this.messages++;
        this.#recent.push([now_us, bytes + MESSAGE_OVERHEAD_BYTES + (bytes > 125 ? 2 : 0) + (this.#masked ? MASK_BYTES : 0)]);
        this.#forget(now_us);
        if (this.#recent.length > MOST) this.#recent.shift();
    }

    /** Returns the bits a second over the last two seconds. @param {number} now_us */
    kbps(now_us) {
        this.#forget(now_us);
        return (this.#recent.reduce((sum, [, size]) => sum + size, 0) * 8000) / WINDOW_US;
    }

    /** @param {number} now_us */
    #forget(now_us) { while (this.#recent.length && now_us - this.#recent[0][0] > WINDOW_US) this.#recent.shift(); }
}

/** Counts what the codec made in one direction over the last two seconds. */
export class Traffic {
    /** @type {{at: number, samples: number, bits: number}[]} */ #recent = [];
    #sampleRate;
    #samples = 0;
    #bits = 0;
    messages = 0;
    frames = 0;

    /** @param {number} sampleRate */
    constructor(sampleRate) { this.#sampleRate = sampleRate; }

    /**
     * Counts a message of frames.
     * @param {number} now_us @param {number} frames @param {number} samples @param {number} codecBits
     */
    add(now_us, frames, samples, codecBits) {
        this.messages++;
        this.frames += frames;
        this.#samples += samples;
        this.#bits += codecBits;
        this.#recent.push({ at: now_us, samples, bits: codecBits });
        this.#forget(now_us);
        if (this.#recent.length > MOST) this.#recent.shift();
    }

    /** Codec bits a second of audio since the start, 0 before the first frame, in kbps. */
    get allCodecKbps() { return this.#samples ? (this.#bits * this.#sampleRate) / this.#samples / 1000 : 0; }

    /** Codec bits a second of audio over the last two seconds. @param {number} now_us */
    codecKbps(now_us) {
        this.#forget(now_us);
        const samples = this.#recent.reduce((sum, part) => sum + part.samples, 0);
        return samples ? (this.#recent.reduce((sum, part) => sum + part.bits, 0) * this.#sampleRate) / samples / 1000 : 0;
    }

    /** @param {number} now_us */
    #forget(now_us) {
        let old = 0;
        while (old < this.#recent.length && now_us - this.#recent[old].at > WINDOW_US) old++;
        if (old) this.#recent.splice(0, old);
    }
}
