/**
 * Binary messages of the protocol (docs/protocol.md, "Media"): those that a page sends and those that
 * it gets. The twin of protocol/packet.py, held to the same golden bytes.
 */
import { BANDS } from "./background.js";
import { BITS, pack, packedSize, unpack } from "./bitstream.js";
import { mod } from "./numbers.js";
import { CLOCK_MODULUS } from "./sequence.js";

export const MAX_FRAMES = 32;
export const MAX_CODEBOOKS = 32;
export const MAX_PCM_SAMPLES = 24_000;
export const TRACE_TICK_US = 100;
export const PCM_UP = 1, CODES_UP = 2, CODES_DOWN = 3;
const PCM_DOWN = 4, SILENCE_UP = 7, SILENCE_DOWN = 8;
export const TRACE_FLAG = 1;
/** Bytes of a header of codes or samples up. */
export const UP_BYTES = 10;
const TRACE_BYTES = 12;

/** Says that a message is none that docs/protocol.md allows. */
export class ProtocolError extends Error {}

/**
 * When things happened to the first frame of a packet: `capture_us` on the server's clock modulo
 * 2^32, then ticks of 0.1 ms after it, 0 where not yet known.
 * @typedef {{capture_us: number, framed: number, encoded: number, received: number, relayed: number}} Trace
 */

/**
 * Codes of one speaker. `source` is 0 on the way up.
 * @typedef {{source: number, sequence: number, timestamp: number, trace: Trace | null, codes: Int16Array[],
 *     pcm?: undefined}} CodesPacket
 * Samples of one speaker.
 * @typedef {{source: number, sequence: number, timestamp: number, trace: Trace | null, pcm: Float32Array,
 *     codes?: undefined}} PcmPacket
 * A speaker says nothing from here on, and goes on with the frame of this number.
 * @typedef {{source: number, sequence: number, timestamp: number, levels: Uint8Array}} Silence
 * What a message from the server holds.
 * @typedef {{packets: (CodesPacket | PcmPacket)[], silences: Silence[]}} Heard
 */

/**
 * Returns the ticks from a capture to a reading of the server's clock, limited to what fits.
 * @param {number} capture_us @param {number} clock_us
 */
export function ticksAt(capture_us, clock_us) {
    const elapsed = mod(clock_us - capture_us, CLOCK_MODULUS);
    return elapsed >= CLOCK_MODULUS / 2 ? 0 : Math.min(Math.floor(elapsed / TRACE_TICK_US), 0xffff);
}

/** @param {DataView} view @param {number} at @param {Trace} trace */
function putTrace(view, at, trace) {
    view.setUint32(at, trace.capture_us, true);
    view.setUint16(at + 4, trace.framed, true);
    view.setUint16(at + 6, trace.encoded, true);
    view.setUint16(at + 8, trace.received, true);
    view.setUint16(at + 10, trace.relayed, true);
}

/**
 * @param {number} type @param {number} third @param {number} fourth the bytes after the flags
 * @param {{sequence: number, timestamp: number, trace: Trace | null}} packet @param {number} size of what follows
 * @returns {[Uint8Array<ArrayBuffer>, DataView, number]} the message, and where its payload begins
 */
function begin(type, third, fourth, { sequence, timestamp, trace }, size) {
    const at = UP_BYTES + (trace ? TRACE_BYTES : 0), bytes = new Uint8Array(at + size), view = new DataView(bytes.buffer);
    bytes.set([type, trace ? TRACE_FLAG : 0, third, fourth]);
    view.setUint16(4, sequence, true);
    view.setUint32(6, timestamp, true);
    if (trace) putTrace(view, UP_BYTES, trace);
    return [bytes, view, at];
}

/** Writes a message of codes. @param {{sequence: number, timestamp: number, trace: Trace | null, codes: Int16Array[]}} packet */
export function encodeCodesUp(packet) {
    const { codes } = packet, payload = pack(codes);
    const [bytes, , at] = begin(CODES_UP, codes[0].length, codes.length, packet, payload.length);
    bytes.set(payload, at);
    return bytes;
}

/** Returns the sequence number of a message of codes or samples up. @param {Uint8Array<ArrayBuffer>} message */
export const sequenceOf = (message) => new DataView(message.buffer, message.byteOffset).getUint16(4, true);

/** Returns a message of codes up at the rate of so many codebooks, or as it is if it has no more.
 * @param {Uint8Array<ArrayBuffer>} message @param {number} most */
export function cutUp(message, most) {
    const [, flags, codebooks, frames] = message;
    if (codebooks <= most) return message;
    const cut = message.slice(0, UP_BYTES + (flags & TRACE_FLAG ? TRACE_BYTES : 0) + packedSize(most, frames));
    cut[2] = most;
    const used = (most * frames * BITS) % 8;
    if (used) cut[cut.length - 1] &= (1 << used) - 1; // the rest belonged to the next codebook
    return cut;
}

/**
 * Writes a message of 16-bit samples.
 * @param {{sequence: number, timestamp: number, trace: Trace | null, samples: Int16Array}} packet
 */
export function encodePcmUp(packet) {
    const { samples } = packet, [bytes, view, at] = begin(PCM_UP, 0, 0, packet, 2 * samples.length);
    samples.forEach((sample, index) => view.setInt16(at + 2 * index, sample, true));
    return bytes;
}

/** Writes a message of silence. @param {{sequence: number, timestamp: number, levels: Uint8Array}} silence */
export function encodeSilenceUp({ sequence, timestamp, levels }) {
    const bytes = new Uint8Array(8 + BANDS), view = new DataView(bytes.buffer);
    bytes[0] = SILENCE_UP;
    view.setUint16(2, sequence, true);
    view.setUint32(4, timestamp, true);
    bytes.set(levels, 8);
    return bytes;
}

/** Reads a message from the front. Throws ProtocolError where it is too short. */
export class Reader {
    at = 0;

    /** @param {ArrayBuffer} message */
    constructor(message) {
        this.bytes = new Uint8Array(message);
        this.view = new DataView(message);
    }

    /** Returns where the next bytes begin, and goes on after them. @param {number} size */
    take(size) {
        const at = this.at;
        this.at += size;
        if (this.at > this.bytes.length) throw new ProtocolError(`message of ${this.bytes.length} bytes is truncated`);
        return at;
    }

    u8() { return this.view.getUint8(this.take(1)); }
    u16() { return this.view.getUint16(this.take(2), true); }
    u32() { return this.view.getUint32(this.take(4), true); }

    zero() { if (this.u8()) throw new ProtocolError("a byte that must be zero is not"); }

    /** @param {number} flags @returns {Trace | null} */
    trace(flags) {
        if (flags & ~TRACE_FLAG) throw new ProtocolError(`flags ${flags} were not agreed on`);
        if (!flags) return null;
        return { capture_us: this.u32(), framed: this.u16(), encoded: this.u16(), received: this.u16(), relayed: this.u16() };
    }
}

/** Reads packed codes, frame by frame. @param {Reader} reader @param {number} codebooks @param {number} count */
export function readPayload(reader, codebooks, count) {
    const size = packedSize(codebooks, count), at = reader.take(size);
    const codes = unpack(reader.bytes.subarray(at, at + size), codebooks, count);
    if (!codes) throw new ProtocolError("unused bits of packed codes are not zero");
    return codes;
}

/** Reads an entry of codes with a long header. @param {Reader} reader @returns {CodesPacket} */
export function readCodes(reader) {
    const source = reader.u16(), flags = reader.u8(), codebooks = reader.u8(), count = reader.u8();
    reader.zero();
    const sequence = reader.u16(), timestamp = reader.u32();
    if (codebooks < 1 || codebooks > MAX_CODEBOOKS || count < 1 || count > MAX_FRAMES)
        throw new ProtocolError(`${codebooks} codebooks x ${count} frames`);
    const trace = reader.trace(flags);
    return { source, sequence, timestamp, trace, codes: readPayload(reader, codebooks, count) };
}

/** @param {Reader} reader @returns {PcmPacket} */
function readPcm(reader) {
    const source = reader.u16(), samples = reader.u16(), flags = reader.u8();
    reader.zero();
    const sequence = reader.u16(), timestamp = reader.u32();
    if (samples > MAX_PCM_SAMPLES) throw new ProtocolError(`${samples} samples`);
    const trace = reader.trace(flags), at = reader.take(2 * samples), pcm = new Float32Array(samples);
    for (let i = 0; i < samples; i++) pcm[i] = reader.view.getInt16(at + 2 * i, true) / 32768;
    return { source, sequence, timestamp, trace, pcm };
}

/** @param {Reader} reader @returns {Silence} */
function readSilence(reader) {
    const source = reader.u16(), sequence = reader.u16(), timestamp = reader.u32(), at = reader.take(BANDS);
    return { source, sequence, timestamp, levels: reader.bytes.slice(at, at + BANDS) };
}

/**
 * Reads a binary message from the server. Throws ProtocolError for anything that docs/protocol.md does
 * not allow, and for windows and entropy-coded codes, to which a page does not agree.
 * @param {ArrayBuffer} message
 * @returns {Heard}
 */
export function decodeDown(message) {
    const reader = new Reader(message), type = reader.u8();
    if (![CODES_DOWN, PCM_DOWN, SILENCE_DOWN].includes(type)) throw new ProtocolError(`unknown binary message type ${type}`);
    const entries = reader.u8();
    /** @type {(CodesPacket | PcmPacket)[]} */ const packets = [];
    /** @type {Silence[]} */ const silences = [];
    for (let i = 0; i < entries; i++) {
        if (type === SILENCE_DOWN) silences.push(readSilence(reader));
        else packets.push(type === CODES_DOWN ? readCodes(reader) : readPcm(reader));
    }
    if (reader.at !== reader.bytes.length) throw new ProtocolError("bytes after the end of the message");
    return { packets, silences };
}
