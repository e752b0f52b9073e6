/**
 * How late packets came in the last half minute of speech, and what wait costs least. The twin of client/core/lateness.py, which says
 * why its numbers are what they are. All times are microseconds.
 */
const SECONDS = 30, FIRST_SECONDS = 5, DRY_US = 400_000, LEAST_SECONDS = 15, MAX_US = 80_000, UNKNOWN_US = 17_000, UNKNOWN_FALL_US_PER_S = 3_500;

/** What the latest packets of one speaker needed. */
export class Lateness {
    /** @type {number | null} */ #began_us = null;
    #now_us = 0;
    #base_us = 0;
    /**
     * The last seconds in which packets came: number, and of the latest packet how late it was and its transit.
     * @type {[number, number, number][]}
     */
    #latest = [];

    /**
     * Takes note of a packet with its transit, arrival minus media time, and that of the fastest one.
     * @param {number} transit_us @param {number} base_us @param {number} arrival_us
     */
    observe(transit_us, base_us, arrival_us) {
        this.#began_us ??= arrival_us;
        this.#now_us = arrival_us;
        this.#base_us = base_us;
        const second = Math.floor((arrival_us - this.#began_us) / 1e6), late_us = transit_us - base_us;
        const last = this.#latest[this.#latest.length - 1];
        if (!last || last[0] !== second) {
            this.#latest.push([second, late_us, transit_us]);
            if (this.#latest.length > Math.min(Math.max(FIRST_SECONDS, Math.floor(second / 2)), SECONDS)) this.#latest.shift();
        } else if (late_us > last[1] || (late_us === last[1] && transit_us > last[2])) {
            last[1] = late_us;
            last[2] = transit_us;
        }
    }

    /** The wait that would have cost least. What was late on a faster path may be in time by now. */
    get seen_us() {
        const late = this.#latest.map(([, late_us, transit_us]) => Math.max(Math.min(late_us, transit_us - this.#base_us, MAX_US), 0));
        late.sort((a, b) => b - a);
        const dry = DRY_US / Math.max(late.length, LEAST_SECONDS);
        let [least, best] = [Infinity, 0];
        [...late, 0].forEach((wait, later) => {
            const cost = wait + later * dry;
            if (cost < least || (cost === least && wait < best)) [least, best] = [cost, wait];
        });
        return best;
    }

    /** The same, and what cannot be known at the beginning. */
    get expected_us() {
        const since_s = this.#began_us === null ? 0 : (this.#now_us - this.#began_us) / 1e6;
        return Math.max(this.seen_us, UNKNOWN_US - UNKNOWN_FALL_US_PER_S * since_s);
    }
}
