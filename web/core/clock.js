/**
 * The server's clock as seen from here, by NTP's four times (docs/protocol.md, "Clocks"): the twin of
 * client/core/clock.py.
 */
import { CLOCK_MODULUS, wrapDifference } from "./sequence.js";

const KEEP = 32, MAX_AGE_US = 60_000_000, MAX_PENDING = 64;

export class ServerClock {
    /** @type {{at: number, offset: number, roundTrip: number}[]} */ #samples = [];
    /** @type {number[]} */ #pending = [];
    /** @type {number | null} The server's clock minus the local one, null until the first pong. */
    offset_us = null;
    /** @type {number | null} Round trip of the ping that the offset is from. */
    roundTrip_us = null;

    get ready() { return this.offset_us !== null; }

    /** Returns how long the newest ping has waited for its answer, 0 if it has come. Older ones do not count: an answer may be
     * lost with its connection. @param {number} now_us */
    unanswered_us(now_us) { return this.#pending.length ? now_us - this.#pending[this.#pending.length - 1] : 0; }

    /** Returns the ping to send now. @param {number} now_us */
    ping(now_us) {
        this.#pending.push(now_us);
        if (this.#pending.length > MAX_PENDING) this.#pending.shift();
        return { type: "ping", sent_us: now_us };
    }

    /**
     * Takes an answer. Returns false, and changes nothing, if it cannot be one.
     * @param {{ping_us: number, received_us: number, sent_us: number}} pong @param {number} now_us
     */
    pong(pong, now_us) {
        const roundTrip = now_us - pong.ping_us - (pong.sent_us - pong.received_us);
        const index = this.#pending.indexOf(pong.ping_us);
        if (index < 0 || roundTrip < 0 || pong.sent_us < pong.received_us) return false;
        this.#pending.splice(index, 1);
        const offset = Math.floor((pong.received_us - pong.ping_us + (pong.sent_us - now_us)) / 2);
        this.#samples.push({ at: now_us, offset, roundTrip });
        while (this.#samples.length > KEEP || now_us - this.#samples[0].at > MAX_AGE_US) this.#samples.shift();
        const best = this.#samples.reduce((a, b) => (b.roundTrip < a.roundTrip ? b : a));
        this.offset_us = best.offset;
        this.roundTrip_us = best.roundTrip;
        return true;
    }

    /** Converts a local time to the server's clock, not wrapped. @param {number} local_us */
    toServer(local_us) {
        if (this.offset_us === null) throw new Error("the server's clock is not known before the first pong");
        return local_us + this.offset_us;
    }

    /**
     * Converts a reading of the server's clock modulo 2^32 to the local time that is closest to `near_us`.
     * @param {number} wrapped_us @param {number} near_us
     */
    fromServerWrapped(wrapped_us, near_us) {
        return near_us + wrapDifference(wrapped_us, this.toServer(near_us), CLOCK_MODULUS);
    }
}
