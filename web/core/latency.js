/**
 * Where the time from mouth to ear goes, stage by stage, for every packet that carries a trace: the
 * twin of client/core/latency.py.
 */
import { TRACE_TICK_US } from "./packet.js";

export const STAGES = ["framing", "uplink", "encode", "server", "network", "jitter", "decode", "output"];

/**
 * A packet's trace in local microseconds. Where a time is not known, the time of the step before
 * stands for it.
 * @typedef {{capture_us: number, framed_us: number, encoded_us: number, received_us: number, relayed_us: number,
 *     codesUp: boolean}} Path
 */

/**
 * Converts a trace by the server's clock.
 * @param {import("./packet.js").Trace} trace @param {import("./clock.js").ServerClock} clock @param {number} arrival_us
 * @returns {Path}
 */
export function pathOf(trace, clock, arrival_us) {
    const capture = clock.fromServerWrapped(trace.capture_us, arrival_us), { framed } = trace;
    const codesUp = trace.encoded > 0 && trace.encoded <= trace.received;
    let encoded, received, last;
    if (codesUp || !trace.received) {
        encoded = trace.encoded || framed;
        received = trace.received || encoded;
        last = received;
    } else {
        received = trace.received;
        encoded = trace.encoded || received;
        last = encoded;
    }
    const at = (/** @type {number} */ ticks) => capture + TRACE_TICK_US * ticks;
    return { capture_us: capture, framed_us: at(framed), encoded_us: at(encoded), received_us: at(received),
        relayed_us: at(trace.relayed || last), codesUp };
}

/**
 * Returns the microseconds that a sample spent in each of the STAGES. What is decoded ahead waits in
 * place of the jitter buffer, so that its wait counts there.
 * @param {Path} path @param {number} capture_us @param {number} arrival_us @param {number} taken_us
 * @param {number} decoded_us @param {number} pulled_us @param {number} heard_us
 */
export function stagesWhenPlayed(path, capture_us, arrival_us, taken_us, decoded_us, pulled_us, heard_us) {
    const ahead = Math.max(pulled_us - decoded_us, 0);
    const { framed_us, encoded_us, received_us, relayed_us } = path;
    const [uplink, encode, server] = path.codesUp
        ? [received_us - encoded_us, encoded_us - framed_us, relayed_us - received_us]
        : [received_us - framed_us, encoded_us - received_us, relayed_us - encoded_us];
    return [framed_us - capture_us, uplink, encode, server, arrival_us - relayed_us, taken_us + ahead - arrival_us,
        decoded_us - taken_us, heard_us - decoded_us - ahead];
}

/** Keeps the stages of the last packets that were played. */
export class LatencyLog {
    /** @type {number[][]} */ #rows = [];
    #keep;

    /** @param {number} keep */
    constructor(keep = 1024) { this.#keep = keep; }

    /** Adds the stages of a packet. @param {number[]} stages */
    add(stages) {
        this.#rows.push(stages);
        if (this.#rows.length > this.#keep) this.#rows.shift();
    }

    /**
     * Returns the median of each stage and of the whole over the last `count` packets, and the 95th
     * percentile of the whole, in ms; null before the first packet.
     * @param {number} count
     */
    recent(count) {
        const rows = this.#rows.slice(-count);
        if (!rows.length) return null;
        const totals = rows.map((row) => row.reduce((a, b) => a + b, 0));
        return { stages: STAGES.map((_, stage) => percentile(rows.map((row) => row[stage]), 50) / 1000),
            total: percentile(totals, 50) / 1000, p95: percentile(totals, 95) / 1000 };
    }
}

/** @param {number[]} values at least one @param {number} point 0..100 */
export function percentile(values, point) {
    const sorted = [...values].sort((a, b) => a - b), at = ((sorted.length - 1) * point) / 100, low = Math.floor(at);
    return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
}
