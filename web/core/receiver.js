/**
 * What a page does with messages on their way in: messages go in, and the sound of all speakers comes
 * out. The twin of client/core/receiver.py, with a volume for each speaker.
 */
import { BITS } from "./bitstream.js";
import { LatencyLog, pathOf, stagesWhenPlayed } from "./latency.js";
import { SILENCE_DBFS, dbfs, softLimit } from "./level.js";
import { ProtocolError } from "./packet.js";
import { Playout } from "./playout.js";
import { Traffic } from "./traffic.js";

const MAX_SOURCES = 64, LEVEL_FALL_DB_PER_S = 40;

/** @typedef {import("./concealment.js").Forkable} Decoder */

class Speaker {
    latency = new LatencyLog();
    left = false;
    level_dbfs = SILENCE_DBFS;
    last_us = 0;

    /** @param {Playout} playout @param {number} sampleRate */
    constructor(playout, sampleRate) {
        this.playout = playout;
        this.traffic = new Traffic(sampleRate);
    }
}

/** Turns messages of the server into the mixed sound of all speakers. */
export class Receiver {
    /** Latencies of all speakers together. */
    latency = new LatencyLog();
    packetsDropped = 0;
    /** @type {Map<number, Speaker>} */ #speakers = new Map();
    /** @type {Map<number, number>} */ #volumes = new Map();
    #parts;

    /**
     * `codebooks` is how many the model has; `time_us` reads the local clock after decoding.
     * @param {{makeDecoder: () => Decoder, hop: number, sampleRate: number, codebooks: number,
     *     clock: import("./clock.js").ServerClock, time_us: () => number}} parts
     */
    constructor(parts) {
        this.#parts = parts;
        this.traffic = new Traffic(parts.sampleRate);
    }

    /**
     * Takes what a message held that arrived at `now_us`. Throws ProtocolError, and takes nothing of it, if it has more
     * codebooks than the model.
     * @param {import("./packet.js").Heard} heard @param {number} now_us
     */
    take({ packets, silences }, now_us) {
        const { codebooks, hop } = this.#parts;
        if (packets.some(({ codes }) => codes && codes[0].length > codebooks))
            throw new ProtocolError(`more codebooks than the ${codebooks} of the model`);
        for (const { source, sequence, levels } of silences) this.#speakers.get(source)?.playout.hush(sequence, levels);
        for (const packet of packets) {
            /** @type {{codes?: Int16Array, pcm?: Float32Array, samples: number}[]} */ const frames = [];
            if (packet.codes) for (const codes of packet.codes) frames.push({ codes, samples: hop });
            else for (let at = 0; at < packet.pcm.length; at += hop) {
                const pcm = packet.pcm.slice(at, at + hop);
                frames.push({ pcm, samples: pcm.length });
            }
            const samples = frames.reduce((sum, frame) => sum + frame.samples, 0);
            const bits = packet.codes ? packet.codes.length * packet.codes[0].length * BITS : samples * 16;
            this.traffic.add(now_us, frames.length, samples, bits);
            const speaker = this.#speaker(packet.source);
            if (!speaker) {
                this.packetsDropped++;
                continue;
            }
            const { trace } = packet, { clock } = this.#parts;
            const path = trace && clock.ready ? pathOf(trace, clock, now_us) : null;
            speaker.last_us = now_us;
            speaker.traffic.add(now_us, frames.length, samples, bits);
            speaker.playout.jitter.put(packet.sequence, packet.timestamp, frames, now_us, path);
        }
    }

    /** Takes note that a speaker is muted or is not. @param {number} source @param {boolean} muted */
    peerMuted(source, muted) { this.#speakers.get(source)?.playout.announceSilence(muted); }

    /** Takes note that a speaker left. What has come of it is still played. @param {number} source */
    peerLeft(source) {
        const speaker = this.#speakers.get(source);
        if (!speaker) return;
        speaker.left = true;
        speaker.playout.announceSilence(true);
    }

    /** Sets how loud a speaker is played, 1 as it came. @param {number} source @param {number} volume */
    setVolume(source, volume) { this.#volumes.set(source, volume); }

    /**
     * Returns the next `n` samples of the mix, which are taken at `now_us`. The first is heard at `heard_us`.
     * @param {number} n @param {number} now_us @param {number} heard_us
     */
    pull(n, now_us, heard_us) {
        const mix = new Float32Array(n), { sampleRate } = this.#parts;
        for (const [source, speaker] of this.#speakers) {
            const block = speaker.playout.pull(n, now_us), volume = this.#volumes.get(source) ?? 1;
            for (let i = 0; i < n; i++) mix[i] += volume * block.pcm[i];
            this.#log(speaker, block, now_us, heard_us);
            const fallen = speaker.level_dbfs - (LEVEL_FALL_DB_PER_S * n) / sampleRate;
            speaker.level_dbfs = Math.max(dbfs(speaker.playout.level), fallen, SILENCE_DBFS);
            if (speaker.left && speaker.playout.idle) this.#retire(source);
        }
        softLimit(mix);
        return mix;
    }

    /** Returns the figures of every speaker that is here. @param {number} now_us */
    stats(now_us) {
        return [...this.#speakers].map(([id, { playout, traffic, latency, level_dbfs }]) => ({
            id, level_dbfs, codecKbps: traffic.codecKbps(now_us), underruns: playout.underruns,
            played: playout.jitter.taken, missing: playout.jitter.missing, delay_ms: Math.max(playout.delay_us, 0) / 1000,
            target_ms: playout.jitter.delay.target_us / 1000, mouthToEar_ms: latency.recent(5)?.total ?? null }));
    }

    /** Gives back the memory of all decoders. The receiver may not be used any more. */
    close() { for (const source of [...this.#speakers.keys()]) this.#retire(source); }

    /** @param {number} source */
    #speaker(source) {
        const known = this.#speakers.get(source);
        if (known) return known;
        if (this.#speakers.size >= MAX_SOURCES && !this.#retireIdle()) return null;
        const { makeDecoder, hop, sampleRate, time_us } = this.#parts;
        const speaker = new Speaker(new Playout(makeDecoder, hop, sampleRate, time_us), sampleRate);
        this.#speakers.set(source, speaker);
        return speaker;
    }

    /** Retires the speaker that has been silent longest. Returns false if all are talking. */
    #retireIdle() {
        const idle = [...this.#speakers].filter(([, speaker]) => speaker.playout.idle);
        if (!idle.length) return false;
        this.#retire(idle.reduce((a, b) => (b[1].last_us < a[1].last_us ? b : a))[0]);
        return true;
    }

    /** @param {number} source */
    #retire(source) {
        this.#speakers.get(source)?.playout.close();
        this.#speakers.delete(source);
    }

    /** @param {Speaker} speaker @param {import("./playout.js").Block} block @param {number} now_us @param {number} heard_us */
    #log(speaker, block, now_us, heard_us) {
        const us = (/** @type {number} */ samples) => (samples * 1e6) / this.#parts.sampleRate;
        for (const [index, frame] of block.started) {
            if (!frame.path || frame.capture_us === null) continue;
            const captured = frame.capture_us + us(block.positions[index] - frame.timestamp);
            const stages = stagesWhenPlayed(frame.path, captured, frame.arrival_us, frame.taken_us, frame.decoded_us, now_us,
                heard_us + us(index));
            this.latency.add(stages);
            speaker.latency.add(stages);
        }
    }
}
