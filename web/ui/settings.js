/** What a person has chosen, kept in this browser. */

const KEY = "earshot";

/**
 * @typedef {{name: string, kbps: number, microphone: string, speaker: string, echo: boolean, noise: boolean, gain: boolean, quiet: boolean,
 *     latency: import("../call/connection.js").Latency, ptt: boolean, volumes: Record<string, number>}} Chosen
 */

/** @type {Chosen} */
const DEFAULTS = { name: "", kbps: 6, microphone: "", speaker: "", echo: true, noise: true, gain: true, quiet: true, latency: "balanced", ptt: false, volumes: {} };
const MOST_VOLUMES = 50;

/** Returns what was chosen, with defaults for the rest. @returns {Chosen} */
export function readSettings() {
    /** @type {any} */ let kept = {};
    try {
        kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    } catch {
        // A browser that keeps nothing, or something else under this name.
    }
    const chosen = { ...DEFAULTS };
    for (const name of /** @type {(keyof Chosen)[]} */ (Object.keys(DEFAULTS)))
        if (typeof kept?.[name] === typeof DEFAULTS[name] && kept[name] !== null) /** @type {any} */ (chosen)[name] = kept[name];
    if (!["low", "balanced", "thrift"].includes(chosen.latency)) chosen.latency = DEFAULTS.latency;
    return chosen;
}

/** @param {Chosen} chosen */
export function keepSettings(chosen) {
    const names = Object.keys(chosen.volumes);
    for (const name of names.slice(0, Math.max(0, names.length - MOST_VOLUMES))) delete chosen.volumes[name];
    try {
        localStorage.setItem(KEY, JSON.stringify(chosen));
    } catch {
        // It counts for this visit.
    }
}
