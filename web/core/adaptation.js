/**
 * Decides how much a page sends, from how long what it sends waits: more frames in a message at first, then
 * fewer codebooks; fast down, slow up. The twin of client/core/adaptation.py, which says how it decides and
 * why its numbers are what they are. All times are microseconds.
 */

/** Frames in a message, from those that come soonest to those that cost the fewest headers. */
const FRAMES = [1, 2, 3, 4, 6];
const WINDOW_US = 300_000, MOST_RECENT = 256, BEHIND_US = 100_000, PATIENCE_US = 100_000, STEP_US = 250_000, FALLS = 0.875;
const FAR_US = 600_000, CALM_US = 50_000, AT_ONCE_US = 300_000, QUICK_US = 1_000_000, CLIMB_US = 4_000_000, LONGEST_CLIMB_US = 64_000_000;

/** What is sent: frames in a message, and the codec rate. @typedef {{frames: number, kbps: number}} Amount */

/** How long after its begin a connection is left alone: its first messages come all at once. */
export const SETTLE_US = 2_000_000;

/** Returns the steps from what is wanted down to the least. @param {Amount} most @param {number[]} rates of the codec
 * @returns {Amount[]} */
export function ladder(most, rates) {
    const steps = [most, ...FRAMES.filter((frames) => frames > most.frames).map((frames) => ({ frames, kbps: most.kbps }))];
    const { frames } = steps[steps.length - 1], lower = rates.filter((rate) => rate < most.kbps).sort((a, b) => b - a);
    return [...steps, ...lower.map((kbps) => ({ frames, kbps }))];
}

/** Holds the step that one line is at. */
export class Adaptation {
    #rates;
    #steps;
    #at = 0;
    /** Steps down so far. */
    downs = 0;
    /** @type {[number, number][]} when, and what waited */ #recent = [];
    /** @type {[number, number] | null} since when what waits is behind and did not go down by itself, and what waited then */ #behind = null;
    /** How long that may last until the next step. */
    #wait_us = PATIENCE_US;
    /** @type {number | null} since when it has been calm, or the last step up */ #calm_us = null;
    #climb_us = CLIMB_US;
    #waited_us = 0;
    /** @type {number | null} */ #climbed_us = null;

    /** @param {Amount} most what is sent on a good line @param {number[]} rates those that the codec has */
    constructor(most, rates) {
        this.#rates = rates;
        this.#steps = ladder(most, rates);
    }

    /** What to send. */
    get amount() { return this.#steps[this.#at]; }

    /** What is sent on a good line. */
    get most() { return this.#steps[0]; }

    /** Whether that is less than what is wanted. */
    get lowered() { return this.#at > 0; }

    /** Takes what is to be sent on a good line from now on. As many steps below it as before are taken, if there are.
     * @param {Amount} most */
    want(most) {
        this.#steps = ladder(most, this.#rates);
        this.#at = Math.min(this.#at, this.#steps.length - 1);
    }

    /** Takes how much longer than on an idle line what is sent waits, and returns what to send. It should be called several
     * times in a quarter of a second. @param {number} waiting_us @param {number} now_us */
    observe(waiting_us, now_us) {
        const recent = this.#recent;
        recent.push([now_us, waiting_us]);
        if (recent.length > MOST_RECENT) recent.shift();
        while (now_us - recent[0][0] > WINDOW_US) recent.shift();
        const least_us = recent.reduce((least, [, waiting]) => Math.min(least, waiting), Infinity);
        if (least_us <= CALM_US && this.#waited_us >= AT_ONCE_US) this.#climb_us = QUICK_US;
        this.#waited_us = least_us;
        if (least_us <= BEHIND_US) {
            this.#behind = null;
            this.#wait_us = PATIENCE_US;
        } else this.#behind ??= [now_us, least_us];
        if (least_us > CALM_US) this.#calm_us = null;
        else this.#calm_us ??= now_us;
        if (this.#isTooMuch(least_us, now_us)) this.#stepDown(least_us, now_us);
        else if (this.lowered && this.#calm_us !== null && now_us - this.#calm_us >= this.#climb_us) {
            this.#at--;
            this.#calm_us = this.#climbed_us = now_us;
        }
        if (!this.lowered && this.#climbed_us !== null && now_us - this.#climbed_us > LONGEST_CLIMB_US) {
            this.#climb_us = CLIMB_US;
            this.#climbed_us = null;
        }
        return this.amount;
    }

    /** @param {number} waiting_us @param {number} now_us */
    #isTooMuch(waiting_us, now_us) {
        if (!this.#behind) return false;
        if (waiting_us >= FAR_US) return true;
        const [since_us, then_us] = this.#behind;
        if (now_us - since_us < this.#wait_us) return false;
        const falls = waiting_us <= FALLS * then_us;
        if (falls && this.#wait_us === PATIENCE_US) this.#behind = [now_us, waiting_us];
        return !falls;
    }

    /** @param {number} waiting_us @param {number} now_us */
    #stepDown(waiting_us, now_us) {
        const last = this.#steps.length - 1;
        if (this.#at < last) {
            this.#at = waiting_us >= FAR_US ? last : this.#at + 1;
            this.downs++;
            if (this.#climbed_us !== null && now_us - this.#climbed_us < this.#climb_us)
                this.#climb_us = Math.min(2 * this.#climb_us, LONGEST_CLIMB_US);
            this.#climbed_us = null;
        }
        this.#behind = [now_us, waiting_us];
        this.#wait_us = STEP_US;
    }
}
