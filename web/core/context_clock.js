/**
 * An AudioContext's clock as seen from here. The fastest message of the last seconds tells how far it is
 * ahead: the others waited for a thread.
 */

const WINDOW_US = 2_000_000;

export class ContextClock {
    /** @type {[number, number][]} arrival and offset, offsets ascending */ #fastest = [];

    /** Takes note that a message came at `now_us` which was sent at `context_s` by the context's clock.
     * @param {number} context_s @param {number} now_us */
    observe(context_s, now_us) {
        const offset = now_us - context_s * 1e6, fastest = this.#fastest;
        while (fastest.length && now_us - fastest[0][0] > WINDOW_US) fastest.shift();
        while (fastest.length && fastest[fastest.length - 1][1] >= offset) fastest.pop();
        fastest.push([now_us, offset]);
    }

    /** Converts a time of the context to the local clock. Something must have been observed. @param {number} context_s */
    local_us(context_s) { return context_s * 1e6 + (this.#fastest.length ? this.#fastest[0][1] : 0); }
}
