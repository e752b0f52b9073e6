/**
 * What a page has in a room, over whatever connection: a seat outlives a connection that broke, where the
 * server keeps it (docs/protocol.md, "Coming back").
 */
import { ServerClock } from "../core/clock.js";
import { ProtocolError } from "../core/packet.js";
import { Receiver } from "../core/receiver.js";
import { RecentSpeech } from "../core/recent_speech.js";

/** @typedef {import("../core/sender.js").Sender} Sender */

export class Seat {
    clock = new ServerClock();
    /** @type {Map<number, import("./connection.js").Peer>} the others in the room */ peers = new Map();
    /** @type {Sender | null} null until the clocks are compared, and where nothing is sent */ sender = null;
    /** What takes this seat again, "" where the server does not keep it. */
    secret = "";
    /** @type {string | null} who muted this client, so that it cannot unmute itself */ silencedBy = null;
    #recent = new RecentSpeech();
    /** @type {{close(): void} | null} */ #encoder = null;

    /** @param {import("./connection.js").Purpose} purpose */
    constructor({ codec, model, time_us }) {
        this.codec = codec;
        this.receiver = new Receiver({ hop: model.hop_length, sampleRate: model.sample_rate, clock: this.clock, time_us,
            codebooks: model.n_codebooks,
            makeDecoder: () => {
                if (!codec) throw new ProtocolError("codes came, but samples were asked for");
                return codec.decoder();
            } });
    }

    /** Opens what encodes the speech of this seat, null where the server does. It is closed with the seat. */
    openEncoder() {
        const encoder = this.codec?.encoder() ?? null;
        this.#encoder = encoder;
        return encoder;
    }

    /** Mutes or unmutes what is said, and returns what is to be sent of it. @param {boolean} muted @param {number} now_us */
    mute(muted, now_us) {
        if (!this.sender) return [];
        this.sender.muted = muted;
        return muted ? this.#keep(this.sender.flush(now_us), now_us) : [];
    }

    /** Takes a frame of the microphone and returns what is to be sent now, if there is a connection.
     * @param {Float32Array<ArrayBuffer>} pcm @param {number} captured_us @param {number} now_us */
    speak(pcm, captured_us, now_us) {
        return this.#keep(this.sender?.push(pcm, captured_us, now_us) ?? [], now_us);
    }

    /** Returns what the server has missed, that expects this sequence next. @param {number | null} sequence @param {number} now_us */
    missed(sequence, now_us) { return this.#recent.since(sequence, now_us); }

    /** Takes note of those who are here. @param {import("./connection.js").Peer[]} peers */
    meetAll(peers) {
        const here = new Set(peers.map(({ id }) => id));
        for (const id of [...this.peers.keys()]) if (!here.has(id)) this.leave(id);
        for (const peer of peers) this.meet(peer);
    }

    /** Takes note of a peer, or of what has changed about it. @param {import("./connection.js").Peer} peer */
    meet(peer) {
        this.peers.set(peer.id, peer);
        this.receiver.peerMuted(peer.id, peer.muted);
    }

    /** Takes note that a peer left. @param {number} id */
    leave(id) {
        this.peers.delete(id);
        this.receiver.peerLeft(id);
    }

    /** @param {Uint8Array<ArrayBuffer>[]} messages @param {number} now_us */
    #keep(messages, now_us) {
        for (const message of messages) this.#recent.add(message, now_us);
        return messages;
    }

    /** Gives back the memory of the codec. The seat may not be used any more. */
    close() {
        this.receiver.close();
        this.#encoder?.close();
        this.#encoder = this.sender = null;
    }
}
