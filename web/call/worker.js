/**
 * The Worker of a call: the codec, the connection and the jitter buffer run here, where nothing that the
 * page draws holds them up. The page sends commands, and gets events to show.
 */
import { Codec, CodecError, bestModule } from "../codec/codec.js";
import { Call } from "./call.js";
import { Fault } from "./fault.js";
import { fetchModel, fetchWeights } from "./model.js";

/** A frame lasts 13 ms. If coding and decoding one takes longer than this, the server does it instead. */
const TOO_SLOW_MS = 8;
/** A codec this fast is measured no longer, and none is measured for longer than that. */
const FAST_MS = 4, MEASURE_MS = 1500;

/** @type {ReturnType<typeof load> | null} */ let loading = null;
/** @type {Call | null} */ let call = null;
const tell = (/** @type {object} */ event) => self.postMessage(event);

/** Returns the module of the codec. @param {string} name */
async function compile(name) {
    const from = fetch(new URL(`../codec/${name}`, import.meta.url));
    try {
        return await WebAssembly.compileStreaming(from.then((answer) => answer.clone()));
    } catch {
        return WebAssembly.compile(await (await from).arrayBuffer());
    }
}

/** Returns how long it takes to code and decode a frame, in ms: the least of some, because a browser runs a module slowly at
 * first, and what a busy machine adds is not the codec's. @param {Codec} codec */
function measure(codec) {
    const encoder = codec.encoder(), decoder = codec.decoder(), began = performance.now();
    const pcm = Float32Array.from({ length: codec.hop }, (_, i) => 0.1 * Math.sin(i / 7));
    let least = Infinity;
    for (let frame = 0; frame < 8 || (least > FAST_MS && performance.now() - began < MEASURE_MS); frame++) {
        const from = performance.now();
        decoder.step(encoder.step(pcm, codec.codebooks));
        least = Math.min(least, performance.now() - from);
    }
    encoder.close();
    decoder.close();
    return least;
}

/**
 * Loads the codec; null where the server has to code.
 * @param {string} base @param {import("./model.js").Model} model @param {string | null} token
 */
async function loadCodec(base, model, token) {
    const name = bestModule();
    if (!name) return null;
    const began = performance.now(), compiling = compile(name);
    compiling.catch(() => {}); // it is awaited below
    const { weights, cached } = await fetchWeights(base, model, token, (done, total) => tell({ kind: "progress", done, total }));
    const fetched = performance.now();
    const codec = await Codec.load(await compiling, weights, model.n_codebooks), ready = performance.now();
    const frame_ms = measure(codec);
    tell({ kind: "loaded", module: name, cached, fetch_ms: fetched - began, load_ms: ready - fetched, frame_ms, weak: frame_ms > TOO_SLOW_MS });
    return { codec, weak: frame_ms > TOO_SLOW_MS };
}

/** @param {any} wanted */
async function load({ base, token, serverCodec }) {
    const model = await fetchModel(base, token);
    return { model, loaded: serverCodec ? null : await loadCodec(base, model, token) };
}

/** @param {any} wanted */
async function start({ url, token, playback, capture, ...settings }) {
    if (!loading) throw new Error("a call started before its codec");
    const { model, loaded } = await loading, codec = loaded && !loaded.weak ? loaded.codec : null;
    call = new Call({ ...settings, url, token, codec, spare: loaded?.codec ?? null, model, speaks: Boolean(capture) }, tell);
    call.playTo(playback);
    if (capture) call.listenTo(capture);
    tell({ kind: "state", state: "connecting", detail: "", model: model.name, rates: model.bandwidths, codec: codec ? "page" : "server" });
    await call.run();
}

/** @param {unknown} error */
function failed(error) {
    const fault = error instanceof Fault ? error
        : error instanceof CodecError ? new Fault("damaged", `The codec cannot use the server's weights: ${error.message}.`)
        : new Fault("broken", `Something in this page failed: ${error instanceof Error ? error.message : error}`);
    tell({ kind: "fault", fault: fault.kind, message: fault.message, code: fault.code });
}

self.onmessage = ({ data: { does, ...given } }) => {
    if (does === "load") (loading = load(/** @type {any} */ (given))).catch(failed);
    else if (does === "start") start(/** @type {any} */ (given)).then(() => tell({ kind: "left" }), failed);
    else if (does === "leave") call?.leave();
    else if (does === "mute") call?.mute(given.muted);
    else if (does === "rate") call?.setRate(given.kbps);
    else if (does === "latency") call?.setLatency(given.latency);
    else if (does === "quiet") call?.setQuiet(given.quiet);
    else if (does === "volume") call?.setVolume(given.peer, given.volume);
    else if (does === "moderate") call?.moderate(given.action, given.peer);
    else if (does === "record") call?.record(given.on);
    else if (does === "latencies") call?.setLatencies(given.input_ms, given.output_ms);
    else if (does === "capture") call?.listenTo(given.port);
};
self.onunhandledrejection = ({ reason }) => failed(reason);
