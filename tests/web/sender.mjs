// The page's sender beside that of the terminal: gets {pcm, hop, rate, frames, changes, quiet, blocks, offset_us, traceEvery_us},
// prints the messages that go out, with long and with short headers, and the step at which each does.
import { readFileSync } from "node:fs";
import { ServerClock } from "../../web/core/clock.js";
import { Sender } from "../../web/core/sender.js";
import { LinkWriter } from "../../web/core/short_headers.js";

const { pcm, hop, rate, frames, changes, quiet, block, offset_us, traceEvery_us } = JSON.parse(readFileSync(0, "utf8"));
const hex = (message) => Buffer.from(message).toString("hex");
/** Codes of a voice that does not matter: the level of the frame, made different for each codebook. */
const encoder = { step: (frame, codebooks) => {
    const level = Math.round(Math.sqrt(frame.reduce((sum, x) => sum + x * x, 0) / frame.length) * 4096) % 1024;
    return Int16Array.from({ length: codebooks }, (_, book) => (level + 7 * book) % 1024);
} };
const clock = new ServerClock();
clock.ping(0);
clock.pong({ ping_us: 0, received_us: offset_us, sent_us: offset_us }, 0);
let now_us = 0;
const sender = new Sender({ encoder, hop, sampleRate: rate, clock, time_us: () => now_us + 700, framesPerPacket: frames, traceEvery_us, quiet });
sender.codebooks = 8;
const writer = new LinkWriter(hop), sent = [], samples = Float32Array.from(pcm);
for (let step = 0, at = 0; at < samples.length; step++, at += block) {
    const { framesPerPacket, codebooks, muted, late_us } = changes[step] ?? {};
    if (framesPerPacket) sender.framesPerPacket = framesPerPacket;
    if (codebooks) sender.codebooks = codebooks;
    if (muted !== undefined) sender.muted = muted;
    now_us += Math.round((block * 1e6) / rate) + (late_us ?? 0);
    const part = samples.slice(at, at + block);
    for (const message of sender.push(part, now_us - Math.round((part.length * 1e6) / rate), now_us)) sent.push([step, hex(message), hex(writer.up(message))]);
}
for (const message of sender.flush(now_us)) sent.push([-1, hex(message), hex(writer.up(message))]);
console.log(JSON.stringify({ sent, silent: sender.framesSilent, muted: sender.framesMuted, lost: sender.samplesLost }));
