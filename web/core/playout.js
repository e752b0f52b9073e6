/**
 * Play-out of one speaker: makes an even stream of samples out of frames that come unevenly, at the pace
 * of the output device. The twin of client/core/playout.py. Every sample keeps its place on the speaker's
 * timeline, so that its age stays known. Where nothing came, concealment goes on for a few frames, or the
 * sound fades into silence; then it fades back.
 */
import { ComfortNoise } from "./background.js";
import { Concealment } from "./concealment.js";
import { JitterBuffer } from "./jitter.js";
import { rms } from "./level.js";
import { concat, gcd, mod, roundEven } from "./numbers.js";
import { Tempo } from "./tempo.js";
import { PlayoutTimeline } from "./timeline.js";
import { LONGEST_LAG_S, SHORTEST_LAG_S, TEMPLATE_S, findLag, lengthen, shorten } from "./timescale.js";

const QUIET_RMS = 10 ** (-50 / 20), QUIET_SHARE = 0.1, LEVEL_DECAY = 0.995;
const BURST_FRAMES = 8, SPURT_END_US = 1_000_000, FADE_S = 0.005;

/** @typedef {import("./jitter.js").Frame} Frame */
/** @typedef {{step(codes: Int16Array): Float32Array, copy?: () => import("./concealment.js").Forkable}} Decoder what play-out needs of the codec */
/**
 * Samples of one speaker. `positions` is where each is on the speaker's timeline, NaN where silence or a
 * fade is played; `started` are the frames whose first sample is in the block, with its index.
 * @typedef {{pcm: Float32Array, positions: Float64Array, started: [number, Frame][]}} Block
 */

/** Pulls frames through a jitter buffer and a decoder. */
export class Playout {
    samplesDecoded = 0;
    samplesPlayed = 0;
    samplesStretched = 0;
    samplesCompressed = 0;
    /** Samples without audio of the speaker, since its first frame was played. */
    samplesSilent = 0;
    underrun_us = 0;
    /** How much older the first sample of the last block was than the fastest frame on arrival. */
    delay_us = 0;
    /** Root mean square of the last block. */
    level = 0;
    #makeDecoder;
    /** @type {Decoder | null} */ #decoder = null;
    #time_us;
    #hop;
    #timeline;
    #tempo;
    #fade;
    #fading = 0;
    #shortest;
    #longest;
    #template;
    #pcm = new Float32Array(0);
    #positions = new Float64Array(0);
    /** @type {Frame[]} */ #taken = [];
    /** @type {Frame[]} */ #decoded = [];
    /** @type {Frame | null} */ #current = null;
    /** @type {number | null} */ #expected = null;
    #playing = false;
    #stopped_us = 0;
    #history;
    #tail = new Float32Array(0);
    #loudness = 0;
    #noise;
    #concealment;
    /** @type {Frame | null} the last frame that was decoded */ #last = null;
    #silenced = false;
    /** @type {number | null} number of the frame with which the speaker goes on after a silence that it told of */ #hushed = null;

    /**
     * @param {() => Decoder} makeDecoder @param {number} hop @param {number} sampleRate
     * @param {(() => number) | null} time_us reads the local clock after decoding
     */
    constructor(makeDecoder, hop, sampleRate, time_us = null) {
        this.jitter = new JitterBuffer(sampleRate, hop);
        this.#makeDecoder = makeDecoder;
        this.#time_us = time_us;
        this.#hop = hop;
        this.#timeline = new PlayoutTimeline(sampleRate, SPURT_END_US);
        this.#tempo = new Tempo(sampleRate);
        this.#noise = new ComfortNoise(sampleRate);
        this.#fade = Math.round(FADE_S * sampleRate);
        this.#history = new Float32Array(this.#fade);
        this.#concealment = new Concealment(hop, this.#fade);
        this.#shortest = Math.round(SHORTEST_LAG_S * sampleRate);
        this.#longest = Math.round(LONGEST_LAG_S * sampleRate);
        this.#template = Math.round(TEMPLATE_S * sampleRate);
    }

    /** How often audio was due and not there. The end of talk is no underrun. */
    get underruns() { return this.#timeline.underruns; }

    /** Whether nothing waits and nothing plays. */
    get idle() { return !(this.jitter.length || this.#playing || this.#tail.length || this.#concealment.active); }

    /** Gives back what decodes this speaker. It may not be played any more. */
    close() {
        this.#concealment.close();
        /** @type {{close?: () => void} | null} */ (this.#decoder)?.close?.();
        this.#decoder = null;
    }

    /** Takes note that the speaker muted itself or left, or is back. @param {boolean} silent */
    announceSilence(silent) {
        this.#silenced = silent;
        if (silent) this.#noise.describe([]);
        this.#timeline.silenceAnnounced = silent || this.#hushed !== null;
    }

    /** Takes note that the speaker sends nothing until the frame of this number on the wire, and what its
     * background sounds like meanwhile. @param {number} sequence @param {ArrayLike<number>} levels */
    hush(sequence, levels) {
        this.#hushed = this.jitter.numberOf(sequence);
        this.#timeline.silenceAnnounced = true;
        this.#noise.describe(this.#silenced ? [] : levels);
    }

    /** Returns the next `n` samples, which the device takes at `now_us`. @param {number} n @param {number} now_us @returns {Block} */
    pull(n, now_us) {
        const pcm = new Float32Array(n), positions = new Float64Array(n).fill(NaN), { delay } = this.jitter;
        if (n > this.#hop) delay.beCareful();
        this.#addTail(pcm);
        const hushed = this.#hushed !== null;
        let filled = 0, concealed = 0, plan = this.#playing ? this.#tempo.plan(delay.target_us, delay.base_us) : null;
        while (filled < n) {
            if (!this.#playing) {
                const wait = this.#wait(n, filled, now_us);
                if (wait === null || filled + wait >= n) break;
                filled += wait;
                if (this.#concealment.active) {
                    this.#concealment.add(pcm.subarray(concealed, filled));
                    this.#concealment.end(pcm.subarray(filled));
                }
                this.#begin(now_us + this.#timeline.us(filled));
            }
            this.#refill(n - filled, plan !== null, now_us);
            if (plan) {
                this.#scale(plan, n);
                plan = null;
                this.#refill(n - filled, false, now_us);
            }
            const got = Math.min(n - filled, this.#pcm.length);
            if (got) {
                positions.set(this.#positions.subarray(0, got), filled);
                this.#positions = this.#positions.subarray(got);
                const samples = this.#takeSamples(got);
                for (let i = 0; i < got; i++) pcm[filled + i] += samples[i];
                filled += got;
            } else {
                this.#stopped_us = now_us + this.#timeline.us(filled);
                this.#stop(pcm.subarray(filled), now_us);
                concealed = filled;
            }
        }
        if (this.#concealment.active) this.#concealment.add(pcm.subarray(concealed));
        return this.#finish(pcm, positions, now_us, hushed);
    }

    /** Returns how many samples of silence there are until the next frame is due, null where there is no frame.
     * @param {number} n @param {number} filled @param {number} now_us */
    #wait(n, filled, now_us) {
        const frame = this.jitter.peek();
        if (!frame) return null;
        const { delay } = this.jitter, ahead = Math.floor((n - 1) / this.#hop) * this.#hop;
        const margin = this.#goesOn(frame) ? 0 : delay.target_us;
        return this.#timeline.wait(this.#timeline.us(frame.timestamp + ahead) + delay.base_us + margin, now_us, filled);
    }

    /** @param {Frame} frame */
    #goesOn(frame) { return this.jitter.isNext(frame) && frame.timestamp === this.#expected; }

    /** Takes the first frame of a stretch without gaps, which begins to play at `at_us`. @param {number} at_us */
    #begin(at_us) {
        const frame = this.jitter.peek();
        if (frame && this.#expected !== null) {
            const dry = this.#goesOn(frame) && this.#timeline.dry && this.#hushed === null;
            if (dry) this.jitter.delay.underrun();
            if (dry || !this.jitter.isNext(frame)) {
                this.#timeline.underruns++;
                this.underrun_us += at_us - this.#stopped_us;
            }
        }
        this.#timeline.resume();
        this.#playing = true;
        this.#fading = this.#fade;
        this.#take();
    }

    #take() {
        const frame = this.jitter.take();
        if (!frame) return;
        if (this.#hushed !== null && frame.sequence >= this.#hushed) {
            this.#hushed = null;
            this.#timeline.silenceAnnounced = this.#silenced;
        }
        this.#taken.push(frame);
        this.#expected = frame.timestamp + frame.samples;
    }

    /** Takes and decodes the frames for `need` samples, and those that time scaling looks at.
     * @param {number} need @param {boolean} ahead @param {number} now_us */
    #refill(need, ahead, now_us) {
        if (ahead) need += BURST_FRAMES * this.#hop;
        let have = this.#taken.reduce((sum, frame) => sum + frame.samples, this.#pcm.length);
        for (let frame = this.jitter.peek(); have < need && frame && this.#goesOn(frame); frame = this.jitter.peek()) {
            this.#take();
            have += frame.samples;
        }
        if (this.#taken.length) this.#decode(this.#taken.splice(0), now_us);
    }

    /** @param {Frame[]} frames @param {number} now_us */
    #decode(frames, now_us) {
        const parts = [this.#pcm], places = [this.#positions];
        for (const frame of frames) {
            if (frame.codes) {
                this.#decoder ??= this.#makeDecoder();
                parts.push(/** @type {Float32Array<ArrayBuffer>} */ (this.#decoder.step(frame.codes)));
            } else parts.push(/** @type {Float32Array<ArrayBuffer>} */ (frame.pcm));
            places.push(Float64Array.from({ length: frame.samples }, (_, i) => frame.timestamp + i));
        }
        const newest = frames[frames.length - 1];
        this.#last = newest.codes ? newest : null;
        const decoded_us = this.#time_us ? this.#time_us() : now_us;
        for (const frame of frames) {
            frame.taken_us = now_us;
            frame.decoded_us = decoded_us;
            this.samplesDecoded += frame.samples;
            this.#decoded.push(frame);
        }
        this.#pcm = concat(parts);
        this.#positions = concat(places);
    }

    /** Carries out a plan on the samples that are next, if they are fit for it.
     * @param {import("./tempo.js").Plan} plan @param {number} n */
    #scale(plan, n) {
        const cutting = plan.samples > 0, pcm = this.#pcm;
        const wanted = Math.max(Math.abs(plan.samples), cutting ? 0 : this.#shortest);
        const limit = Math.min(wanted, this.#longest, Math.floor(pcm.length / 2));
        let lag = 0, similarity = 0;
        if (limit >= this.#shortest) {
            const quiet = rms(pcm.subarray(0, 2 * limit)) < Math.max(QUIET_RMS, QUIET_SHARE * this.#loudness);
            [lag, similarity] = quiet ? [limit, 1] : findLag(pcm, this.#shortest, limit, this.#template);
            if (!(quiet || plan.hard || (plan.urgent && similarity >= plan.similar))) lag = 0;
        }
        const cut = cutting ? lag : -lag;
        let spent = 0;
        if (cut) {
            const phase = roundEven(this.#positions[0]) - (this.#expected ?? 0);
            spent = cut + this.#lead(n, phase + cut) - this.#lead(n, phase);
            if (cutting && spent > plan.headroom) return;
        }
        if (cut > 0) {
            this.#pcm = shorten(this.#pcm, cut);
            this.#positions = shorten(this.#positions, cut);
            this.samplesCompressed += cut;
        } else if (cut < 0) {
            this.#pcm = lengthen(this.#pcm, -cut);
            this.#positions = lengthen(this.#positions, -cut);
            this.samplesStretched -= cut;
        }
        this.#tempo.done(plan, cut, spent);
    }

    /** Returns how many samples there are, at most, from the first of a block of `n`, which begins at
     * `phase` within a frame, to the start of the frame that ends it. @param {number} n @param {number} phase */
    #lead(n, phase) {
        const hop = this.#hop, step = gcd(n, hop);
        let most = -Infinity;
        for (let at = mod(phase, step); at < hop; at += step) most = Math.max(most, Math.floor((at + n - 1) / hop) * hop - at);
        return most;
    }

    /** @param {number} count */
    #takeSamples(count) {
        const samples = this.#pcm.slice(0, count);
        this.#pcm = this.#pcm.subarray(count);
        this.samplesPlayed += count;
        for (let i = 0; i < count && this.#fading; i++, this.#fading--)
            samples[i] *= Math.fround((this.#fade - this.#fading + 1) / this.#fade);
        this.#history = concat([this.#history, samples]).slice(-this.#fade);
        return samples;
    }

    /** Stops play-out where nothing came for the `rest` of the block. Where the speaker goes on as far as is
     * known, that is concealed; else what was played last fades out there, turned round.
     * @param {Float32Array} rest @param {number} now_us */
    #stop(rest, now_us) {
        this.#playing = false;
        this.#timeline.ranDry(now_us);
        this.#tempo.interrupted();
        const decoder = /** @type {import("./concealment.js").Forkable | null} */ (this.#decoder);
        if (this.#last?.codes && !this.#timeline.silenceAnnounced && decoder?.copy) {
            this.#concealment.begin(decoder, this.#last.codes);
            return;
        }
        this.#tail = this.#history.reverse().map((sample, i) => sample * Math.fround((this.#fade - i) / this.#fade));
        this.#history = new Float32Array(this.#fade);
        this.#addTail(rest);
    }

    /** @param {Float32Array} pcm */
    #addTail(pcm) {
        const count = Math.min(this.#tail.length, pcm.length);
        for (let i = 0; i < count; i++) pcm[i] += this.#tail[i];
        this.#tail = this.#tail.subarray(count);
    }

    /** Counts the block and finds out which frames it started. `hushed` is whether it began in a silence that
     * the speaker told of. @param {Float32Array} pcm @param {Float64Array} positions @param {number} now_us @param {boolean} hushed
     * @returns {Block} */
    #finish(pcm, positions, now_us, hushed) {
        if (this.#expected !== null) for (const place of positions) this.samplesSilent += Number.isNaN(place) ? 1 : 0;
        this.#noise.add(pcm, positions, hushed || this.#hushed !== null);
        this.#timeline.blockPlayed(now_us);
        const started = this.#started(positions);
        if (positions.length && !Number.isNaN(positions[0]))
            this.delay_us = now_us - this.#timeline.us(positions[0]) - this.jitter.delay.base_us;
        if (this.#playing && this.#current) this.#tempo.observe(now_us, now_us - this.#timeline.us(this.#current.timestamp));
        this.#tempo.played(pcm.length);
        this.level = rms(pcm);
        this.#loudness = Math.max(this.level, this.#loudness * LEVEL_DECAY);
        return { pcm, positions, started };
    }

    /** @param {Float64Array} positions @returns {[number, Frame][]} */
    #started(positions) {
        let most = -Infinity;
        for (const place of positions) if (place > most) most = place;
        /** @type {[number, Frame][]} */ const started = [];
        while (this.#decoded.length && this.#decoded[0].timestamp <= most) {
            const frame = /** @type {Frame} */ (this.#decoded.shift());
            started.push([positions.findIndex((place) => place >= frame.timestamp), frame]);
            this.#current = frame;
        }
        return started;
    }
}
