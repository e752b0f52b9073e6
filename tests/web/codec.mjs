// codec.mjs MODULE WEIGHTS PCM OUT CODEBOOKS [MOST]: encodes raw float32 samples and decodes the codes.
// OUT gets the codes as int16 [frames, codebooks], then the sound as float32. Prints what it took.
import { readFileSync, writeFileSync } from "node:fs";
import { Codec, bestModule } from "../../web/codec/codec.js";

const [module, weights, pcmFile, out, count, most] = process.argv.slice(2);
const buffer = (path) => { const data = readFileSync(path); return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength); };
const began = performance.now();
const codec = await Codec.load(await WebAssembly.compile(readFileSync(module)), buffer(weights), Number(most ?? Infinity));
const loaded = performance.now() - began;
const pcm = new Float32Array(buffer(pcmFile)), codebooks = Number(count), frames = Math.floor(pcm.length / codec.hop);
const encoder = codec.encoder(), decoder = codec.decoder(), codes = [], sound = [], ms = { encode: [], decode: [] };
for (let i = 0; i < frames; i++) {
    const a = performance.now(), own = encoder.step(pcm.subarray(i * codec.hop, (i + 1) * codec.hop), codebooks);
    const b = performance.now(), heard = decoder.step(own), c = performance.now();
    ms.encode.push(b - a); ms.decode.push(c - b);
    codes.push(Buffer.from(own.buffer)); sound.push(Buffer.from(heard.buffer));
}
// A copy goes on from the same point, and by itself.
const copy = decoder.copy(), other = decoder.copy(), one = Int16Array.of(1), two = Int16Array.of(2);
other.step(two);
const copied = Buffer.from(copy.step(one).buffer).equals(Buffer.from(decoder.step(one).buffer))
    && !Buffer.from(other.step(one).buffer).equals(Buffer.from(decoder.step(one).buffer));
const refused = [];
const attempt = (action) => { try { action(); refused.push(null); } catch (error) { refused.push(error.message); } };
attempt(() => encoder.step(pcm.subarray(0, codec.hop).map(() => NaN), 1));
attempt(() => encoder.step(pcm.subarray(0, codec.hop), codec.codebooks + 1));
attempt(() => decoder.step(Int16Array.of(1024)));
attempt(() => decoder.step(new Int16Array(codec.codebooks + 1)));
writeFileSync(out, Buffer.concat([...codes, ...sound]));
const median = (times) => times.sort((a, b) => a - b)[times.length >> 1];
console.log(JSON.stringify({ frames, loaded, encode: median(ms.encode), decode: median(ms.decode), refused, copied,
    megabytes: codec.memory.buffer.byteLength / 2 ** 20, best: bestModule() }));
