/** The people of a room: a tile each, with a ring that grows with the voice, and a volume. */
import { any, make, show } from "./dom.js";

/** Levels between these, in dB of full scale, are shown as 0 to 1. */
const QUIET_DBFS = -50, LOUD_DBFS = -12;
const SPEAKING_DBFS = -42;

/** @typedef {import("../call/connection.js").Peer} Peer */

/** @param {number} dbfs */
const share = (dbfs) => Math.max(0, Math.min(1, (dbfs - QUIET_DBFS) / (LOUD_DBFS - QUIET_DBFS)));

/** @param {string} name */
function initials(name) {
    const parts = name.trim().split(/\s+/).filter(Boolean);
    return parts.length ? parts.slice(0, 2).map((part) => [...part][0].toUpperCase()).join("") : "?";
}

/** @param {string} name */
const hue = (name) => ([...name].reduce((sum, letter) => (sum * 31 + (letter.codePointAt(0) ?? 0)) % 997, 7) * 137) % 360;

class Tile {
    /** @param {string} name @param {((volume: number) => void) | null} onvolume null for one's own tile @param {number} volume
     * @param {((action: "mute" | "remove") => void) | null} moderate null for those who may not */
    constructor(name, onvolume, volume, moderate = null) {
        this.element = make("li", "person");
        this.face = make("span", "face");
        this.face.setAttribute("aria-hidden", "true");
        this.name = make("span", "name");
        this.note = make("span", "note");
        this.after = make("span", "after");
        const line = make("span", "line");
        line.append(this.name, this.after);
        this.element.append(this.face, line, this.note);
        this.slider = null;
        this.level = "0.0";
        if (onvolume) {
            const label = make("label", "volume", "Volume"), slider = make("input");
            Object.assign(slider, { type: "range", min: "0", max: "2", step: "0.05" });
            slider.value = String(volume);
            slider.oninput = () => onvolume(Number(slider.value));
            label.append(slider);
            this.element.append(label);
            if (moderate) this.element.append(this.#orders(moderate));
            this.slider = slider;
        }
        this.call(name, onvolume ? "" : " (you)");
    }

    /** @param {(action: "mute" | "remove") => void} moderate */
    #orders(moderate) {
        const row = make("span", "orders");
        for (const [action, text] of /** @type {const} */ ([["mute", "Mute"], ["remove", "Remove"]])) {
            const order = make("button", "small", text);
            order.type = "button";
            order.onclick = () => moderate(action);
            row.append(order);
        }
        return row;
    }

    /** @param {string} name @param {string} [after] */
    call(name, after = "") {
        show(this.name, name || "somebody");
        show(this.after, after);
        this.name.title = name;
        show(this.face, initials(name));
        this.face.style.setProperty("--hue", String(hue(name)));
        for (const order of this.element.querySelectorAll(".orders button")) order.setAttribute("aria-label", `${order.textContent} ${name || "somebody"}`);
        this.slider?.setAttribute("aria-label", `Volume of ${name || "somebody"}`);
    }

    /** @param {number} dbfs @param {boolean} muted @param {string} note */
    update(dbfs, muted, note) {
        const level = muted ? 0 : share(dbfs);
        const shown = level.toFixed(1);
        if (shown !== this.level) this.face.style.setProperty("--level", this.level = shown);
        this.element.classList.toggle("speaking", !muted && dbfs > SPEAKING_DBFS);
        this.element.classList.toggle("muted", muted);
        show(this.note, note);
    }
}

/** The list of tiles. */
export class People {
    /** @type {Map<number, Tile>} */ #tiles = new Map();
    /** @type {Tile | null} */ #own = null;
    /** @type {Peer[]} */ #peers = [];
    #list = any("people");
    #onvolume;
    #volumeOf;
    #onmoderate;

    /** @param {(peer: Peer, volume: number) => void} onvolume @param {(name: string) => number} volumeOf what was chosen for a name before
     * @param {(peer: Peer, action: "mute" | "remove") => void} onmoderate */
    constructor(onvolume, volumeOf, onmoderate) {
        this.#onmoderate = onmoderate;
        this.#onvolume = onvolume;
        this.#volumeOf = volumeOf;
    }

    /** Shows who is here. Returns a sentence on who came and went, "" if nobody did.
     * @param {string} me @param {Peer[]} peers @param {boolean} moderates */
    set(me, peers, moderates) {
        this.#own ??= this.#add(new Tile(me, null, 1));
        this.#own.call(me, " (you)");
        /** @type {string[]} */ const news = [];
        const known = new Set(peers.map((peer) => peer.id));
        for (const [id, tile] of this.#tiles) {
            if (known.has(id)) continue;
            news.push(`${tile.name.textContent} left`);
            tile.element.remove();
            this.#tiles.delete(id);
        }
        for (const peer of peers) {
            const tile = this.#tiles.get(peer.id);
            if (tile) tile.call(peer.name);
            else {
                const volume = this.#volumeOf(peer.name);
                this.#tiles.set(peer.id, this.#add(new Tile(peer.name, (chosen) => this.#onvolume(peer, chosen), volume,
                    moderates ? (action) => this.#onmoderate(peer, action) : null)));
                if (volume !== 1) this.#onvolume(peer, volume);
                news.push(`${peer.name || "somebody"} is here`);
            }
        }
        this.#peers = peers;
        any("alone").hidden = peers.length > 0;
        return news.join(", ");
    }

    /**
     * Shows how loud everybody is.
     * @param {any[]} speakers of the Worker's figures @param {number} own_dbfs @param {boolean} muted @param {string} ownNote
     */
    figures(speakers, own_dbfs, muted, ownNote) {
        this.#own?.update(own_dbfs, muted, ownNote);
        const heard = new Map(speakers.map((speaker) => [speaker.id, speaker]));
        for (const peer of this.#peers) {
            const figures = heard.get(peer.id);
            const note = peer.muted ? "muted" : peer.model ? "plays music, which this page cannot play" : peer.send === "none" ? "listens"
                : !figures?.codecKbps ? "silent" : `${figures.codecKbps.toFixed(1).replace(/\.0$/, "")} kbps`
                + (figures.mouthToEar_ms === null ? "" : ` · ${figures.mouthToEar_ms.toFixed(0)} ms`);
            this.#tiles.get(peer.id)?.update(figures?.level_dbfs ?? -96, peer.muted, note);
        }
    }

    clear() {
        this.#list.replaceChildren();
        this.#tiles.clear();
        this.#own = null;
        this.#peers = [];
    }

    /** @param {Tile} tile */
    #add(tile) {
        this.#list.append(tile.element);
        return tile;
    }
}
