/**
 * What a stream costs: its codec rate beside its wire rate (client/core/traffic.py).
 */

/** Headers of a message: IPv4 20, TCP with time stamps 32, TLS 1.3 record 22, WebSocket 2. */
const MESSAGE_OVERHEAD_BYTES = 76;
const WINDOW_US = 2_000_000, MOST = 4096;

/** Counts messages and bits in one direction over the last two seconds. */
export class Traffic {
    /** @type {{at: number, samples: number, bits: number, wire: number}[]} */ #recent = [];
    #sampleRate;
    messages = 0;
    frames = 0;

    /** @param {number} sampleRate */
    constructor(sampleRate) { this.#sampleRate = sampleRate; }

    /**
     * Counts one message. A part of a message that is counted elsewhere has 0 message bytes.
     * @param {number} now_us @param {number} frames @param {number} samples @param {number} codecBits
     * @param {number} messageBytes
     */
    add(now_us, frames, samples, codecBits, messageBytes) {
        this.messages += messageBytes > 0 ? 1 : 0;
        this.frames += frames;
        this.#recent.push({ at: now_us, samples, bits: codecBits, wire: messageBytes ? messageBytes + MESSAGE_OVERHEAD_BYTES : 0 });
        this.#forget(now_us);
        if (this.#recent.length > MOST) this.#recent.shift();
    }

    /** Codec bits a second of audio over the last two seconds. @param {number} now_us */
    codecKbps(now_us) {
        this.#forget(now_us);
        const samples = this.#recent.reduce((sum, part) => sum + part.samples, 0);
        return samples ? (this.#recent.reduce((sum, part) => sum + part.bits, 0) * this.#sampleRate) / samples / 1000 : 0;
    }

    /** Bits on the wire a second of time over the last two seconds. @param {number} now_us */
    wireKbps(now_us) {
        this.#forget(now_us);
        return (this.#recent.reduce((sum, part) => sum + part.wire, 0) * 8000) / WINDOW_US;
    }

    /** @param {number} now_us */
    #forget(now_us) {
        let old = 0;
        while (old < this.#recent.length && now_us - this.#recent[old].at > WINDOW_US) old++;
        if (old) this.#recent.splice(0, old);
    }
}
