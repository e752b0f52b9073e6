// Golden bytes (tests/data/golden.json) through the page's packets. Gets {up, down, silences, malformed}, prints what it made of them.
import { readFileSync } from "node:fs";
import { ProtocolError, decodeDown, encodeCodesUp, encodePcmUp } from "../../web/core/packet.js";

const { up, down, silences, malformed } = JSON.parse(readFileSync(0, "utf8"));
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const buffer = (text) => Uint8Array.from(Buffer.from(text, "hex")).buffer;
const columns = (codes) => codes[0].map((_, frame) => Int16Array.from(codes, (row) => row[frame]));
const plain = ({ codes, pcm, ...rest }) => ({ ...rest,
    ...(codes ? { codes: Array.from(codes[0], (_, book) => codes.map((frame) => frame[book])) } : { samples: Array.from(pcm, (x) => x * 32768) }) });
const refused = (text) => {
    try {
        decodeDown(buffer(text));
        return false;
    } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        return true;
    }
};

const encoded = up.map(({ codes, samples, ...fields }) => hex(codes ? encodeCodesUp({ ...fields, codes: columns(codes) })
    : encodePcmUp({ ...fields, samples: Int16Array.from(samples) })));
const decoded = down.map((text) => decodeDown(buffer(text)).packets.map(plain));
const hushed = silences.map((text) => decodeDown(buffer(text)).silences.map((one) => ({ ...one, levels: hex(one.levels) })));
// Every prefix of a message is refused, and so is one with a byte more.
const cut = [...down, ...silences].flatMap((text) => [...Array(text.length / 2).keys()].map((size) => text.slice(0, 2 * size)).concat(text + "00"));
// Whatever bytes change, nothing but a ProtocolError escapes.
let random = 1, survived = 0;
const next = (below) => (random = (random * 48271) % 2147483647) % below;
for (let i = 0; i < 20_000; i++) {
    const bytes = Buffer.from(down[next(down.length)], "hex");
    for (let change = 0; change <= next(4); change++) bytes[next(bytes.length)] = next(256);
    survived += refused(bytes.toString("hex")) ? 0 : 1;
}
console.log(JSON.stringify({ encoded, decoded, hushed, cut: cut.filter((text) => !refused(text)), malformed: malformed.map(refused), survived }));
