// Small pure parts of the page: gets {links, tokens, tones}, prints what it made of them.
import { readFileSync } from "node:fs";
import { ContextClock } from "../../web/core/context_clock.js";
import { claims, parseLink, roomUrl, shareLink } from "../../web/core/link.js";
import { Resampler } from "../../web/core/resample.js";
import { faultWords, microphoneWords, oldBrowserWords } from "../../web/ui/words.js";

const { links, tokens, tones } = JSON.parse(readFileSync(0, "utf8"));

/** The largest error of a resampled tone, and how many samples came. */
function tone({ from, to, hertz, block }) {
    const resampler = new Resampler(from, to), said = Float32Array.from({ length: from }, (_, i) => Math.sin((2 * Math.PI * hertz * i) / from));
    const heard = [];
    for (let at = 0; at < said.length; at += block) heard.push(...resampler.push(said.slice(at, at + block)));
    const wanted = (i) => (hertz < to / 2 ? Math.sin((2 * Math.PI * hertz * (i - resampler.delay)) / to) : 0);
    const steady = heard.map((sample, i) => Math.abs(sample - wanted(i))).slice(500, -500);
    return { samples: heard.length, error: Math.max(...steady) };
}

const clock = new ContextClock(), read = [];
for (let i = 0; i < 600; i++) {
    const context_s = i * 0.01, late_us = i % 7 === 0 ? 0 : (i * 997) % 9000, stopped_us = i < 300 ? 0 : 400_000;
    clock.observe(context_s, 5_000_000 + context_s * 1e6 + late_us + stopped_us);
    read.push(clock.local_us(context_s) - context_s * 1e6);
}
const faults = ["unreachable", "refused", "damaged", "too old", "broken"].map((kind) => faultWords(kind, "something", 4015));
const microphones = ["insecure", "NotAllowedError", "NotFoundError", "NotReadableError", "OverconstrainedError", "NoLoudspeaker", "AbortError"]
    .map((name) => microphoneWords(name, "192.168.1.7:8765"));
console.log(JSON.stringify({ links: links.map(parseLink), claims: tokens.map(claims), tones: tones.map(tone), clock: [read[299], read[599]],
    urls: [roomUrl("https://talk.example/x/", "den"), roomUrl("http://localhost:8765/", "den"), shareLink("https://talk.example/x/", "den")],
    words: [...faults, ...microphones, oldBrowserWords(["AudioWorklet"])] }));
