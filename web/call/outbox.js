/**
 * What goes out on a WebSocket. A browser does not say how old the oldest byte is that waits for the
 * network, but it says how many wait.
 */

/** Speech that waits longer than this for the network is dropped. The server does the same. */
const MAX_AGE_US = 250_000;

export class Outbox {
    /** Media messages that were not sent, because the network stood still. */
    dropped = 0;
    /** @type {[number, number][]} when, and how many bytes */ #sent = [];
    #socket;

    /** @param {WebSocket} socket */
    constructor(socket) { this.#socket = socket; }

    /** Sends a control message. @param {object} message */
    tell(message) { if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message)); }

    /** Sends a media message, unless those of the last quarter of a second all wait. @param {Uint8Array<ArrayBuffer>} message @param {number} now_us */
    media(message, now_us) {
        const sent = this.#sent;
        while (sent.length && now_us - sent[0][0] > MAX_AGE_US) sent.shift();
        const lately = sent.reduce((sum, [, size]) => sum + size, 0);
        if (this.#socket.readyState !== WebSocket.OPEN || (this.#socket.bufferedAmount > lately && sent.length)) {
            this.dropped++;
            return;
        }
        sent.push([now_us, message.length + 8]);
        this.#socket.send(message);
    }
}
