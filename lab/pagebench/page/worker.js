/**
 * Steps the codec of the page and onnxruntime-web in turn, frame by frame, as a call would: one frame is encoded and
 * decoded, with carried state. Gets {frames, rounds, codebooks, modules, graphs}, answers with the milliseconds of each frame.
 */
import { Codec, bestModule } from "./codec.js";

const fetched = async (name) => (await fetch(name)).arrayBuffer();

/** Returns what encodes and decodes a frame. */
async function ours(name, codebooks) {
    const module = await WebAssembly.compileStreaming(fetch(name)), codec = await Codec.load(module, await fetched("weights"));
    const encoder = codec.encoder(), decoder = codec.decoder();
    return { encode: (pcm) => encoder.step(pcm, codebooks), decode: (codes) => decoder.step(codes) };
}

/** The same with onnxruntime-web, of graphs whose states are inputs and outputs. */
async function theirs({ form, states }) {
    const ort = await import("./ort.wasm.min.mjs");
    Object.assign(ort.env.wasm, { numThreads: 1, proxy: false, wasmPaths: new URL("./", import.meta.url).href });
    const step = async (way, type, size, convert) => {
        const session = await ort.InferenceSession.create(new Uint8Array(await fetched(`${way}-${form}.onnx`)), { executionProviders: ["wasm"] });
        let kept = states[way].map((shape) => new ort.Tensor("float32", new Float32Array(shape.reduce((a, b) => a * b, 1)), shape));
        return async (given) => {
            const feeds = { x: new ort.Tensor(type, convert(given), [1, size(given)]) };
            kept.forEach((state, i) => { feeds[`state${i}`] = state; });
            const made = await session.run(feeds);
            kept = kept.map((_, i) => made[`next${i}`]);
            return made.y.data;
        };
    };
    return { encode: await step("encode", "float32", (pcm) => pcm.length, (pcm) => pcm),
        decode: await step("decode", "int64", (codes) => codes.length, (codes) => BigInt64Array.from(codes, BigInt)) };
}

self.onmessage = async ({ data: { frames, rounds, codebooks, modules, graphs } }) => {
    try {
        const pcm = new Float32Array(await fetched("pcm")), hop = pcm.length / frames, made = {};
        const usable = bestModule() === "relaxed.wasm" ? modules : modules.filter((name) => !name.includes("relaxed"));
        for (const name of usable) made[name] = await ours(name, codebooks);
        for (const graph of graphs) made[`onnxruntime-web ${graph.form}`] = await theirs(graph);
        const told = Object.fromEntries(Object.keys(made).map((name) => [name, { encode: [], decode: [], codes: [] }]));
        for (let round = -1; round < rounds; round++) {
            for (const [name, { encode, decode }] of Object.entries(made)) {
                for (let i = 0; i < frames; i++) {
                    const frame = pcm.subarray(i * hop, (i + 1) * hop), a = performance.now();
                    const codes = await encode(frame), b = performance.now();
                    await decode(codes);
                    const c = performance.now();
                    if (round < 0) { // to warm up
                        told[name].codes.push(...Array.from(codes, Number));
                        continue;
                    }
                    told[name].encode.push(b - a);
                    told[name].decode.push(c - b);
                }
            }
        }
        self.postMessage({ told, isolated: self.crossOriginIsolated });
    } catch (error) {
        self.postMessage({ error: `${error?.stack ?? error}` });
    }
};
