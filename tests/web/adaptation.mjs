// The page's adaptation beside that of the terminal: gets {most, rates, cases: [[[waiting_us, now_us, most or null]]]}, prints the
// amounts after each look.
import { readFileSync } from "node:fs";
import { Adaptation } from "../../web/core/adaptation.js";

const { most, rates, cases } = JSON.parse(readFileSync(0, "utf8")), amount = ([frames, kbps]) => ({ frames, kbps });
console.log(JSON.stringify(cases.map((looks) => {
    const adaptation = new Adaptation(amount(most), rates);
    return looks.map(([waiting_us, now_us, other]) => {
        if (other) adaptation.want(amount(other));
        const { frames, kbps } = adaptation.observe(waiting_us, now_us);
        return [frames, kbps, adaptation.lowered];
    });
})));
