/** Watches how a call's line takes what is sent, and steers how much that is: the twin of client/net/line.py. */
import { Adaptation, SETTLE_US } from "../core/adaptation.js";

/** A look that comes so long after the one before says more of this thread than of the line. */
const LATE_US = 150_000;

/** The line of one call. It keeps what was learnt when a connection is made anew. */
export class Line {
    #most;
    #adaptation;
    #settled_us = Infinity;
    #looked_us = 0;

    /** @param {import("../core/adaptation.js").Amount} most what is sent on a good line @param {number[]} rates of the codec */
    constructor(most, rates) {
        this.#most = most;
        this.#adaptation = new Adaptation(most, rates);
    }

    /** What is sent now. */
    get amount() { return this.#adaptation.amount; }

    /** Whether that is less than what is wanted. */
    get slow() { return this.#adaptation.lowered; }

    /** Takes what is to be sent on a good line from now on. @param {Partial<import("../core/adaptation.js").Amount>} changed */
    want(changed) {
        this.#most = { ...this.#most, ...changed };
        this.#adaptation.want(this.#most);
    }

    /** Takes note that a connection begins. @param {number} now_us */
    begin(now_us) { this.#settled_us = now_us + SETTLE_US; }

    /** Takes what waits: how old the oldest message is that the browser has not sent, and the ping that was sent last. A browser
     * does not say what the other end has not acknowledged. To be called every 50 ms. Returns whether another amount is sent from now on.
     * @param {number} age_us @param {import("../core/clock.js").ServerClock} clock @param {number} now_us */
    observe(age_us, clock, now_us) {
        const late = now_us - this.#looked_us > LATE_US;
        this.#looked_us = now_us;
        if (late || !clock.ready || now_us < this.#settled_us) return false;
        const before = this.amount, waiting_us = Math.max(age_us, clock.unanswered_us(now_us));
        return this.#adaptation.observe(waiting_us - (clock.roundTrip_us ?? 0), now_us) !== before;
    }
}
