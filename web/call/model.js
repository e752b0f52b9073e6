/**
 * Gets the server's model: what it is, and its weights, once. They stay in the browser's cache, under
 * their hash, and are checked whenever they are taken from there.
 */
import { Fault } from "./fault.js";

const CACHE = "earshot-weights";

/**
 * What `/v1/model` says.
 * @typedef {{name: string, digest: string, sample_rate: number, hop_length: number, n_codebooks: number,
 *     bandwidths: number[], frame_rate: number, weights: {url: string, format: string, bytes: number, sha256: string}}} Model
 */

/** @param {string} url @param {string | null} token @param {string} what */
async function get(url, token, what) {
    let answer;
    try {
        answer = await fetch(url, { headers: token ? { Authorization: `Bearer ${token}` } : {}, cache: "no-cache" });
    } catch {
        throw new Fault("unreachable", `The server does not answer (${what}).`);
    }
    if (answer.ok) return answer;
    const told = await answer.json().catch(() => null), detail = told?.detail;
    if (detail?.code) throw new Fault("refused", String(detail.message), detail.code);
    throw new Fault("unreachable", `The server answered ${answer.status} when asked for ${what}.`);
}

/** Asks which model the server's rooms have. @param {string} base address of the server @param {string | null} token
 * @returns {Promise<Model>} */
export async function fetchModel(base, token) {
    return (await get(new URL("v1/model", base).href, token, "its model")).json();
}

/** @param {ArrayBuffer} bytes */
async function sha256(bytes) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Reads an answer to its end. @param {Response} answer @param {number} size @param {(done: number) => void} progress */
async function readAll(answer, size, progress) {
    const bytes = new Uint8Array(size), reader = /** @type {ReadableStream<Uint8Array>} */ (answer.body).getReader();
    let at = 0;
    for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (at + value.length > size) throw new Fault("damaged", "The codec's weights are longer than the server says.");
        bytes.set(value, at);
        progress(at += value.length);
    }
    if (at < size) throw new Fault("unreachable", "The connection broke off while the codec's weights were fetched.");
    return bytes.buffer;
}

/**
 * Returns the weights of a model. Those that are damaged are fetched once more.
 * @param {string} base address of the server @param {Model} model @param {string | null} token
 * @param {(done: number, total: number) => void} progress
 * @returns {Promise<{weights: ArrayBuffer, cached: boolean}>}
 */
export async function fetchWeights(base, { weights: { url, bytes, sha256: expected } }, token, progress) {
    const from = new URL(url.replace(/^\/+/, ""), base).href, cache = await caches.open(CACHE).catch(() => null);
    const kept = await cache?.match(from);
    if (kept) {
        const weights = await kept.arrayBuffer();
        if (weights.byteLength === bytes && (await sha256(weights)) === expected) return { weights, cached: true };
        await cache?.delete(from);
    }
    const weights = await readAll(await get(from, token, "the codec's weights"), bytes, (done) => progress(done, bytes));
    if ((await sha256(weights)) !== expected)
        throw new Fault("damaged", "The codec's weights arrived damaged: they are not those that the server names.");
    if (cache) keep(cache, from, weights).catch(() => {}); // a full disk is no reason not to talk
    return { weights, cached: false };
}

/** Puts weights in place of all others. @param {Cache} cache @param {string} from @param {ArrayBuffer} weights */
async function keep(cache, from, weights) {
    const copy = new Response(weights);
    for (const other of await cache.keys()) await cache.delete(other);
    await cache.put(from, copy);
}
