// Plays arrival traces (client/core/replay.py) through the page's jitter buffer: reads [{trace, source, block}]
// and prints what a listener notices of each, and where the samples were.
import { readFileSync } from "node:fs";
import { mod, roundEven } from "../../web/core/numbers.js";
import { Playout } from "../../web/core/playout.js";

const NUMBERS = 1024;

/** The frames of one endless sentence of a made voice, found by their numbers: `Voice` of the replay. */
class Voice {
    constructor(rate, hop) { Object.assign(this, { rate, hop }); }

    step(codes) {
        const first = (codes[0] * NUMBERS + codes[1]) * this.hop;
        return Float32Array.from({ length: this.hop }, (_, i) => this.sample(first + i));
    }

    copy() { return this; }

    close() {}

    sample(place) {
        const t = place / this.rate, turn = 130 * t + 3 * Math.sin(2 * Math.PI * 0.7 * t);
        let voiced = 0;
        for (let harmonic = 1; harmonic < 12; harmonic++) voiced += Math.sin(2 * Math.PI * harmonic * turn) / harmonic;
        const hiss = Math.sin(((place * place) % 10_007) * 1.7), syllable = Math.sin(Math.PI * ((t * 4) % 1)) ** 2;
        const loud = ((t * 4) % 4 < 3 ? voiced : 0.3 * hiss) * syllable * (t % 2 < 1.6 ? 1 : 0);
        return 0.2 * loud + 0.0003 * hiss;
    }
}

function parse(text) {
    const [head, ...lines] = text.trim().split("\n"), [, , rate, hop] = head.split(" ").map(Number), expected = new Map();
    let now = 0;
    const events = lines.map((line) => {
        const [wait, source, what, ...beyond] = line.split(" ");
        now += Number(wait);
        if (what === "muted" || what === "talks") return { at: now, source: Number(source), silent: what === "muted" };
        const [skipped, gap] = beyond.length ? beyond.map(Number) : [0, 0], [sequence, timestamp] = expected.get(source) ?? [0, 0];
        const event = { at: now, source: Number(source), frames: Number(what), sequence: sequence + skipped, timestamp: timestamp + gap };
        expected.set(source, [event.sequence + event.frames, event.timestamp + event.frames * hop]);
        return event;
    });
    return { rate, hop, events };
}

function replay(text, source, block) {
    const { rate, hop, events: all } = parse(text), events = all.filter((event) => event.source === source);
    const playout = new Playout(() => new Voice(rate, hop), hop, rate);
    const started = events[0].at, delays = [], places = [], levels = [], targets = [];
    for (let waiting = 0, pulls = 0, now = started; waiting < events.length || !playout.idle;) {
        for (; waiting < events.length && events[waiting].at <= now; waiting++) {
            const event = events[waiting];
            if (event.silent !== undefined) { playout.announceSilence(event.silent); continue; }
            const frames = Array.from({ length: event.frames }, (_, i) => {
                const number = mod(event.sequence + i, NUMBERS * NUMBERS);
                return { codes: Int16Array.of(Math.floor(number / NUMBERS), number % NUMBERS), samples: hop };
            });
            playout.jitter.put(mod(event.sequence, 2 ** 16), mod(event.timestamp, 2 ** 32), frames, event.at, null);
        }
        if (waiting === events.length) playout.announceSilence(true);
        const pulled = playout.pull(block, now);
        delays.push(Number.isNaN(pulled.positions[0]) ? null : playout.delay_us);
        places.push(Number.isNaN(pulled.positions[0]) ? null : pulled.positions[0]);
        levels.push(playout.level);
        targets.push(playout.jitter.delay.target_us);
        pulls++;
        now = started + roundEven((pulls * block * 1e6) / rate);
    }
    const { jitter } = playout;
    return { underruns: playout.underruns, underrun_us: playout.underrun_us, missing: jitter.missing, late: jitter.late,
        duplicates: jitter.duplicates, stretched: playout.samplesStretched, compressed: playout.samplesCompressed,
        silent: playout.samplesSilent, played: playout.samplesPlayed, delays, places, levels, targets };
}

console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(({ trace, source, block }) => replay(trace, source, block))));
