/** What went wrong, in words for people, with what to do about it. */

/** @typedef {{text: string, help: string, mayListen: boolean, mayTryAgain: boolean}} Words */

/** @param {string} text @param {string} help @param {boolean} mayListen @param {boolean} mayTryAgain @returns {Words} */
const words = (text, help, mayListen = false, mayTryAgain = true) => ({ text, help, mayListen, mayTryAgain });

/** @type {Record<string, (host: string) => Words>} */
const MICROPHONE = {
    insecure: (host) => words(
        "Browsers let a page use microphone and sound only if it came over https, or from this machine.",
        `If the server runs on this machine, open http://localhost${host.includes(":") ? ":" + host.split(":").pop() : ""} instead. `
        + "On a LAN, start it with: earshot serve --host 0.0.0.0 --tls self-signed, and open the https address that it prints. "
        + "On the internet it belongs behind a proxy with TLS.", false, false),
    NotAllowedError: () => words("The browser did not let this page use the microphone.",
        "Click the sign beside the address of the page, allow the microphone, and try again.", true),
    NotFoundError: () => words("There is no microphone on this machine.", "Plug one in and try again, or only listen.", true),
    NotReadableError: () => words("The microphone cannot be opened.",
        "Another program may be using it, or the system does not allow the browser to use it.", true),
    NoLoudspeaker: () => words("This browser opened no loudspeaker.",
        "Connect one, or see whether the system lets the browser play sound, and try again."),
    OverconstrainedError: () => words("The microphone that was chosen is not there.", "Choose another and try again.", true),
};

/**
 * Says why there is no microphone.
 * @param {string} name of the DOMException, or "insecure" @param {string} host of the page
 */
export function microphoneWords(name, host) {
    return MICROPHONE[name]?.(host) ?? words(`The microphone cannot be opened (${name}).`, "Try another, or only listen.", true);
}

const AFTER_CODE = new Map([
    [4002, "The server has changed its model. Load this page again."],
    [4007, "Try another room, or wait until somebody leaves."],
    [4012, "A room's name has 1 to 64 of A-Z a-z 0-9 _ -"],
    [4015, "Ask whoever invited you for a link; it looks like https://HOST/?room=ROOM#TOKEN."],
    [4016, "Ask whoever invited you for a new link."],
    [4017, "Your link is for another room. Open it again as it was sent to you."],
    [4018, "Your link does not allow that. You may only listen, perhaps."],
    [4019, "A moderator removed you from this room."],
]);

/** @param {string} message */
const asSentence = (message) => message.charAt(0).toUpperCase() + message.slice(1) + (/[.!?]$/.test(message) ? "" : ".");

/** Says that the page tries again by itself, and why. @param {string} message */
export const againWords = (message) => words(asSentence(message), "You need do nothing: the page tries again by itself.", false, false);

/**
 * Says why a call ended or could not begin.
 * @param {string} kind of Fault (call/fault.js) @param {string} message @param {number | null} code
 * @returns {Words}
 */
export function faultWords(kind, message, code) {
    const sentence = asSentence(message);
    switch (kind) {
        case "refused": return words(sentence, AFTER_CODE.get(code ?? 0) ?? "", code === 4018);
        case "damaged": return words(sentence, "Try again; if it stays so, tell whoever runs the server.");
        case "unreachable": return words(sentence, "Check the address, and whether the server runs.");
        case "too old": return words(sentence, "Chrome or Edge from version 91, Firefox from 89 and Safari from 16.4 will do.", false, false);
        default: return words(sentence, "Loading the page again may help.");
    }
}

/** @param {string[]} missing */
export const oldBrowserWords = (missing) => faultWords("too old", `This browser is too old for Earshot: it lacks ${missing.join(" and ")}`, null);
