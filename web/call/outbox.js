/**
 * What goes out on a WebSocket. A browser does not say how old the oldest byte is that waits for the
 * network, but it says how many wait.
 */

import { WireMeter } from "../core/traffic.js";

/** Speech that waits longer than this for the network is dropped. The server does the same. */
const MAX_AGE_US = 250_000;

export class Outbox {
    /** Media messages that were not sent, because the network stood still. */
    dropped = 0;
    /** All that was sent. */
    meter = new WireMeter(true);
    /** Shortens headers, where this is agreed on. @type {import("../core/short_headers.js").LinkWriter | null} */ writer = null;
    /** @type {[number, number][]} when, and how many bytes */ #sent = [];
    #socket;
    #time_us;

    /** @param {WebSocket} socket @param {() => number} time_us */
    constructor(socket, time_us) {
        this.#socket = socket;
        this.#time_us = time_us;
    }

    /** Sends a control message. @param {object} message */
    tell(message) {
        if (this.#socket.readyState !== WebSocket.OPEN) return;
        const text = JSON.stringify(message);
        this.#socket.send(text);
        this.meter.add(this.#time_us(), text.length);
    }

    /** Sends a media message, unless those of the last quarter of a second all wait. @param {Uint8Array<ArrayBuffer>} message */
    media(message) {
        const sent = this.#sent, now_us = this.#time_us();
        while (sent.length && now_us - sent[0][0] > MAX_AGE_US) sent.shift();
        const lately = sent.reduce((sum, [, size]) => sum + size, 0);
        if (this.#socket.readyState !== WebSocket.OPEN || (this.#socket.bufferedAmount > lately && sent.length)) {
            this.dropped++;
            return;
        }
        const written = this.writer?.up(message) ?? message;
        sent.push([now_us, written.length + 8]);
        this.#socket.send(written);
        this.meter.add(now_us, written.length);
    }
}
