/**
 * Decides when to play a little faster or slower, so that the spare time of a speaker's play-out stays
 * near its target: the twin of client/core/tempo.py, which explains its numbers.
 */

const LOW_WATER = 0.75, LOW_UNDER_TARGET_US = 10_000, HIGH_WATER_OVER_LOW_US = 20_000, HARD = 4;
const FAR_US = 40_000, SLACK_US = 2_500, PAUSE_SPACING = 4, SPEECH_SPACING = 8.4;
const OBSERVE_US = 500_000, MAX_SEEN = 512, SETTLED_US = 200_000;
const SIMILAR = 0.8, IMPATIENCE = 0.02;

/**
 * What to do to the next samples: cut out (> 0) or repeat (< 0) at most `samples`. Without `urgent` or
 * `hard` it is done in quiet passages only; `urgent` does it also where two periods are as alike as
 * `similar`, `hard` anywhere. The spare time may lose `headroom` samples.
 * @typedef {{samples: number, urgent: boolean, hard: boolean, similar: number, headroom: number}} Plan
 */

/** Controls one speaker's speed. All times are microseconds. */
export class Tempo {
    #sampleRate;
    /** @type {[number, number][]} */ #seen = [];
    #compressing = false;
    #debts = new Map([[PAUSE_SPACING, 0], [SPEECH_SPACING, 0]]);
    #vain = 0;

    /** @param {number} sampleRate */
    constructor(sampleRate) { this.#sampleRate = sampleRate; }

    /** Takes note of a block that is taken now, `transit_us` after the media time of its last frame.
     * @param {number} now_us @param {number} transit_us */
    observe(now_us, transit_us) {
        this.#seen.push([now_us, transit_us]);
        if (this.#seen.length > MAX_SEEN) this.#seen.shift();
        while (now_us - this.#seen[0][0] > OBSERVE_US) this.#seen.shift();
    }

    /** Forgets what was observed, because play-out stopped. */
    interrupted() {
        this.#seen = [];
        this.#compressing = false;
    }

    /** Returns what to do to the next samples, null if nothing. @param {number} target_us @param {number} base_us @returns {Plan | null} */
    plan(target_us, base_us) {
        const seen = this.#seen;
        if (!seen.length) return null;
        const spare = seen.reduce((least, [, transit]) => Math.min(least, transit), Infinity) - base_us;
        const low = Math.max(LOW_WATER * target_us, target_us - LOW_UNDER_TARGET_US);
        const high = Math.max(target_us, low + HIGH_WATER_OVER_LOW_US), excess = spare - target_us, hard = spare > HARD * high;
        this.#compressing = spare > high || (this.#compressing && excess > SLACK_US);
        if ((this.#debts.get(PAUSE_SPACING) ?? 0) > 0) return null;
        const inSpeech = hard || (this.#debts.get(SPEECH_SPACING) ?? 0) <= 0, similar = SIMILAR - IMPATIENCE * this.#vain;
        const headroom = Math.trunc(((spare - low) * this.#sampleRate) / 1e6);
        const settled = excess > FAR_US || seen[seen.length - 1][0] - seen[0][0] >= SETTLED_US;
        const samples = Math.trunc((excess * this.#sampleRate) / 1e6);
        if (excess > SLACK_US && settled) return { samples, urgent: this.#compressing && inSpeech, hard, similar, headroom };
        return spare < low ? { samples, urgent: inSpeech, hard: false, similar, headroom: 0 } : null;
    }

    /** Takes note of what became of a plan: `cut` samples were cut out (> 0) or repeated (< 0), or none
     * were fit for it (0). The spare time lost `spent` samples by it.
     * @param {Plan} plan @param {number} cut @param {number} spent */
    done(plan, cut, spent) {
        if (!cut) {
            this.#vain += plan.urgent ? 1 : 0;
            return;
        }
        this.#vain = 0;
        for (const [spacing, debt] of this.#debts) this.#debts.set(spacing, Math.min(debt, 0) + Math.abs(cut));
        const shift = (spent * 1e6) / this.#sampleRate;
        this.#seen = this.#seen.map(([at, transit]) => [at, transit - shift]);
    }

    /** Takes note of samples that were played. @param {number} samples */
    played(samples) {
        for (const [spacing, debt] of this.#debts) this.#debts.set(spacing, Math.max(debt - samples / spacing, -samples / spacing));
    }
}
