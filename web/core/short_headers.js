/**
 * Short headers of packets (docs/protocol.md, "Short headers"): what follows on the packet before it, in one
 * direction of one connection, says only how it differs. The twin of protocol/short_headers.py, for the ways that
 * a page goes: it writes what goes up and reads what comes down.
 */
import { mod } from "./numbers.js";
import { CODES_DOWN, CODES_UP, ProtocolError, Reader, TRACE_FLAG, UP_BYTES, decodeDown, readCodes, readPayload } from "./packet.js";
import { SEQUENCE_MODULUS, TIMESTAMP_MODULUS } from "./sequence.js";

const SHORT_UP = 5, SHORT_DOWN = 6;
/** Frames of a packet with a short header, at most. */
const MOST_FRAMES = 8;
/** Bits of the byte `shape`: frames - 1, and what follows. */
const FRAMES = 7, TRACE = 8, CODED = 16, ANEW = 32, GAP = 64, LONG = 128;
const GAP_BYTES = 6;

/** What both ends know of a speaker after its last packet. @typedef {{source: number, codebooks: number, sequence: number, timestamp: number}} Note */

/** @param {number} source @param {number} codebooks @param {number} frames @param {number} sequence @param {number} timestamp
 * @param {number} hop @returns {Note} */
const after = (source, codebooks, frames, sequence, timestamp, hop) => ({ source, codebooks,
    sequence: mod(sequence + frames, SEQUENCE_MODULUS), timestamp: mod(timestamp + frames * hop, TIMESTAMP_MODULUS) });

/** Shortens the messages of one link. Each must be sent, in this order. */
export class LinkWriter {
    #hop;
    /** @type {Note | null} */ #note = null;

    /** @param {number} hop samples of a frame */
    constructor(hop) { this.#hop = hop; }

    /** Returns a message of frames (`encodeCodesUp`) with a short header, where it may have one; others as they are.
     * @param {Uint8Array<ArrayBuffer>} message */
    up(message) {
        const [type, flags, codebooks, frames] = message, view = new DataView(message.buffer, message.byteOffset), note = this.#note;
        if (type !== CODES_UP) return message;
        const sequence = view.getUint16(4, true), timestamp = view.getUint32(6, true);
        this.#note = after(0, codebooks, frames, sequence, timestamp, this.#hop);
        if (!note || note.codebooks !== codebooks || frames > MOST_FRAMES) return message;
        const gap = note.sequence !== sequence || note.timestamp !== timestamp, begin = 2 + (gap ? GAP_BYTES : 0);
        const short = new Uint8Array(begin + message.length - UP_BYTES);
        short.set([SHORT_UP, (frames - 1) | (flags & TRACE_FLAG ? TRACE : 0) | (gap ? GAP : 0)]);
        if (gap) {
            const skipped = new DataView(short.buffer);
            skipped.setUint16(2, mod(sequence - note.sequence, SEQUENCE_MODULUS), true);
            skipped.setUint32(4, mod(timestamp - note.timestamp, TIMESTAMP_MODULUS), true);
        }
        short.set(message.subarray(UP_BYTES), begin);
        return short;
    }
}

/** Reads the messages of one link, in the order in which they were sent. What it throws leaves its notes as they were. */
export class LinkReader {
    #hop;
    /** @type {Map<number, Note>} by the low byte of the speaker's id */ #notes = new Map();

    /** @param {number} hop samples of a frame */
    constructor(hop) { this.#hop = hop; }

    /**
     * Reads a message from the server. Throws ProtocolError as `decodeDown` does, and for a short header that no long
     * one went before.
     * @param {ArrayBuffer} message @returns {import("./packet.js").Heard}
     */
    down(message) {
        const reader = new Reader(message), type = reader.u8();
        if (type !== SHORT_DOWN) {
            const heard = decodeDown(message);
            if (type === CODES_DOWN) for (const packet of heard.packets) this.#take(packet);
            return heard;
        }
        const before = new Map(this.#notes);
        /** @type {import("./packet.js").CodesPacket[]} */ const packets = [];
        try {
            while (reader.at < reader.bytes.length) {
                packets.push(this.#entry(reader));
                this.#take(packets[packets.length - 1]);
            }
            if (!packets.length) throw new ProtocolError("a message of no packets");
        } catch (error) {
            this.#notes = before;
            throw error;
        }
        return { packets, silences: [] };
    }

    /** @param {Reader} reader */
    #entry(reader) {
        const shape = reader.u8();
        if (shape & LONG) {
            if (shape !== LONG) throw new ProtocolError(`a long entry of shape ${shape}`);
            return readCodes(reader);
        }
        if (shape & (CODED | ANEW)) throw new ProtocolError("entropy-coded packets were not agreed on");
        const note = this.#notes.get(reader.u8());
        if (!note) throw new ProtocolError("a short header goes on with a speaker whose packets have not begun");
        let { source, codebooks, sequence, timestamp } = note;
        if (shape & GAP) {
            const skipped = reader.u16(), gap = reader.u32();
            if (!skipped && !gap) throw new ProtocolError("a short header names a gap of nothing");
            sequence = mod(sequence + skipped, SEQUENCE_MODULUS);
            timestamp = mod(timestamp + gap, TIMESTAMP_MODULUS);
        }
        const trace = reader.trace(shape & TRACE ? TRACE_FLAG : 0);
        return { source, sequence, timestamp, trace, codes: readPayload(reader, codebooks, (shape & FRAMES) + 1) };
    }

    /** @param {import("./packet.js").CodesPacket | import("./packet.js").PcmPacket} packet */
    #take({ source, sequence, timestamp, codes }) {
        if (codes) this.#notes.set(source & 0xff, after(source, codes[0].length, codes.length, sequence, timestamp, this.#hop));
    }
}
