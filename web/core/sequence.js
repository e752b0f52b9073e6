/**
 * Sequence numbers, timestamps and clock readings that wrap: the twin of protocol/sequence.py.
 */
import { mod } from "./numbers.js";

export const SEQUENCE_MODULUS = 2 ** 16;
export const TIMESTAMP_MODULUS = 2 ** 32;
export const CLOCK_MODULUS = 2 ** 32;

/**
 * Returns `later - earlier` of two numbers that wrap, in -modulus/2 .. modulus/2 - 1 (RFC 1982).
 * @param {number} later @param {number} earlier @param {number} modulus
 */
export const wrapDifference = (later, earlier, modulus) => mod(later - earlier + modulus / 2, modulus) - modulus / 2;

/**
 * Returns the number that is closest to `near` of all that wrap to `wrapped`.
 * @param {number} wrapped @param {number} near @param {number} modulus
 */
export const unwrap = (wrapped, near, modulus) => near + wrapDifference(wrapped, near, modulus);

/** Decides what becomes of numbers that come in any order and are handed out in ascending order. */
export class ReorderTracker {
    /** How many numbers were given up. One that comes afterwards still counts. */
    missing = 0;
    /** @type {number | null} */ #next = null;
    /** @type {Set<number>} */ #givenUp = new Set();
    #memory;

    /** @param {number} memory how many of the numbers that were given up are remembered */
    constructor(memory) { this.#memory = memory; }

    /** Returns whether no number is missing before this one. @param {number} number */
    isNext(number) { return this.#next === null || number === this.#next; }

    /**
     * Returns what a number is, given those that have come and wait for their turn.
     * @param {number} number @param {Map<number, unknown>} waiting
     * @returns {"in time" | "late" | "duplicate"}
     */
    arrive(number, waiting) {
        if (waiting.has(number)) return "duplicate";
        if (this.#next === null || number >= this.#next) return "in time";
        const givenUp = this.#givenUp.delete(number);
        return givenUp || this.#next - number > this.#memory ? "late" : "duplicate";
    }

    /** Takes note that a number has had its turn. Those missing before it are given up. @param {number} number */
    handOut(number) {
        if (this.#next !== null) {
            this.missing += number - this.#next;
            for (let lost = Math.max(this.#next, number - this.#memory); lost < number; lost++) this.#givenUp.add(lost);
            for (const oldest of this.#givenUp) {
                if (this.#givenUp.size <= this.#memory) break;
                this.#givenUp.delete(oldest);
            }
        }
        this.#next = number + 1;
    }
}
