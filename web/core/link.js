/**
 * Where a link leads: `/?room=ROOM#TOKEN`, as `earshot token` makes them, or `/#ROOM` on a server that
 * lets everyone in. Browsers send what stands behind a `#` to nobody.
 */

const ROOM = /^[A-Za-z0-9_-]{1,64}$/;

/** @param {string} room */
export const isRoom = (room) => ROOM.test(room);

/**
 * What a token lets its bearer do, as far as the page wants to know. The server alone decides.
 * @typedef {{name: string, speak: boolean, listen: boolean, room: string}} Claims
 */

/** Reads the claims of a token (RFC 7519). Returns null for what is none. @param {string} token @returns {Claims | null} */
export function claims(token) {
    try {
        const bytes = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
        const read = JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (letter) => letter.charCodeAt(0))));
        return { name: String(read.name ?? ""), speak: read.speak !== false, listen: read.listen !== false, room: String(read.room ?? "") };
    } catch {
        return null;
    }
}

/**
 * Reads the address of the page.
 * @param {string} href
 * @returns {{room: string, token: string | null}} `room` is "" where the address names none
 */
export function parseLink(href) {
    const url = new URL(href), named = url.searchParams.get("room");
    let behind = url.hash.slice(1);
    try {
        behind = decodeURIComponent(behind);
    } catch {
        // It is taken as it stands.
    }
    if (named !== null) return { room: isRoom(named) ? named : "", token: behind || null };
    return isRoom(behind) ? { room: behind, token: null } : { room: "", token: behind || null };
}

/** Returns the address of a room's WebSocket. @param {string} base address of the page @param {string} room */
export function roomUrl(base, room) {
    const url = new URL(`v1/rooms/${encodeURIComponent(room)}`, base);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    return url.href;
}

/** Returns the link to a room without a token. @param {string} base @param {string} room */
export const shareLink = (base, room) => new URL(`#${room}`, base).href;
