/**
 * Spends on less delay what silence saves: who speaks a part of the time only can send fewer frames in a
 * message, and still costs no more in a minute than speech without a pause costs with more. The twin of
 * client/core/economy.py. All times are microseconds.
 */
import { MASK_BYTES, MESSAGE_OVERHEAD_BYTES } from "./traffic.js";

/** The time in which it must cost no more. Of what is not known yet it counts as spoken all the time. */
const WINDOW_US = 60_000_000;
/** How often what was spoken is noted. */
const NOTE_US = 1_000_000;
/** Fewer frames are taken where they would cost this share of what they may. */
const FEWER_AT = 0.9;
/** Around the codes of a message. */
const HEADER_BITS = 8 * (MESSAGE_OVERHEAD_BYTES + MASK_BYTES + 3);

/** One direction of one call. */
export class Economy {
    #framesPerS;
    /** @type {[number, number][]} times, and how many frames there had been then */ #notes = [];
    #frames = 0;

    /** @param {number} framesPerS */
    constructor(framesPerS) { this.#framesPerS = framesPerS; }

    /** Takes note of how many frames were sent, or came, so far. @param {number} frames @param {number} now_us */
    note(frames, now_us) {
        const last = this.#notes[this.#notes.length - 1];
        if (last && now_us - last[0] < NOTE_US) return;
        if (last && frames < last[1]) this.#notes = []; // another connection
        this.#notes.push([now_us, frames]);
        while (now_us - this.#notes[0][0] > WINDOW_US) this.#notes.shift();
    }

    /** How much of the last minute was spoken; more than 1 if several speak at once. */
    get share() {
        if (!this.#notes.length) return 1;
        const [first_us, first] = this.#notes[0], [last_us, last] = this.#notes[this.#notes.length - 1];
        const unknown_us = Math.max(WINDOW_US - (last_us - first_us) - NOTE_US, 0);
        return ((last - first) / this.#framesPerS + unknown_us / 1e6) / (WINDOW_US / 1e6);
    }

    /** Returns how many frames a message should hold, where it may be `most` and codes take `kbps`.
     * @param {number} most @param {number} kbps */
    choose(most, kbps) {
        const may = this.#cost(most, kbps), { share } = this;
        if (!this.#frames || this.#frames > most) this.#frames = most;
        while (this.#frames < most && share * this.#cost(this.#frames, kbps) > may) this.#frames++;
        while (this.#frames > 1 && share * this.#cost(this.#frames - 1, kbps) <= FEWER_AT * may) this.#frames--;
        return this.#frames;
    }

    /** @param {number} frames @param {number} kbps */
    #cost(frames, kbps) { return kbps + ((this.#framesPerS / frames) * HEADER_BITS) / 1000; }
}
