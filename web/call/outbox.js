/**
 * What goes out on a WebSocket. A browser does not say how old the oldest byte is that waits for the
 * network, but it says how many wait.
 */

import { WireMeter } from "../core/traffic.js";

/** Speech that waits longer than this for the network is dropped. The server does the same. */
const MAX_AGE_US = 250_000;
/** Messages that are noted; more than wait in 10 s. */
const MOST_NOTED = 1024;

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

    /** Returns the age of the oldest message that waits for the network, 0 if none does. @param {number} now_us */
    age_us(now_us) {
        const sent = this.#sent;
        let oldest_us = now_us, rest = this.#socket.bufferedAmount;
        if (!rest) sent.length = 0;
        for (let i = sent.length - 1; i >= 0 && rest > 0; i--) {
            oldest_us = sent[i][0];
            rest -= sent[i][1];
        }
        return now_us - oldest_us;
    }

    /** Sends a control message. @param {object} message */
    tell(message) { this.#send(JSON.stringify(message)); }

    /** Sends a media message, unless what went before has waited for too long. @param {Uint8Array<ArrayBuffer>} message */
    media(message) {
        if (this.#socket.readyState !== WebSocket.OPEN || this.age_us(this.#time_us()) > MAX_AGE_US) this.dropped++;
        else this.#send(this.writer?.up(message) ?? message);
    }

    /** @param {string | Uint8Array<ArrayBuffer>} data */
    #send(data) {
        if (this.#socket.readyState !== WebSocket.OPEN) return;
        const now_us = this.#time_us();
        this.#socket.send(data);
        this.#sent.push([now_us, data.length]);
        if (this.#sent.length > MOST_NOTED) this.#sent.shift();
        this.meter.add(now_us, data.length);
    }
}
