/**
 * The codec in WebAssembly, for Workers and node: the native engine (codec/engine/native), one frame
 * at a time. It reads the file of weights as it is (docs/files.md).
 *
 *     const codec = await Codec.load(module, weights);
 *     const encoder = codec.encoder(), decoder = codec.decoder();
 *     const codes = encoder.step(pcm, 8);    // Float32Array(320) to Int16Array(8)
 *     const sound = decoder.step(codes);     // and back
 */

/** The fields of Shape (codec/engine/native/shape.h) in order, without ratios and widths. */
const SHAPE = ["dimension", "kernel_size", "last_kernel_size", "residual_kernel_size", "n_residual_layers",
    "dilation_base", "compress", "lstm_layers", "n_codebooks", "codebook_size"];
const CODEBOOKS = "quantizer.codebooks";
/** How large matrices are kept (codec/engine/native/kernels.h): halves of words, with the results of fp32. */
const FP16 = 3;
const NO_SUCH_FUNCTION = 52; // ENOSYS: the module prints nothing and opens no file

/** A module with one function, which uses i8x16.relaxed_swizzle. */
const RELAXED = Uint8Array.from([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15,
    65, 2, 253, 15, 253, 128, 2, 11]);
/** A module with one function, which uses i8x16.splat. */
const SIMD = Uint8Array.from([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11]);

/** Returns the name of the best module that this browser can run, or null if it can run none. */
export function bestModule() {
    if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD)) return null;
    return WebAssembly.validate(RELAXED) ? "relaxed.wasm" : "simd.wasm";
}

/**
 * What the codec says of a file of weights, of a module or of a frame.
 */
export class CodecError extends Error {}

/**
 * The configuration in a file of weights (codec/config.py), as far as it is used here.
 * @typedef {{name: string, sample_rate: number, ratios: number[], n_codebooks: number, codebook_size: number,
 *     bandwidths: number[], [field: string]: any}} Config
 */

/** @param {Uint8Array} bytes of ASCII. An AudioWorklet has no TextDecoder. */
function text(bytes) {
    let result = "";
    for (const byte of bytes) result += String.fromCharCode(byte);
    return result;
}

/** @param {string} words */
const ascii = (words) => Uint8Array.from(words, (letter) => letter.charCodeAt(0));

/**
 * Reads the head of a .safetensors file. Throws CodecError for what is none of Earshot's.
 * @param {ArrayBuffer} weights
 * @returns {{config: Config, tensors: Record<string, {dtype: string, shape: number[], data_offsets: [number, number]}>,
 *     begin: number}} `begin` is where the data starts.
 */
export function readHead(weights) {
    try {
        const length = Number(new DataView(weights).getBigUint64(0, true));
        const tensors = JSON.parse(text(new Uint8Array(weights, 8, length)));
        const config = JSON.parse(tensors.__metadata__.earshot);
        delete tensors.__metadata__;
        return { config, tensors, begin: 8 + length };
    } catch (error) {
        throw new CodecError(`these are no weights of Earshot (${error instanceof Error ? error.message : error})`);
    }
}

/** Packed weights, with what a thread needs to step streams. */
export class Codec {
    /** @type {Config} */ config;
    /** Samples in a frame. */
    hop = 0;
    /** Codebooks that are loaded. */
    codebooks = 0;
    /** @type {any} the module's functions */ c;
    /** @type {WebAssembly.Memory} */ memory;
    /** Address of the Codec of api.cpp. */
    at = 0;
    /** @type {string | null} */ #refused = null;

    /**
     * Starts a module and packs weights. Throws CodecError for weights that do not fit.
     * @param {WebAssembly.Module} module
     * @param {ArrayBuffer} weights
     * @param {number} most codebooks to load, the first ones; the others are not looked at
     */
    static async load(module, weights, most = Infinity) {
        const codec = new Codec();
        const instance = await WebAssembly.instantiate(module, {
            earshot: {
                refuse: (/** @type {number} */ at, /** @type {number} */ size) => {
                    codec.#refused = text(new Uint8Array(codec.memory.buffer, at, size));
                },
            },
            wasi_snapshot_preview1: new Proxy({}, { get: () => () => NO_SUCH_FUNCTION }),
        });
        codec.c = instance.exports;
        codec.memory = codec.c.memory;
        codec.c._initialize();
        codec.#build(weights, most);
        return codec;
    }

    /** @param {Uint8Array} bytes */
    #put(bytes) {
        const at = this.c.earshot_alloc(bytes.byteLength);
        if (!at) throw new CodecError("there is not enough memory for the codec");
        new Uint8Array(this.memory.buffer).set(bytes, at);
        return at;
    }

    /** @param {ArrayBuffer} weights @param {number} most */
    #build(weights, most) {
        const { config, tensors, begin } = readHead(weights);
        const c = this.c, builder = c.earshot_begin();
        this.codebooks = Math.min(config.n_codebooks, Math.max(1, most));
        for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(tensors)) {
            if (dtype !== "F16" && dtype !== "F32") throw new CodecError(`the tensor ${name} is ${dtype}, not F16 or F32`);
            const size = dtype === "F16" ? 2 : 4;
            const own = name === CODEBOOKS ? [this.codebooks, ...shape.slice(1)] : shape;
            const length = own.reduce((a, b) => a * b, size);
            if (length > to - from || begin + from + length > weights.byteLength)
                throw new CodecError(`the tensor ${name} is cut off`);
            const title = this.#put(ascii(name + "\0"));
            const data = this.#put(new Uint8Array(weights, begin + from, length));
            const sizes = this.#put(new Uint8Array(Int32Array.from(own).buffer));
            if (!c.earshot_tensor(builder, title, size === 2 ? 1 : 0, data, own.length, sizes)) throw this.error();
            for (const at of [title, data, sizes]) c.earshot_free(at);
        }
        /** @type {Record<string, any>} */ const fields = { ...config, n_codebooks: this.codebooks };
        const widths = config.widths ?? [1, ...config.ratios].map((_, index) => config.n_filters << index);
        const all = Int32Array.from([...SHAPE.map((name) => fields[name]), ...config.ratios, ...widths]);
        const sizes = this.#put(new Uint8Array(all.buffer)), [fine, coarse] = config.postfilter ?? [-1, -1];
        try {
            this.at = c.earshot_build(builder, sizes, all.length, FP16, fine, coarse);
        } catch (trap) {
            throw this.#refused ? new CodecError(this.#refused) : trap;
        }
        c.earshot_free(sizes);
        this.config = config;
        this.hop = config.ratios.reduce((a, b) => a * b, 1);
    }

    /** Returns what the last call that failed said. */
    error() {
        const bytes = new Uint8Array(this.memory.buffer), at = this.c.earshot_error();
        return new CodecError(text(bytes.subarray(at, bytes.indexOf(0, at))));
    }

    // Views end when the memory grows, so they are made for each use.

    /** The frame that goes in or came out. */
    get pcm() { return new Float32Array(this.memory.buffer, this.c.earshot_pcm(this.at), this.hop); }
    /** The codes that came out or go in. */
    get codes() { return new Int16Array(this.memory.buffer, this.c.earshot_codes(this.at), this.codebooks); }

    /** Opens a stream of frames to codes. It begins in silence. */
    encoder() { return new Encoder(this, this.c.earshot_open(this.at, 0)); }
    /** Opens a stream of codes to frames. */
    decoder() { return new Decoder(this, this.c.earshot_open(this.at, 1)); }
}

class Stream {
    /** @param {Codec} codec @param {number} at */
    constructor(codec, at) {
        this.codec = codec;
        this.at = at;
    }

    /** Begins anew. */
    reset() { this.codec.c.earshot_reset(this.at); }

    /** Gives the memory back. The stream may not be used any more. */
    close() {
        this.codec.c.earshot_close(this.at);
        this.at = 0;
    }
}

export class Encoder extends Stream {
    /**
     * Encodes one frame. Throws CodecError for samples that are not finite.
     * @param {Float32Array} pcm [hop]
     * @param {number} codebooks how many codes to make
     * @returns {Int16Array} [codebooks]
     */
    step(pcm, codebooks) {
        const { codec } = this;
        codec.pcm.set(pcm);
        if (!codec.c.earshot_encode(codec.at, this.at, codebooks)) throw codec.error();
        return codec.codes.slice(0, codebooks);
    }
}

export class Decoder extends Stream {
    /** Opens a stream that goes on from where this one is. */
    copy() { return new Decoder(this.codec, this.codec.c.earshot_copy(this.at)); }

    /**
     * Decodes one frame. Throws CodecError for codes that there are not.
     * @param {Int16Array} codes [1..codebooks]
     * @returns {Float32Array} [hop]
     */
    step(codes) {
        const { codec } = this;
        if (codes.length > codec.codebooks) throw new CodecError(`${codes.length} codebooks; ${codec.codebooks} are loaded`);
        codec.codes.set(codes);
        if (!codec.c.earshot_decode(codec.at, this.at, codes.length)) throw codec.error();
        return codec.pcm.slice();
    }
}
