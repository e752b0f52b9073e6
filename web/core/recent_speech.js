/**
 * What was said in the last second, for a server that this page comes back to: the twin of
 * client/core/recent_speech.py.
 */
import { CODES_UP, PCM_UP, cutUp, sequenceOf } from "./packet.js";
import { SEQUENCE_MODULUS, wrapDifference } from "./sequence.js";

const KEPT_US = 1_000_000;
/** The same of PCM, which is 20 times as much and waits for an encoder, which keeps 32 frames. */
const KEPT_PCM_US = 400_000;
/** Messages at most; more than one a frame makes in a second. */
const MOST_KEPT = 128;
/** Codebooks of what is sent again. */
const COARSE = 2;

/** Keeps messages of codes and PCM, as the sender made them. */
export class RecentSpeech {
    /** @type {[number, Uint8Array<ArrayBuffer>][]} when, and what */ #kept = [];

    /** Takes a message that is sent now, or would be if there were a connection.
     * @param {Uint8Array<ArrayBuffer>} message @param {number} now_us */
    add(message, now_us) {
        if (message[0] !== CODES_UP && message[0] !== PCM_UP) return;
        this.#kept.push([now_us, message]);
        if (this.#kept.length > MOST_KEPT) this.#kept.shift();
    }

    /** Returns the messages of the last second, or of the last 0.4 s of PCM, that the server has not got, which expects this
     * sequence (null: any). Of codes it is the coarse codebooks only. @param {number | null} sequence @param {number} now_us */
    since(sequence, now_us) {
        return this.#kept.filter(([at_us, message]) => now_us - at_us <= (message[0] === CODES_UP ? KEPT_US : KEPT_PCM_US)
            && (sequence === null || wrapDifference(sequenceOf(message), sequence, SEQUENCE_MODULUS) >= 0))
            .map(([, message]) => (message[0] === CODES_UP ? cutUp(message, COARSE) : message));
    }
}
