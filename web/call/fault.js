/** What ends a call or prevents it, in words for people. */

/** @typedef {"unreachable" | "refused" | "damaged" | "too old" | "broken"} FaultKind */

/** Close codes after which another try would end the same way (docs/protocol.md). */
const FINAL = new Set([4000, 4001, 4002, 4003, 4004, 4012, 4015, 4016, 4017, 4018, 4019, 4021]);

export class Fault extends Error {
    /** @param {FaultKind} kind @param {string} message a sentence @param {number | null} code close code of the server */
    constructor(kind, message, code = null) {
        super(message);
        this.kind = kind;
        this.code = code;
    }

    /** Whether another try would end the same way. */
    get final() { return this.kind === "refused" ? this.code === null || FINAL.has(this.code) : this.kind !== "unreachable"; }
}
