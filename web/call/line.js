/** Watches how a call's line takes what is sent, and steers how much that is: the twin of client/net/line.py. */
import { Adaptation, SETTLE_US } from "../core/adaptation.js";
import { Economy } from "../core/economy.js";

/** A look that comes so long after the one before says more of this thread than of the line. */
const LATE_US = 150_000;
/** Looks in which nothing was sent before it counts as silence. */
const HUSHED_LOOKS = 5;

/** The line of one call. It keeps what was learnt when a connection is made anew. */
export class Line {
    /** Whether messages hold no fewer frames where silence has saved the bits for it. */
    thrifty = true;
    #most;
    #adaptation;
    #economy;
    #sentFrames = [0];
    #settled_us = Infinity;
    #looked_us = 0;

    /** @param {import("../core/adaptation.js").Amount} most what is sent on a good line @param {number[]} rates of the codec
     * @param {number} framesPerS */
    constructor(most, rates, framesPerS) {
        this.#most = most;
        this.#economy = new Economy(framesPerS);
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
     * does not say what the other end has not acknowledged. `frames` have been sent so far. To be called every 50 ms. Returns
     * whether another amount is sent from now on.
     * @param {number} age_us @param {import("../core/clock.js").ServerClock} clock @param {number} frames @param {number} now_us */
    observe(age_us, clock, frames, now_us) {
        const before = this.amount, late = now_us - this.#looked_us > LATE_US;
        this.#looked_us = now_us;
        this.#economise(frames, now_us);
        if (!late && clock.ready && now_us >= this.#settled_us) {
            const waiting_us = Math.max(age_us, clock.unanswered_us(now_us));
            this.#adaptation.observe(waiting_us - (clock.roundTrip_us ?? 0), now_us);
        }
        return this.amount !== before;
    }

    /** Chooses how many frames a message holds on a good line: fewer while nobody speaks here, more at once. A line that was too
     * thin for what was sent gets no more messages. @param {number} frames @param {number} now_us */
    #economise(frames, now_us) {
        const sent = this.#sentFrames, most = this.#most, now = this.#adaptation.most.frames;
        this.#economy.note(frames, now_us);
        sent.push(frames);
        if (sent.length > HUSHED_LOOKS) sent.shift();
        const spoils = this.thrifty || this.#adaptation.downs > 0;
        const wanted = spoils ? most.frames : this.#economy.choose(most.frames, most.kbps);
        const hushed = sent.length === HUSHED_LOOKS && sent[0] === frames;
        if (wanted > now || (hushed && wanted < now)) this.#adaptation.want({ ...most, frames: wanted });
    }
}
