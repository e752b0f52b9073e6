/**
 * Decides from the level of each frame whether somebody speaks, so that silence need not be sent. The twin of
 * client/core/voice_activity.py, which says how.
 */
const CALM_FRAMES = 5, RISE_DB_PER_S = 1.5, FIRST_FLOOR_DB = -50, LOWEST_FLOOR_DB = -70, OVER_FLOOR_DB = 5, HANG_OVER_S = 0.4;

/** The activity of one speaker. */
export class VoiceActivity {
    #rise_db;
    #hangOver;
    /** @type {number[]} */ #recent = [];
    #left;
    #floor_db = FIRST_FLOOR_DB;

    /** @param {number} framesPerS */
    constructor(framesPerS) {
        this.#rise_db = RISE_DB_PER_S / framesPerS;
        this.#hangOver = this.#left = Math.round(HANG_OVER_S * framesPerS);
    }

    /** Returns whether a frame of this level is louder than noise. @param {number} level_db of full scale, RMS */
    isLoud(level_db) { return level_db > this.#floor_db + OVER_FLOOR_DB; }

    /** Returns whether the next frame, of this level, is to be sent. @param {number} level_db */
    take(level_db) {
        this.#left = this.isLoud(level_db) ? this.#hangOver : Math.max(this.#left - 1, 0);
        this.#recent.push(level_db);
        if (this.#recent.length > CALM_FRAMES) this.#recent.shift();
        if (this.#recent.length === CALM_FRAMES)
            this.#floor_db = Math.max(Math.min(this.#floor_db + this.#rise_db, Math.max(...this.#recent)), LOWEST_FLOOR_DB);
        return this.#left > 0;
    }
}
