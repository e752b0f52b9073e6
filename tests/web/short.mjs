// Golden bytes of short headers (tests/data/golden.json) through the page's links. Gets {links, malformed}: messages in their
// order, {hex, plain} each, up or down; prints what became of them.
import { readFileSync } from "node:fs";
import { ProtocolError, decodeDown } from "../../web/core/packet.js";
import { LinkReader, LinkWriter } from "../../web/core/short_headers.js";

const HOP = 320, { up, down, malformed } = JSON.parse(readFileSync(0, "utf8"));
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex")), hex = (message) => Buffer.from(message).toString("hex");
const plain = ({ packets, silences }) => ({ silences, packets: packets.map(({ codes, pcm, ...rest }) => ({ ...rest,
    codes: codes?.map((frame) => [...frame]), pcm: pcm && [...pcm] })) });
const refusal = (action) => {
    try {
        action();
        return null;
    } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        return error.message;
    }
};

const written = up.map((messages) => {
    const writer = new LinkWriter(HOP);
    return messages.map(({ plain: long }) => hex(writer.up(bytes(long))));
});
const read = down.map((messages) => {
    const reader = new LinkReader(HOP);
    return messages.map(({ hex: short, plain: long }) => ({ short: plain(reader.down(bytes(short).buffer)), long: plain(decodeDown(bytes(long).buffer)) }));
});
const refused = malformed.map((messages) => {
    const reader = new LinkReader(HOP);
    for (const before of messages.slice(0, -1)) reader.down(bytes(before).buffer);
    return refusal(() => reader.down(bytes(messages.at(-1)).buffer));
});
// What is cut off is refused and changes nothing: the whole message is read behind it.
let kept = 0;
for (const messages of down) {
    const reader = new LinkReader(HOP);
    for (const { hex: short } of messages) {
        for (let size = 0; size < short.length / 2; size++)
            if (refusal(() => new LinkReader(HOP).down(bytes(short.slice(0, 2 * size)).buffer)) !== null) refusal(() => reader.down(bytes(short.slice(0, 2 * size) + "ff").buffer));
        reader.down(bytes(short).buffer);
        kept++;
    }
}
// Whatever bytes change, nothing but a ProtocolError escapes.
let random = 1, survived = 0;
const next = (below) => (random = (random * 48271) % 2147483647) % below;
for (let i = 0; i < 20_000; i++) {
    const messages = down[next(down.length)], reader = new LinkReader(HOP);
    for (const { hex: short } of messages) {
        const changed = bytes(short);
        if (next(2)) changed[next(changed.length)] = next(256);
        survived += refusal(() => reader.down(changed.buffer)) === null ? 1 : 0;
    }
}
console.log(JSON.stringify({ written, read, refused, kept, survived }));
