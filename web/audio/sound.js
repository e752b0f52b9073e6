/**
 * The browser's side of sound: the microphone, the loudspeaker, and the two AudioWorklets between them and
 * the call's Worker.
 */

export const SAMPLE_RATE = 24_000;
const HOP = 320;
/** What the loudspeaker is asked to keep in its own buffer. "interactive" would be twice as long in Chromium on Linux. */
const LATENCY_S = 0.005;
/** Time in which a loudspeaker begins to play. */
const PATIENCE_MS = 8000;

/** @typedef {{microphone: string, speaker: string, echo: boolean, noise: boolean, gain: boolean}} Choice device ids ("" is the system's) and what the browser does to the sound */

/**
 * Opens a microphone; the system's own where the chosen one is gone. Throws DOMException.
 * @param {Choice} choice
 */
export async function openMicrophone({ microphone, echo, noise, gain }) {
    const audio = { echoCancellation: echo, noiseSuppression: noise, autoGainControl: gain, channelCount: 1 };
    const devices = navigator.mediaDevices;
    if (!devices?.getUserMedia) throw new DOMException("no https", "insecure");
    if (microphone) {
        try {
            return await devices.getUserMedia({ audio: { ...audio, deviceId: { exact: microphone } } });
        } catch (error) {
            if (!(error instanceof DOMException) || !["OverconstrainedError", "NotFoundError"].includes(error.name)) throw error;
        }
    }
    return devices.getUserMedia({ audio });
}

/** Lets go of a microphone. @param {MediaStream | null} stream */
export function giveBack(stream) {
    for (const track of stream?.getTracks() ?? []) track.stop();
}

/** Returns the devices of a kind, those without a name left out. @param {"audioinput" | "audiooutput"} kind */
export async function listDevices(kind) {
    const all = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
    return all.filter((device) => device.kind === kind && device.label && !["default", "communications"].includes(device.deviceId));
}

/** Whether this browser lets a page choose the loudspeaker. */
export const canChooseSpeaker = () => typeof AudioContext === "function" && "setSinkId" in AudioContext.prototype;

/** An AudioContext with the call's worklets. */
export class Sound {
    /** Called when the microphone has gone. @type {() => void} */ onlost = () => {};
    /** @type {MediaStreamAudioSourceNode | null} */ #source = null;
    #context;
    #playback;
    #capture;

    /** @param {AudioContext} context @param {AudioWorkletNode} playback @param {AudioWorkletNode} capture */
    constructor(context, playback, capture) {
        this.#context = context;
        this.#playback = playback;
        this.#capture = capture;
        playback.connect(context.destination);
    }

    /**
     * Opens the loudspeaker, and the microphone's way in if there is one. To be called by a click, because
     * browsers play nothing before one. Where it fails, the microphone is given back.
     * @param {MediaStream | null} stream @param {string} base address of the page's files
     */
    static async open(stream, base) {
        try {
            return await Sound.#open(stream, base);
        } catch (error) {
            giveBack(stream);
            throw error;
        }
    }

    /** @param {MediaStream | null} stream @param {string} base */
    static async #open(stream, base) {
        let context = new AudioContext({ sampleRate: SAMPLE_RATE, latencyHint: LATENCY_S });
        try {
            return await Sound.#on(context, stream, base);
        } catch (error) {
            if (!(error instanceof DOMException) || error.name !== "NotSupportedError") throw error;
            await context.close(); // Firefox connects no microphone to a context of another rate
            context = new AudioContext({ latencyHint: LATENCY_S });
            return Sound.#on(context, stream, base);
        }
    }

    /** @param {AudioContext} context @param {MediaStream | null} stream @param {string} base */
    static async #on(context, stream, base) {
        const load = (/** @type {string} */ name) => context.audioWorklet.addModule(new URL(`audio/${name}.js`, base));
        const patience = new Promise((done) => setTimeout(done, PATIENCE_MS));
        await Promise.all([load("capture"), load("playback"), Promise.race([context.resume(), patience])]);
        if (context.state !== "running") { // Firefox waits for ever where there is no loudspeaker
            await context.close();
            throw new DOMException("the context does not run", "NoLoudspeaker");
        }
        const common = { channelCount: 1, channelCountMode: /** @type {const} */ ("explicit"), processorOptions: { hop: HOP, sampleRate: SAMPLE_RATE } };
        const playback = new AudioWorkletNode(context, "playback", { ...common, numberOfInputs: 0, outputChannelCount: [1] });
        const capture = new AudioWorkletNode(context, "capture", { ...common, numberOfOutputs: 0 });
        const sound = new Sound(context, playback, capture);
        if (stream) sound.use(stream);
        return sound;
    }

    /** Takes another microphone. @param {MediaStream} stream */
    use(stream) {
        const source = new MediaStreamAudioSourceNode(this.#context, { mediaStream: stream });
        this.#stopMicrophone();
        this.#source = source;
        source.connect(this.#capture);
        for (const track of stream.getAudioTracks()) track.onended = () => this.onlost();
    }

    /** Returns the ends of the two worklets for a call's Worker. */
    ports() {
        const [capture, playback] = [this.#capture, this.#playback].map((node) => {
            const { port1, port2 } = new MessageChannel();
            node.port.postMessage(port1, [port1]);
            return port2;
        });
        return { capture, playback };
    }

    /** What the browser says of the devices, in ms: the sound cards' own delay. */
    latencies() {
        const settings = this.#source?.mediaStream.getAudioTracks()[0]?.getSettings();
        const input = /** @type {{latency?: number}} */ (settings ?? {}).latency ?? 0;
        const output = this.#context.outputLatency || this.#context.baseLatency || 0;
        return { input_ms: input * 1000, output_ms: output * 1000 };
    }

    /** Whether the browser has paused all sound, and why it may go on only with a click. */
    get paused() { return this.#context.state !== "running"; }

    resume() { return this.#context.resume(); }

    /** @param {string} speaker */
    async choose(speaker) {
        if (canChooseSpeaker()) await /** @type {any} */ (this.#context).setSinkId(speaker);
    }

    async close() {
        this.#stopMicrophone();
        await this.#context.close();
    }

    #stopMicrophone() {
        this.#source?.disconnect();
        for (const track of this.#source?.mediaStream.getTracks() ?? []) {
            track.onended = null;
            track.stop();
        }
        this.#source = null;
    }
}
