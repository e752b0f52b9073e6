/** The figures of the line and the codec. */
import { any, show } from "./dom.js";

/** @param {number} value */
const one = (value) => value.toFixed(1);

/** Shows what the Worker told. @param {any} told */
export function showFigures(told) {
    show(any("up-codec"), one(told.up.codecKbps));
    show(any("up-wire"), one(told.up.wireKbps));
    show(any("down-codec"), one(told.down.codecKbps));
    show(any("down-wire"), one(told.down.wireKbps));
    show(any("round-trip"), `${one(told.roundTrip_ms)} ms`);
    const targets = told.speakers.map((/** @type {any} */ speaker) => speaker.target_ms);
    show(any("target"), targets.length ? `${Math.max(...targets).toFixed(0)} ms` : "–");
    show(any("queue"), `${told.output.depth_ms.toFixed(0)} ms, empty ${told.output.dry} ×`);
    const sum = (/** @type {string} */ name) => told.speakers.reduce((/** @type {number} */ all, /** @type {any} */ each) => all + each[name], 0);
    show(any("underruns"), String(sum("underruns")));
    show(any("lost"), `${sum("missing")} in, ${told.up.dropped + told.lost} out`);
    const { share, encode_ms, decode_ms } = told.codec, ms = (/** @type {number | null} */ value) => (value === null ? "–" : value.toFixed(2));
    show(any("share"), `${(100 * share).toFixed(0)} %`);
    show(any("steps"), `${ms(encode_ms)}, ${ms(decode_ms)} ms`);
}
